"""What keeps the box: its services under one supervisor, their health, their end.

Standard library only but for ``status`` and ``measure``, which the box's own environment runs: the rest must work on a
machine where that environment is not made yet, or half removed.
"""
