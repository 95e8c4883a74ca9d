"""Jobs on other compute resources: those of the resources file, which ``pfmoc run`` uses too.

Imported only where there is such a file: it needs PyYAML, which a daemon by itself does not.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import aiohttp

from pfmoc import __version__
from pfmoc.backoff import Backoff
from pfmoc.compute.base import INCOMING, OUTGOING
from pfmoc.coordination.trails import Errand, Outcome
from pfmoc.errors import InvalidRequest, PfmocError, Unavailable
from pfmoc.jobs.model import PluginType
from pfmoc.storage import workers
from pfmoc.workflow import resources
from pfmoc.workflow.dialects import Fields, detected
from pfmoc.workflow.inputs import Tree, joined
from pfmoc.workflow.manifest import survey
from pfmoc.workflow.problems import LostContact, Problems, WorkflowError
from pfmoc.workflow.resources import Resource
from pfmoc.workflow.server import Server
from pfmoc.workflow.transport import transport_for

_LOG_CHARS = 64 << 10


async def registered(path: Path) -> Mapping[str, Resource]:
    """Read the resources file.

    :raises Unavailable: something in it is wrong; the message says what, and holds no password
    """
    try:
        return await asyncio.to_thread(resources.load, path, environ=os.environ)
    except Problems as error:
        reason = error.lines[0].removeprefix(f"{path}: ")
        raise Unavailable(f"The resources file of this server cannot be used: {reason}") from error


async def cross(resource: Resource, errand: Errand, *, source: Path, scratch: Path) -> Outcome:
    """Run an errand's job on a resource. What it leaves comes into ``scratch/output``; where the plugin failed, if it can be had.

    A job of that id which is there already is waited for: a daemon before this one has sent it.

    :param source: the input
    :param scratch: a directory of our own
    :raises PfmocError: the resource refused, or could not be reached for as long as the file has patience
    """
    headers = {"User-Agent": f"pfmoc/{__version__}", "Accept-Encoding": "identity"}
    try:
        async with aiohttp.ClientSession(headers=headers) as session:
            transport = transport_for(await detected(Server(resource, session, backoff=Backoff())))
            compute = await transport.dialect.find(errand.key)
            if compute is None:
                files = joined({"input": Tree(source, await workers.run(lambda stop: survey(source, stop)))})
                compute = await transport.submit(errand.key, fields(errand), files, moved=_silent)
            if not compute.ended:
                compute = await transport.dialect.ended(errand.key)
            try:
                await transport.fetch(errand.key, archive=scratch / "output.zip", into=scratch / "output", moved=_silent)
            except WorkflowError:
                if compute.succeeded:
                    raise
            with suppress(WorkflowError):  # the result is here; what is left there is the resource's to reap
                await transport.remove(errand.key, ended=True)
            return Outcome(status=compute.status, message=compute.message, log=compute.logs[-_LOG_CHARS:])
    except LostContact as error:
        raise PfmocError(error.message) from error
    except WorkflowError as error:
        raise InvalidRequest("meta-compute.service", error.message) from error


def fields(errand: Errand) -> Fields:
    """Describe the job in the fields of pfcon 5 and 6, which put the two directories at the end of the command line themselves.

    :raises InvalidRequest: it writes to no directory, so that there is none to put there
    """
    spec = errand.spec
    args = list(spec.args)
    if OUTGOING not in args:
        raise InvalidRequest("meta-compute.cmd", f"must name {OUTGOING} to run on another compute resource")
    at = len(args) - 1 - args[::-1].index(OUTGOING)
    reads = at > 0 and args[at - 1] == INCOMING
    del args[at - 1 if reads else at : at + 1]
    return {
        "jid": errand.key,
        "auid": spec.auid or "pfmoc",
        "image": spec.image,
        "type": PluginType.DS if reads else PluginType.FS,
        "entrypoint": list(spec.entrypoint),
        "args": args,
        "number_of_workers": spec.limits.number_of_workers,
        "cpu_limit": spec.limits.cpu_millicores,
        "memory_limit": spec.limits.memory_mib,
        "gpu_limit": spec.limits.gpus,
    }


def _silent(what: str, done: int, total: int | None) -> None:
    """Nobody watches."""
