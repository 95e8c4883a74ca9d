"""What holds for every test."""

from hypothesis import settings

# How long an example takes is no matter of right or wrong.
settings.register_profile("pfmoc", deadline=None)
settings.load_profile("pfmoc")
