"""The kinds of objects that the controllers deal with."""

from __future__ import annotations

from .cluster import Resource

API_SERVICES = Resource("apiregistration.k8s.io", "v1", "apiservices")
NAMESPACES = Resource("", "v1", "namespaces")
NODES = Resource("", "v1", "nodes")
SERVICES = Resource("", "v1", "services")
ENDPOINT_SLICES = Resource("discovery.k8s.io", "v1", "endpointslices")
CLUSTER_ROLES = Resource("rbac.authorization.k8s.io", "v1", "clusterroles")
CLUSTER_ROLE_BINDINGS = Resource("rbac.authorization.k8s.io", "v1", "clusterrolebindings")
ROLE_BINDINGS = Resource("rbac.authorization.k8s.io", "v1", "rolebindings")
ROUTES = Resource("route.openshift.io", "v1", "routes")
MACHINES = Resource("machine.openshift.io", "v1beta1", "machines")
MACHINE_SETS = Resource("machine.openshift.io", "v1beta1", "machinesets")
