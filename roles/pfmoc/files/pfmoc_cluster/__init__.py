"""The daemon as objects of a Kubernetes cluster: what they are, how they are applied, followed and taken back."""
