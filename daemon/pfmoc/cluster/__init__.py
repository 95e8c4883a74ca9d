"""A small client of Kubernetes' API, and memory of what is in a cluster (decision 0011)."""
