"""OpenShift's parts of the box beside its API server: preparation, controllers, the router's configuration, users."""
