"""What OpenShift allows the service accounts of each namespace by default."""

from __future__ import annotations

from .cluster import Cluster
from .controller import Controller
from .informer import Informer
from .project_rights import GROUP
from .resources import ROLE_BINDINGS


class DefaultBindings(Controller):
    """Gives the service accounts of each namespace what OpenShift gives them by default."""

    # The binding, the role, and who: all accounts of the namespace, or one.
    BINDINGS = (
        ("system:image-pullers", "system:image-puller", ""),
        ("system:image-builders", "system:image-builder", "builder"),
        ("system:deployers", "system:deployer", "deployer"),
    )

    def __init__(self, cluster: Cluster, namespaces: Informer, bindings: Informer) -> None:
        super().__init__()
        self._cluster = cluster
        self._namespaces = namespaces
        self._bindings = bindings
        namespaces.listeners.append(lambda namespace: self.enqueue(namespace["metadata"]["name"]))
        bindings.listeners.append(lambda binding: self.enqueue(binding["metadata"]["namespace"]))

    def reconcile(self, key: str) -> None:
        """Create the bindings that are not there."""
        namespace = self._namespaces.get(key)
        if namespace is None or "deletionTimestamp" in namespace["metadata"]:
            return
        for name, role, account in self.BINDINGS:
            if self._bindings.get(f"{key}/{name}") is not None:
                continue
            who = (
                {"kind": "ServiceAccount", "name": account, "namespace": key}
                if account
                else {"apiGroup": GROUP, "kind": "Group", "name": f"system:serviceaccounts:{key}"}
            )
            binding = {
                "apiVersion": f"{GROUP}/v1",
                "kind": "RoleBinding",
                "metadata": {"name": name},
                "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": role},
                "subjects": [who],
            }
            self._cluster.apply(ROLE_BINDINGS.path(key, name), binding, "openshift-controllers")
