"""Rights on Project objects for those who have a role in the project.

OpenShift's own kube-apiserver takes a Project for a part of its namespace when it checks rights, as any kube-apiserver
does for a Namespace. Kubernetes' does not, so that a role in the namespace gives none on the Project. Here each project
has a cluster role and binding for those who may administer it and for those who may see it.
"""

from __future__ import annotations

from .cluster import Cluster, NotFoundError, Object, Resource
from .controller import Controller
from .informer import Informer
from .resources import CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES

GROUP = "rbac.authorization.k8s.io"
# The rights on its Project that a role in a namespace gives in OpenShift, by the name of ours.
VERBS = {"admin": ["get", "update", "patch", "delete"], "viewer": ["get"]}
LEVELS = {"admin": "admin", "cluster-admin": "admin", "edit": "viewer", "view": "viewer"}


def subjects(bindings: list[Object], level: str) -> list[Object]:
    """Whom the role bindings of one namespace give a level, each once, in a steady order."""
    found = {}
    for binding in bindings:
        role = binding["roleRef"]
        if role["kind"] != "ClusterRole" or LEVELS.get(role["name"]) != level:
            continue
        for subject in binding.get("subjects") or []:
            account = {"namespace": subject.get("namespace") or binding["metadata"]["namespace"]}
            who = {"kind": subject["kind"], "name": subject["name"]}
            who |= account if subject["kind"] == "ServiceAccount" else {"apiGroup": GROUP}
            found[tuple(sorted(who.items()))] = who
    return [found[key] for key in sorted(found)]


class ProjectRights(Controller):
    """Keeps the cluster roles and bindings of each project; they go when the namespace goes."""

    def __init__(self, cluster: Cluster, namespaces: Informer, bindings: Informer, ours: Informer) -> None:
        super().__init__()
        self._cluster = cluster
        self._namespaces = namespaces
        self._bindings = bindings
        self._ours = ours
        namespaces.listeners.append(lambda namespace: self.enqueue(namespace["metadata"]["name"]))
        bindings.listeners.append(lambda binding: self.enqueue(binding["metadata"]["namespace"]))
        ours.listeners.append(self._changed)

    def _changed(self, binding: Object) -> None:
        """Somebody changed one of ours, or the last project of this name took it along."""
        prefix, _, project = binding["metadata"]["name"].rpartition(":")[0].partition(":")
        if prefix == "project":
            self.enqueue(project)

    def reconcile(self, key: str) -> None:
        """Bring the rights on one project up to date."""
        namespace = self._namespaces.get(key)
        if namespace is None or "deletionTimestamp" in namespace["metadata"]:
            return
        bindings = [binding for binding in self._bindings.all() if binding["metadata"]["namespace"] == key]
        for level in VERBS:
            self._grant(namespace, level, subjects(bindings, level))

    def _grant(self, namespace: Object, level: str, wanted: list[Object]) -> None:
        project = namespace["metadata"]["name"]
        name = f"project:{project}:{level}"
        existing = self._ours.get(name)
        if existing is None and not wanted:
            return
        owner = {"apiVersion": "v1", "kind": "Namespace", "name": project, "uid": namespace["metadata"]["uid"]}
        metadata = {"name": name, "ownerReferences": [owner]}
        before = existing or {"metadata": {}}
        if before["metadata"].get("ownerReferences") == [owner] and (before.get("subjects") or []) == wanted:
            return
        rule = {"apiGroups": ["project.openshift.io"], "resources": ["projects"], "resourceNames": [project]}
        self._put(CLUSTER_ROLES, "ClusterRole", {"metadata": metadata, "rules": [{**rule, "verbs": VERBS[level]}]})
        reference = {"apiGroup": GROUP, "kind": "ClusterRole", "name": name}
        self._put(CLUSTER_ROLE_BINDINGS, "ClusterRoleBinding", {"metadata": metadata, "roleRef": reference, "subjects": wanted})

    def _put(self, resource: Resource, kind: str, body: Object) -> None:
        document = {"apiVersion": f"{GROUP}/v1", "kind": kind, **body}
        try:
            self._cluster.apply(resource.path(name=body["metadata"]["name"]), document, "openshift-controllers")
        except NotFoundError:
            return
