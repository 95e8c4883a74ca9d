"""What the box runs and the Pulumi program needs, made from package registries only and kept in a cache.

One noun, one module: ``pins`` says what is made, ``versions`` what is good enough, ``machine`` what is there already,
``golang`` and ``debian`` how things are made, ``kubernetes``, ``pulumi`` and ``runtime`` what is special about each
product, ``cache`` where they lie, ``progress`` what a person sees meanwhile. Standard library only.
"""
