"""Lets the deletion of a project end: its namespace waits for OpenShift's finalizer."""

from __future__ import annotations

from .cluster import Cluster, NotFoundError
from .controller import Controller
from .informer import Informer
from .resources import NAMESPACES

FINALIZER = "openshift.io/origin"


class ProjectFinalizer(Controller):
    """Takes the finalizer from namespaces that are being deleted; Kubernetes removes what they hold, routes and all."""

    def __init__(self, cluster: Cluster, namespaces: Informer) -> None:
        super().__init__()
        self._cluster = cluster
        self._namespaces = namespaces
        namespaces.listeners.append(lambda namespace: self.enqueue(namespace["metadata"]["name"]))

    def reconcile(self, key: str) -> None:
        """Finalize one namespace, if it is time."""
        namespace = self._namespaces.get(key)
        if namespace is None or "deletionTimestamp" not in namespace["metadata"]:
            return
        finalizers = namespace["spec"].get("finalizers") or []
        if FINALIZER not in finalizers:
            return
        # With its resource version: if somebody else was quicker, the watch brings what is now and us back here.
        rest = [finalizer for finalizer in finalizers if finalizer != FINALIZER]
        try:
            self._cluster.request("PUT", NAMESPACES.path(name=key, sub="finalize"), {**namespace, "spec": {"finalizers": rest}})
        except NotFoundError:
            return
