"""Run a tree of ChRIS plugins through a pfcon API, with python-pfconclient, as a researcher's own script would."""
