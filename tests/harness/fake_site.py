"""A site that is all fakes: an API server and a Swift that fail as they are told to, and daemons between them, as processes.

The test plays the Job controller and the kubelet: it says when a plugin runs (``begin``) and when it has ended (``finish``).
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fakes.api_server import ApiServer
from fakes.swift import Swift

from harness.daemon import PASSWORD, USER, Served, launched, serving
from harness.http import PLUGIN, Api, Reply
from harness.kube_objects import COMPLETE, LABELS, ended, pod, running
from harness.store_proxy import StoreProxy, proxied
from harness.waiting import eventually
from pfmoc.compute.kubernetes_facts import CONTROLLER_UID, JOB_NAME
from pfmoc.storage import layout

JOBS = "/apis/batch/v1/namespaces/x/jobs"
PODS = "/api/v1/namespaces/x/pods"
SECRETS = "/api/v1/namespaces/x/secrets"
MAPS = "/api/v1/namespaces/x/configmaps"
DEADLINE_S = 4.0
"""Seconds that the daemon gives the API server to answer."""
DIRS = {"input_dirs": ["home/bob/in"], "output_dir": "home/bob/out"}
TOKEN = "token-of-the-cluster-0123"
HIDDEN = {
    "SECRET_KEY": "the key that signs tokens, which is long",
    "SWIFT_KEY": Swift.key,
    "SWIFT_TEMPURL_KEY": "the key that signs temporary URLs",
}
"""What nobody may see, besides the token, the daemon's password and what is made of them."""


@dataclass(frozen=True, kw_only=True)
class FakeSite:
    """See the module."""

    home: Path
    server: ApiServer
    swift: Swift
    proxy: StoreProxy

    @property
    def variables(self) -> dict[str, object]:
        return {
            "APPLICATION_MODE": "production",
            "PFCON_USER": USER,
            "PFCON_PASSWORD": PASSWORD,
            "CONTAINER_ENV": "kubernetes",
            "STORAGE_ENV": "swift",
            "PFCON_INNETWORK": "true",
            "KUBECONFIG": self.home / "kubeconfig",
            "PFMOC_MOVER_IMAGE": "localhost/mover:1",
            "PFMOC_ENGINE_DEADLINE_S": DEADLINE_S,
            "SWIFT_AUTH_URL": f"{self.proxy.url}/auth/v1.0",
            "SWIFT_USERNAME": Swift.user,
            "SWIFT_CONTAINER_NAME": "data",
            **HIDDEN,
        }

    def serve(self) -> AbstractAsyncContextManager[Served]:
        """A daemon."""
        return serving(self.home / "daemon", **self.variables)

    def launch(self, program: Path, *words: str) -> AbstractAsyncContextManager[Served]:
        """A daemon in a program of the test's own."""
        return launched(self.home / "daemon", str(program), *words, module=False, **self.variables)

    def begin(self, jid: str = "j") -> None:
        """Let the plugin of a job run."""
        self.server.create(PODS, self._pod(jid, plugin=running(), phase="Running"))

    def finish(self, jid: str = "j") -> None:
        """Let a job end, which has published that it leaves nothing."""
        sums = dict.fromkeys(("index", "files", "bytes", "allocated", "dropped_links", "large", "parts", "published"), 0)
        self.swift.put(layout.head(layout.Places(jid).output()), layout.document({**sums, "root": f"{DIRS['output_dir']}/"}))
        self.server.create(PODS, self._pod(jid, plugin=ended(), publish=ended(), phase="Succeeded"))
        self.server.create(JOBS, {**self.server.things[JOBS][jid], "status": {"conditions": [COMPLETE]}})

    def _pod(self, jid: str, **more: Any) -> dict[str, Any]:
        uid = self.server.things[JOBS][jid]["metadata"]["uid"]
        return pod(f"{jid}-a", metadata={"labels": {**LABELS, JOB_NAME: jid, CONTROLLER_UID: uid}}, **more)

    def left(self) -> set[str]:
        """What there is of plugin jobs in the cluster."""
        records = {name for name in self.server.things.get(MAPS, {}) if name.startswith("pfmoc.plugin.")}
        return records | {name for path in (JOBS, SECRETS) for name in self.server.things.get(path, {})}


@asynccontextmanager
async def fake_site(home: Path) -> AsyncIterator[FakeSite]:
    """Make a site, with an input of one file."""
    async with ApiServer() as server, Swift() as swift, proxied(swift.url) as proxy:
        server.token = TOKEN
        server.create("/api/v1/namespaces", {"metadata": {"name": "x"}})
        swift.put("home/bob/in/a", b"1")
        config = {
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": "x"}}],
            "clusters": [{"name": "c", "cluster": {"server": server.access.server}}],
            "users": [{"name": "u", "user": {"token": TOKEN}}],
        }
        (home / "kubeconfig").write_text(json.dumps(config))
        yield FakeSite(home=home, server=server, swift=swift, proxy=proxy)


async def is_now(api: Api, path: str, status: str) -> bool:
    """True when a job is in that state."""
    reply = await api.get(path)
    return reply.status == 200 and bool(reply.json()["compute"]["status"] == status)


async def copied(api: Api, jid: str = "j") -> None:
    """Copy the input of a job."""
    (await api.post("copyjobs/", {"jid": jid, **DIRS})).expect(201)
    await eventually(lambda: is_now(api, f"copyjobs/{jid}/", "finishedSuccessfully"), what="the copy")


async def submitted(api: Api, jid: str = "j") -> Reply:
    """Ask for the plugin of a job."""
    return await api.post("pluginjobs/", {**PLUGIN, "jid": jid, **DIRS})


async def at_work(api: Api, site: FakeSite, jid: str = "j") -> None:
    """Bring a job to where its plugin runs."""
    await copied(api, jid)
    (await submitted(api, jid)).expect(201)
    site.begin(jid)
    await eventually(lambda: is_now(api, f"pluginjobs/{jid}/", "started"), what="the plugin to run")
