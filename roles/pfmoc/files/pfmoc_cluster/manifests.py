"""The daemon's objects: ConfigMap, Service, NetworkPolicy, PodDisruptionBudget, Deployment.

Not made here: ServiceAccount, Role, RoleBinding, Secrets and Route, which have the tenant's lifetime and are Pulumi's
(infra/daemon.py).
"""

from __future__ import annotations

from typing import Any

from .specification import NAME, Specification

Object = dict[str, Any]

SELECTOR = {"app.kubernetes.io/name": NAME, "app.kubernetes.io/component": "daemon"}
LABELS = SELECTOR | {"app.kubernetes.io/managed-by": "ansible", "app.kubernetes.io/part-of": "chris-on-moc"}
SECRETS_ANNOTATION = "pfmoc.chrisproject.org/secrets"
"""Versions of the Secrets that the pods were started with: other secrets, other pods."""

SETTLE_S = 5
"""Seconds between a pod's being taken from the Service and its being told to end, in which routers learn of it."""
DRAIN_S = 30
"""Seconds that the daemon lets requests finish."""


def all_objects(spec: Specification, *, secrets: str = "") -> list[Object]:
    """All of them, in the order in which they are applied.

    :param secrets: the Secrets' versions
    """
    return [settings(spec), service(spec), network_policy(spec), disruption_budget(spec), deployment(spec, secrets=secrets)]


def settings(spec: Specification) -> Object:
    """What the daemon is told; immutable where each change of it has a name of its own."""
    found = _object("v1", "ConfigMap", spec, name=spec.settings_name)
    return found | ({"immutable": True} if spec.revisions else {}) | {"data": spec.all_settings}


def service(spec: Specification) -> Object:
    """The address to which the Route leads; its port is called ``http`` there."""
    ports = [{"name": "http", "port": spec.port, "targetPort": "http", "protocol": "TCP"}]
    return _object("v1", "Service", spec) | {"spec": {"type": "ClusterIP", "selector": SELECTOR, "ports": ports}}


def network_policy(spec: Specification) -> Object:
    """Only the router may connect to the daemon: plugins have no business there."""
    source = {"namespaceSelector": {"matchLabels": dict(spec.router_labels)}}
    ingress = [{"from": [source], "ports": [{"port": "http", "protocol": "TCP"}]}]
    return _object("networking.k8s.io/v1", "NetworkPolicy", spec) | {
        "spec": {"podSelector": {"matchLabels": SELECTOR}, "policyTypes": ["Ingress"], "ingress": ingress}
    }


def disruption_budget(spec: Specification) -> Object:
    """Nodes are drained one pod at a time, and a pod that does not work anyway is in nobody's way.

    The only pod may go, too: for a minute nobody is served, and a node that is to be drained is not held for ever.
    """
    return _object("policy/v1", "PodDisruptionBudget", spec) | {
        "spec": {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": SELECTOR},
        }
    }


def deployment(spec: Specification, *, secrets: str = "") -> Object:
    """The pods. A new one is ready before an old one goes, so that no request is refused.

    But where they cannot both have the volume, the new one would wait for the old one, and that for the new one.
    """
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    return _object("apps/v1", "Deployment", spec) | {
        "spec": {
            "replicas": spec.pods,
            "revisionHistoryLimit": 5,
            "progressDeadlineSeconds": 300,
            "strategy": {"type": "Recreate"} if spec.alone else rolling,
            "selector": {"matchLabels": SELECTOR},
            "template": {
                "metadata": {"labels": LABELS, "annotations": {SECRETS_ANNOTATION: secrets}},
                "spec": _pod(spec),
            },
        }
    }


def _pod(spec: Specification) -> Object:
    # Anywhere if it must be, but not all on one node.
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": SELECTOR},
    }
    pod: Object = {
        "serviceAccountName": spec.service_account,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": SETTLE_S + DRAIN_S + 10,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "topologySpreadConstraints": [spread],
        "containers": [_container(spec)],
        "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": f"{spec.ephemeral_mib}Mi"}}],
    }
    if spec.claim:
        pod["volumes"].append({"name": "storebase", "persistentVolumeClaim": {"claimName": spec.claim}})
    if spec.architectures:
        expression = {"key": "kubernetes.io/arch", "operator": "In", "values": list(spec.architectures)}
        terms = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
        pod["affinity"] = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    return pod


def _container(spec: Specification) -> Object:
    mounts = [{"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108 - the pod's own
    if spec.claim:
        mounts.append({"name": "storebase", "mountPath": spec.all_settings["STOREBASE_MOUNT"]})
    return {
        "name": NAME,
        "image": spec.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-m", "pfmoc", "serve"],
        "ports": [{"name": "http", "containerPort": spec.port, "protocol": "TCP"}],
        # The later goes before the earlier: a site says how its pods reach Keystone, whatever the operator's own way is.
        "envFrom": [
            *({"secretRef": {"name": name}} for name in spec.secrets),
            {"configMapRef": {"name": spec.settings_name}},
        ],
        "resources": {
            "requests": {
                "cpu": f"{max(spec.cpu_m // 5, 10)}m",
                "memory": f"{spec.memory_mib // 2}Mi",
                "ephemeral-storage": "128Mi",
            },
            "limits": {
                "cpu": f"{spec.cpu_m}m",
                "memory": f"{spec.memory_mib}Mi",
                # What /tmp may hold, and the log.
                "ephemeral-storage": f"{spec.ephemeral_mib + 256}Mi",
            },
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": mounts,
        "startupProbe": _probe("/livez", period_s=1, failures=120),
        "livenessProbe": _probe("/livez", period_s=10, failures=6),
        # All pods depend on the same store and API server: when these are slow, answers from here still tell what is known, and
        # a Service without pods would tell nothing. So a minute of it, and no less.
        "readinessProbe": _probe("/readyz", period_s=5, failures=12),
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", str(SETTLE_S)]}}},
    }


def _probe(path: str, *, period_s: int, failures: int) -> Object:
    return {
        "httpGet": {"path": path, "port": "http", "scheme": "HTTP"},
        "periodSeconds": period_s,
        # The daemon gives its own questions 5 s.
        "timeoutSeconds": 6,
        "failureThreshold": failures,
    }


def _object(version: str, kind: str, spec: Specification, name: str = NAME) -> Object:
    metadata = {"name": name, "namespace": spec.namespace, "labels": LABELS}
    return {"apiVersion": version, "kind": kind, "metadata": metadata}
