"""Metadata of the Kubernetes objects that the program makes."""

from __future__ import annotations

from collections.abc import Mapping

import pulumi
import pulumi_kubernetes as kubernetes

MANAGED = {"app.kubernetes.io/managed-by": "pfmoc"}
FORCE = {"pulumi.com/patchForce": "true"}
"""What a person changed by hand is theirs to server-side apply, and an apply without force ends in a conflict. The site file has
the last word on the fields that it sets."""


def metadata(
    name: pulumi.Input[str],
    *,
    namespace: pulumi.Input[str] | None = None,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
) -> kubernetes.meta.v1.ObjectMetaArgs:
    """Metadata of an object, with the mark of what manages it."""
    return kubernetes.meta.v1.ObjectMetaArgs(
        name=name, namespace=namespace, labels={**MANAGED, **(labels or {})}, annotations={**FORCE, **(annotations or {})}
    )
