"""What Ansible learns of what Pulumi made: an inventory, and nothing else passes between the two.

The stack's output ``inventory`` is the document, plain; ``secrets`` are variables that are secret, for a file that only its
owner may read. Not managed here: the site's own variables, which Ansible reads from the site file itself.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pulumi
import yaml

from infra.daemon import NAME, DaemonPrerequisites
from infra.node_pool import NodePool
from infra.openshift_project import OpenShiftProject
from infra.spec import Site, names
from infra.tenant import Tenant

INVENTORY = "pulumi.yml"
SECRETS = "pulumi-secrets.yml"


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """What was made, by name."""

    site: Site
    tenants: Mapping[str, Tenant]
    projects: Mapping[str, OpenShiftProject]
    pools: Mapping[str, NodePool]
    daemon: DaemonPrerequisites | None
    cluster: pulumi.Output[str] | None = None
    """What tells the OpenShift cluster from others."""

    def outputs(self) -> dict[str, pulumi.Input[Any]]:
        """The stack's outputs."""
        return {"inventory": self._inventory(), "secrets": pulumi.Output.secret(self._secrets()), "identity": self._identity()}

    def _inventory(self) -> dict[str, Any]:
        children = {
            names.ansible_group(pool.name): {
                "hosts": {
                    host: {"ansible_host": address} if address else {} for host, address in self._hosts(pool.name, pool.nodes)
                },
                "vars": {
                    "node_pool_name": pool.name,
                    "node_pool_arch": pool.arch,
                    "node_pool_labels": pool.all_labels,
                    "node_pool_gpu": pool.gpu.model_dump() if pool.gpu else None,
                },
            }
            for pool in self.site.node_pools
            if pool.source != "machineset"
        }
        variables: dict[str, Any] = {
            "pfmoc_projects": {name: project.name for name, project in self.projects.items()},
            "pfmoc_openstack_projects": {name: tenant.project_id for name, tenant in self.tenants.items()},
        }
        project = self.projects.get(self.site.daemon.tenant or "")
        if self.daemon and project:
            variables["pfmoc_namespace"] = project.name
            variables["pfmoc_service_account"] = NAME
        return {"all": {"vars": variables, "children": {"node_pool": {"children": children}}}}

    def _hosts(self, pool: str, nodes: tuple[str, ...]) -> list[tuple[str, pulumi.Output[str] | None]]:
        servers: list[tuple[str, pulumi.Output[str] | None]] = list(self.pools[pool].addresses.items())
        return servers or [(node, None) for node in nodes]

    def _secrets(self) -> dict[str, Any]:
        passwords = {f"{name}/{user}": word for name, tenant in self.tenants.items() for user, word in tenant.passwords.items()}
        daemon = {**self.daemon.settings, **self.daemon.storage} if self.daemon else {}
        return {"pfmoc_user_passwords": passwords, "pfmoc_secret_settings": daemon}

    def _identity(self) -> dict[str, Any]:
        """Ids by which a later run knows that it speaks to the same clouds."""
        return {"projects": {name: tenant.project_id for name, tenant in self.tenants.items()}, "cluster": self.cluster}


def write(outputs: Mapping[str, Any], directory: Path) -> list[Path]:
    """Write the inventory and the secrets, each whole or not at all.

    :param outputs: the stack's outputs, plain
    :param directory: where to; made if need be
    :returns: the files
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    head = "---\n# Made from the outputs of the Pulumi stack; changes are overwritten.\n"
    files = []
    for name, mode, document in (
        (INVENTORY, 0o644, outputs["inventory"]),
        (SECRETS, 0o600, {"all": {"vars": outputs["secrets"]}}),
    ):
        path = directory / name
        partial = path.with_name(f".{name}.{os.getpid()}")
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w") as stream:
            stream.write(head + yaml.safe_dump(document, sort_keys=True))
        partial.replace(path)
        files.append(path)
    return files
