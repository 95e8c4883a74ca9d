"""A site in the box: a tenant with a container, a namespace, and daemons on the host that run their jobs as pods there."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openstack.exceptions import ConflictException

from harness.box import Box
from harness.cluster import BUSYBOX, Cluster
from harness.daemon import Served, serving
from harness.http import PLUGIN, Api
from harness.stores import content_of, fill, identity_of, swift_store
from harness.tenants import REGION, Tenant, administrator, tenant
from harness.waiting import eventually
from pfmoc.objects.swift import SwiftStore

CONTAINER = "data"
MOVER = "localhost/chris/pfmoc:latest"
TREE = {"a.txt": b"a" * 1000, "sub/\u00fc \u65e5.bin": bytes(range(256))}
"""An input."""
ONCE = 'cp -r "$1"/. "$2"/; touch "$2/run-$(cat /proc/sys/kernel/random/uuid)"'
"""A plugin that leaves one more file each time that it runs."""
PATIENCE_S = 150.0
"""Seconds that a job of a second may take on a busy machine."""


@dataclass(frozen=True, kw_only=True)
class PodSite:
    """See the module."""

    box: Box
    cluster: Cluster
    namespace: str
    tenant: Tenant
    credential: Any

    @property
    def variables(self) -> dict[str, str]:
        """What a daemon of this site has in its environment."""
        return {
            "CONTAINER_ENV": "kubernetes",
            "STORAGE_ENV": "swift",
            "PFCON_INNETWORK": "true",
            "KUBECONFIG": str(self.box.kubeconfig),
            "JOB_NAMESPACE": self.namespace,
            "PFMOC_MOVER_IMAGE": MOVER,
            "PFMOC_JOB_EPHEMERAL_MIB": "64",
            "PFMOC_DIALECTS": "pfcon6,pfcon5",
            "OS_AUTH_URL": f"http://127.0.0.1:{self.box.port(0)}/v3",
            "OS_APPLICATION_CREDENTIAL_ID": self.credential.id,
            "OS_APPLICATION_CREDENTIAL_SECRET": self.credential.secret,
            "OS_REGION_NAME": REGION,
            "PFMOC_POD_OS_INTERFACE": "internal",
            "SWIFT_CONTAINER_NAME": CONTAINER,
            "SECRET_KEY": "a secret of these tests, long enough",
        }

    def serve(self, home: Path, **more: object) -> AbstractAsyncContextManager[Served]:
        """A daemon as a process."""
        return serving(home, **{**self.variables, **more})

    @asynccontextmanager
    async def store(self) -> AsyncIterator[SwiftStore]:
        """The container, as the tenant."""
        async with swift_store(identity_of(self.box, self.tenant), CONTAINER) as made:
            yield made

    def kept(self, *, of: str = "") -> set[str]:
        """What the namespace holds of jobs: pods, Jobs, Secrets and records; not the signs of life of daemons.

        :param of: only what has this in its name
        """
        core, batch = self.cluster.core, self.cluster.batch
        names = {f"pod {each.metadata.name}" for each in core.list_namespaced_pod(self.namespace).items}
        names |= {f"job {each.metadata.name}" for each in batch.list_namespaced_job(self.namespace).items}
        names |= {f"secret {each.metadata.name}" for each in core.list_namespaced_secret(self.namespace).items}
        maps = core.list_namespaced_config_map(self.namespace, label_selector="app.kubernetes.io/managed-by=pfmoc").items
        names |= {f"record {each.metadata.name}" for each in maps if not each.metadata.name.startswith("pfmoc.replica.")}
        return {name for name in names if of in name}


@contextmanager
def pod_site(box: Box, cluster: Cluster) -> Iterator[PodSite]:
    """Make a site; it is gone afterwards."""
    with administrator(box) as admin, tenant(box, admin, "c-pods") as made, cluster.namespace() as namespace:
        made.swift.put_container(CONTAINER)
        credential = _credential(made)
        yield PodSite(box=box, cluster=cluster, namespace=namespace, tenant=made, credential=credential)


def _credential(made: Tenant) -> Any:
    for last in (False, False, True):
        try:
            return made.cloud.identity.create_application_credential(made.user_id, f"c-{secrets.token_hex(3)}")
        except ConflictException:
            # The client asked a slow Keystone twice: the first one was made, and its secret is lost.
            if last:
                raise
    raise AssertionError("the last attempt returns or raises")


def inputs_of(jid: str) -> dict[str, Any]:
    """The two directories of a job, as CUBE names them."""
    return {"input_dirs": [f"home/{jid}/in"], "output_dir": f"home/{jid}/out/data"}


def plugin(jid: str, script: str) -> dict[str, Any]:
    """A plugin job that is a shell script; $1 is its input, $2 its output."""
    return {
        **PLUGIN,
        "jid": jid,
        "image": BUSYBOX,
        "entrypoint": ["sh", "-c", script, "sh"],
        "args": [],
        "cpu_limit": 50,
        "memory_limit": 32,
        **inputs_of(jid),
    }


async def planted(store: SwiftStore, jid: str, tree: dict[str, bytes]) -> None:
    """Put a job's input into the container."""
    await fill(store, {f"home/{jid}/in/{name}": content for name, content in tree.items()})


async def outputs(store: SwiftStore, jid: str) -> dict[str, bytes]:
    """What a job has left in its output directory."""
    return await content_of(store, f"home/{jid}/out/data/")


async def ended(api: Api, kind: str, jid: str, *, deadline_s: float = PATIENCE_S) -> dict[str, Any]:
    """Wait for a job's end; a daemon that is not there, or has not heard of it yet, is waited for too."""

    async def over() -> dict[str, Any] | None:
        reply = await api.get(f"{kind}jobs/{jid}/")
        compute: dict[str, Any] = reply.json()["compute"] if reply.status == 200 else {}
        return compute if compute.get("status", "").startswith(("finished", "undefined")) else None

    return await eventually(over, what=f"the end of {kind} job {jid}", deadline_s=deadline_s)
