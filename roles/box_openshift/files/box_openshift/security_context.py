"""The security context constraints that every OpenShift has, for programs that look for them or name them.

Nothing enforces them here: they are objects, not gates.
"""

from __future__ import annotations

from typing import Any

from .cluster import Object

VOLUMES = ["configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"]
HOST = ("allowHostDirVolumePlugin", "allowHostIPC", "allowHostNetwork", "allowHostPID", "allowHostPorts")
FIRST = {"requiredDropCapabilities": ["KILL", "MKNOD", "SETUID", "SETGID"], "allowPrivilegeEscalation": True}
# The second generation: no capabilities, no privilege escalation, the runtime's seccomp profile.
SECOND = {
    "requiredDropCapabilities": ["ALL"],
    "allowPrivilegeEscalation": False,
    "allowedCapabilities": ["NET_BIND_SERVICE"],
    "seccompProfiles": ["runtime/default"],
}
ANY_UID = {"runAsUser": "RunAsAny", "fsGroup": "RunAsAny", "requiredDropCapabilities": ["MKNOD"]}
NETWORK = {"allowHostNetwork": True, "allowHostPorts": True, "supplementalGroups": "MustRunAs"}

# What each has beyond ``restricted``.
CONSTRAINTS: dict[str, dict[str, Any]] = {
    "restricted": FIRST,
    "restricted-v2": SECOND,
    "nonroot": {**FIRST, "runAsUser": "MustRunAsNonRoot", "fsGroup": "RunAsAny"},
    "nonroot-v2": {**SECOND, "runAsUser": "MustRunAsNonRoot", "fsGroup": "RunAsAny"},
    "anyuid": {**FIRST, **ANY_UID, "priority": 10, "groups": ["system:cluster-admins"]},
    "hostaccess": {**FIRST, **dict.fromkeys(HOST, True), "volumes": sorted([*VOLUMES, "hostPath"])},
    "hostmount-anyuid": {
        **FIRST,
        **ANY_UID,
        "allowHostDirVolumePlugin": True,
        "users": ["system:serviceaccount:openshift-infra:pv-recycler-controller"],
        "volumes": sorted([*VOLUMES, "hostPath", "nfs"]),
    },
    "hostnetwork": {**FIRST, **NETWORK},
    "hostnetwork-v2": {**SECOND, **NETWORK},
    "privileged": {
        **dict.fromkeys((*HOST, "allowPrivilegedContainer", "allowPrivilegeEscalation"), True),
        **{key: ["*"] for key in ("allowedCapabilities", "allowedUnsafeSysctls", "seccompProfiles", "volumes")},
        **dict.fromkeys(("runAsUser", "seLinuxContext", "fsGroup", "supplementalGroups"), "RunAsAny"),
        "groups": ["system:cluster-admins", "system:nodes", "system:masters"],
        "users": ["system:admin", "system:serviceaccount:openshift-infra:build-controller"],
    },
}


def constraints() -> list[Object]:
    """The objects."""
    return [_constraint(name, more) for name, more in CONSTRAINTS.items()]


def _constraint(name: str, more: dict[str, Any]) -> Object:
    base = {
        **dict.fromkeys((*HOST, "allowPrivilegedContainer", "readOnlyRootFilesystem"), False),
        **dict.fromkeys(("allowedCapabilities", "defaultAddCapabilities", "priority", "requiredDropCapabilities")),
        "fsGroup": "MustRunAs",
        "groups": [],
        "runAsUser": "MustRunAsRange",
        "seLinuxContext": "MustRunAs",
        "supplementalGroups": "RunAsAny",
        "users": [],
        "volumes": VOLUMES,
    }
    merged = base | more
    strategies = {key: {"type": merged[key]} for key in ("fsGroup", "runAsUser", "seLinuxContext", "supplementalGroups")}
    head = {"apiVersion": "security.openshift.io/v1", "kind": "SecurityContextConstraints", "metadata": {"name": name}}
    return {**head, **merged, **strategies}


def roles() -> list[Object]:
    """A cluster role for the use of each, by which projects grant them, and the binding that all users have."""
    group = "rbac.authorization.k8s.io"
    found: list[Object] = [
        {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRole",
            "metadata": {"name": f"system:openshift:scc:{name}"},
            "rules": [
                {
                    "apiGroups": ["security.openshift.io"],
                    "resources": ["securitycontextconstraints"],
                    "resourceNames": [name],
                    "verbs": ["use"],
                }
            ],
        }
        for name in CONSTRAINTS
    ]
    default = {"apiGroup": group, "kind": "ClusterRole", "name": "system:openshift:scc:restricted-v2"}
    found.append(
        {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "system:openshift:scc:restricted-v2"},
            "roleRef": default,
            "subjects": [{"apiGroup": group, "kind": "Group", "name": "system:authenticated"}],
        }
    )
    return found
