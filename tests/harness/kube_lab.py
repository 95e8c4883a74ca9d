"""Runs for the compute environment ``kubernetes`` in the box, with movers that only pretend: busybox, and no store."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from harness.cluster import BUSYBOX
from harness.waiting import eventually
from pfmoc.compute.base import Limits, Observation, Run
from pfmoc.compute.kubernetes import KubernetesCompute
from pfmoc.data import Data, Tickets
from pfmoc.errors import ComputeUnavailable
from pfmoc.settings import Settings, load

SECRETS = ("ticket-to-read", "ticket-to-write", "token-of-the-user")
"""What must be in a Secret, and nowhere else."""

_PULL = (
    "cp /run/pfmoc/ticket/pull.json /share/incoming/in || exit 1; grep -q fail /share/incoming/in && {failed};"
    ' if grep -q slow /share/incoming/in; then sleep "$(tr -dc 0-9 < /share/incoming/in)"; fi'
)
_PUBLISH = (
    'publish() {{ out="$(cd /share/outgoing && ls)"; case "$out" in *fail*) {failed};;'
    ' *slow*) sleep "$(cat /share/outgoing/slow)";; esac;'
    ' echo \'{{"phase": "publish", "error": null}}\' > /dev/termination-log; exit 0; }};'
    " trap publish TERM; echo waits > /dev/termination-log; while :; do sleep 0.1; done"
)
_FAILED = '{{ echo \'{{"phase": "{phase}", "error": "the store says no"}}\' > /dev/termination-log; exit 1; }}'
MOVER = {
    "pull": ("sh", "-c", _PULL.format(failed=_FAILED.format(phase="pull"))),
    "publish": ("sh", "-c", _PUBLISH.format(failed=_FAILED.format(phase="publish"))),
}
"""``pull`` fails, or takes 9 seconds, when its ticket says ``fail`` or ``slow-9``; ``publish`` fails when there is an output of
that name, and takes as many seconds as an output named ``slow`` holds."""


def settings_for(kubeconfig: Path, namespace: str, **more: str) -> Settings:
    """Settings as a site has them; nothing answers where they say that Swift is."""
    return load(
        {
            "APPLICATION_MODE": "development",
            "CONTAINER_ENV": "kubernetes",
            "PFCON_INNETWORK": "true",
            "STORAGE_ENV": "swift",
            "KUBECONFIG": str(kubeconfig),
            "JOB_NAMESPACE": namespace,
            "PFMOC_MOVER_IMAGE": BUSYBOX,
            "PFMOC_JOB_EPHEMERAL_MIB": "32",
            "OS_AUTH_URL": "http://127.0.0.1:9/v3",
            "OS_APPLICATION_CREDENTIAL_ID": "id",
            "OS_APPLICATION_CREDENTIAL_SECRET": "secret",
            "SWIFT_TEMPURL_KEY": "key",
            "SWIFT_CONTAINER_NAME": "container",
            **more,
        }
    )


@asynccontextmanager
async def opened(settings: Settings, *, patience_s: float = 2.0) -> AsyncIterator[KubernetesCompute]:
    """The environment, once it knows what is there."""
    async with KubernetesCompute(settings, mover=MOVER, patience_s=patience_s) as compute:
        await eventually(lambda: _answered(compute.probe()), what="what is there to be known", deadline_s=90)
        yield compute


async def _answered(question: Awaitable[object]) -> bool:
    """Await what has no patience with an API server that is busy. Returns whether there was an answer."""
    try:
        await question
    except ComputeUnavailable:
        return False
    return True


def run(name: str, script: str = "true", *, data: Data | None = None, **more: Any) -> Run:
    """A run of a shell script, to which $1 is the input and $2 the output."""
    return Run(
        **{
            "name": name,
            "jid": f"jid-{name}",
            "image": BUSYBOX,
            "argv": ["sh", "-c", script, "sh", "/share/incoming", "/share/outgoing"],
            "env": {"CHRIS_USER_TOKEN": SECRETS[2]},
            "data": data or tickets(),
            "limits": Limits(cpu_millicores=50, memory_mib=32),
            "digest": "d",
            "record": json.dumps({"jid": f"jid-{name}"}),
            **more,
        }
    )


def tickets(pull: str = SECRETS[0]) -> Tickets:
    """What the mover is told."""
    return Tickets(pull=pull, publish=SECRETS[1])


async def start_all(compute: KubernetesCompute, runs: Sequence[Run], *, deadline_s: float = 120) -> None:
    """Start them all at once; as a client does, ask again where there was no time left for one."""
    waits = (
        eventually(lambda each=each: _answered(compute.start(each)), what=f"the start of {each.name}", deadline_s=deadline_s)
        for each in runs
    )
    await asyncio.gather(*waits)


async def all_ended(compute: KubernetesCompute, names: Sequence[str], *, deadline_s: float = 120) -> dict[str, Observation]:
    """Wait until these runs have ended; return how, and on the way make sure that each ends once."""
    seen: dict[str, Observation] = {}
    try:
        async with asyncio.timeout(deadline_s):
            async for told in compute.watch():
                before = seen.get(told.name)
                if before is not None and before.state.ended:
                    assert (told.state, told.message) == (before.state, before.message)
                seen[told.name] = told
                if all(name in seen and seen[name].state.ended for name in names):
                    break
    except TimeoutError:
        still = {name: (seen[name].state, seen[name].message) if name in seen else None for name in names}
        raise AssertionError(f"waited {deadline_s} s in vain for {still}") from None
    return {name: seen[name] for name in names}
