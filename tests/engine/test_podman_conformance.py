from harness.conformance import *  # noqa: F403 - its tests, run here
