"""The wire: one module per generation of the API, each translating to and from jobs."""
