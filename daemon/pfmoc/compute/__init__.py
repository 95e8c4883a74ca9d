"""Compute environments: where plugins run."""
