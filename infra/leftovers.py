"""What stays when everything is destroyed, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from infra.guards import PROJECT

NETWORK = "openstack:networking/"


def leftovers(before: Iterable[Mapping[str, Any]], *, files: Iterable[Path], after: int, strays: Iterable[str] = ()) -> list[str]:
    """Say what stays, a sentence for each kind.

    :param before: the state's resources before they were destroyed
    :param files: files of the site on this machine
    :param after: how many resources the state still has
    :param strays: what tenants have made themselves, a sentence each
    """
    resources = list(before)
    projects = [str(each["id"]) for each in resources if each.get("type") == PROJECT and each.get("id")]
    found = []
    if after:
        found.append(f"{after} resources in the state, which could not be deleted")
    if projects:
        found.append(f"Swift's accounts of {', '.join(projects)}: Keystone does not tell Swift that a project is gone")
    if projects and any(str(each.get("type", "")).startswith(NETWORK) for each in resources):
        found.append(f"Neutron's security groups `default` of {', '.join(projects)}, which Neutron makes and keeps itself")
    found += strays
    found += [f"{file} on this machine" for file in files if file.exists()]
    return found
