"""``coordinate`` of pfcon 2: one request that brings data, runs a job, and takes its output where the client wants it."""
