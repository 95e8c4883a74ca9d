"""Events as the engine writes them, made up."""

from __future__ import annotations

from typing import Any

STACK = "urn:pulumi:small::pfmoc::"


def urn(kind: str, name: str) -> str:
    return f"{STACK}pfmoc:infra:Thing${kind}::{name}"


def step(op: str, kind: str, name: str, *, old=None, new=None, fields=(), id_="", outputs=None) -> dict[str, Any]:
    """What the engine tells before it does something; ``old`` and ``new`` are inputs."""

    def state(inputs, more):
        return None if inputs is None else {"id": id_, "inputs": inputs, "outputs": more or {}}

    return {
        "resourcePreEvent": {
            "metadata": {
                "op": op,
                "urn": urn(kind, name),
                "old": state(old, outputs or old),
                "new": state(new, None),
                "detailedDiff": {field: {"kind": "update", "inputDiff": False} for field in fields} or None,
            }
        }
    }


def looked(kind: str, name: str, *, before, now) -> dict[str, Any]:
    """What the engine tells after a look at a cloud; ``before`` and ``now`` are outputs."""
    return {
        "resOutputsEvent": {
            "planning": True,
            "metadata": {
                "op": "refresh",
                "urn": urn(kind, name),
                "old": {"id": "x", "inputs": {}, "outputs": before},
                "new": None if now is None else {"id": "x", "inputs": {}, "outputs": now},
            },
        }
    }


def said(severity: str, message: str, about: str = "") -> dict[str, Any]:
    """What the engine says beside."""
    return {"diagnosticEvent": {"severity": severity, "message": message, "urn": about}}
