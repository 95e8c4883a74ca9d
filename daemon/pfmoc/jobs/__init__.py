"""The domain: jobs, their lifecycle and their records. Knows no HTTP."""
