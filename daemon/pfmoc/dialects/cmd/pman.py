"""pman 2: processes (contract 5.3). A command runs in a container or not at all."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, ClassVar

from aiohttp import web

from pfmoc.dialects.base import PREFIX
from pfmoc.dialects.cmd import trail
from pfmoc.dialects.cmd.command import plugin_spec
from pfmoc.dialects.cmd.documents import truth, words
from pfmoc.dialects.cmd.envelope import Message
from pfmoc.dialects.cmd.service import Action, Service, reply, version
from pfmoc.dialects.plugin import on_own_data
from pfmoc.errors import InvalidRequest, PfmocError
from pfmoc.jobs.model import Job, PluginSpec
from pfmoc.storage.paths import KEY_PREFIX

SEARCHED = frozenset({"stderr", "stdout", "returncode", "status", "cmd"})
"""Fields of a job that ``search`` finds. A job has one log for both streams, as everywhere in this daemon."""


class CmdPman(Service):
    """The process service."""

    name: ClassVar[str] = "pman"
    version: ClassVar[str] = version("2.2.4")

    def actions(self) -> Mapping[str, Action]:
        """What pman does."""
        return {"hello": self.greet, "run": self.run, "status": self.status, "search": self.search}

    async def greet(self, request: web.Request, message: Message) -> web.StreamResponse:
        """``hello``."""
        told = self.hello(message)
        return _enveloped(request, message, status=told["status"], d_ret=told["d_ret"])

    async def run(self, request: web.Request, message: Message) -> web.StreamResponse:
        """``run``: a plugin job on the data of a key. With ``threaded`` the answer does not wait for its end."""
        meta = message.meta
        jid = self.key(message, "meta", "jid")
        spec = plugin_spec(meta, "meta")
        job = await self._started(jid, spec, words(meta, "container", "manager", "env", "shareDir", default=""))
        if "threaded" in meta and not truth(meta["threaded"]):
            job = await self.services.coordination.ended(jid)
            return _enveloped(request, message, status=True, d_ret=_result(job, await self.jobs.log(job)))
        return _enveloped(request, message, status=True)

    async def status(self, request: web.Request, message: Message) -> web.StreamResponse:
        """``status`` of the job whose ``jid`` has the value."""
        known = await self.known(self._searched(message))
        if known.job is None:
            return _enveloped(request, message, status=False, d_ret=_no_result())
        return _enveloped(request, message, status=True, d_ret=_result(known.job, known.log))

    async def search(self, request: web.Request, message: Message) -> web.StreamResponse:
        """``search``: one field of a job."""
        found = await self.found(message)
        return _enveloped(request, message, status=bool(found), d_ret=found)

    async def found(self, message: Message) -> dict[str, Any]:
        """Look up one field of a job, as ``search`` asks for it."""
        known = await self.known(self._searched(message))
        field = words(message.meta, "field", default="")
        if known.job is None or field not in SEARCHED:
            return {}
        values = {
            "stderr": known.log,
            "stdout": known.log,
            "returncode": known.job.exit_code,
            "status": trail.word(known.job),
            "cmd": known.job.cmd,
        }
        return {f"{words(message.meta, 'job', default='0')}.{words(message.meta, 'when', default='end')}": {field: values[field]}}

    def _searched(self, message: Message) -> str:
        """Return the job id that a question is about.

        :raises InvalidRequest: it asks by something else
        """
        by = words(message.meta, "key", default="jid")
        if by != "jid":
            raise InvalidRequest("meta.key", "jobs are found by their jid only")
        return self.key(message, "meta", "value")

    async def _started(self, jid: str, spec: PluginSpec, share: str) -> Job:
        """Start a job on what was pushed under its id. Where nothing was, it gets an empty input: plugins of type fs need none.

        :raises InvalidRequest: ``shareDir`` names the data of another key
        """
        self.jobs.compute.check(spec.image, spec.limits)
        _check_share(share, jid)
        made = not await self.jobs.storage.holds(jid)
        if made:
            await self.services.coordination.push(jid)
        try:
            return (await self.jobs.submit_plugin(jid, on_own_data(jid, spec), copied=False)).job
        except PfmocError:
            if made:
                with suppress(PfmocError):  # what was made is empty, and the reason to be told is the first one
                    await self.jobs.clean(jid)
            raise


def _check_share(share: str, jid: str) -> None:
    """Look at ``shareDir``. A job works on the data of its own key; where the seeds name some directory, that is what they mean.

    :raises InvalidRequest: it is the directory of another key, as pfioh names them
    """
    name = posixpath.basename(share.rstrip("/"))
    if name.startswith(KEY_PREFIX) and name != f"{KEY_PREFIX}{jid}":
        raise InvalidRequest(
            "meta.container.manager.env.shareDir", "is the directory of another key; give the job the key of its data as its jid"
        )


def _result(job: Job, log: str) -> dict[str, Any]:
    """A job as pman's swarm manager told of it, one entry for each time that it ran."""
    root = {"jobRoot": job.jid}
    return {
        "0.start": {**root, "startTrigger": [True]},
        "0.end": {**root, "returncode": [] if job.exit_code is None else [job.exit_code]},
        "0.container": {**root, "tree": {"image": job.image, "cmd": job.cmd, "message": job.message}},
        "l_status": [trail.word(job)],
        "l_logs": [log],
    }


def _no_result() -> dict[str, Any]:
    return {
        "-1.start": {"jobRoot": None, "startTrigger": None},
        "-1.end": {"jobRoot": None, "returncode": None},
        "-1.container": {"jobRoot": None, "tree": None},
        "l_status": [],
        "l_logs": [],
    }


def _enveloped(request: web.Request, message: Message, *, status: bool, d_ret: dict[str, Any] | None = None) -> web.Response:
    """What pman wraps around every answer. Of the request's headers it repeats none: one holds the token."""
    answer: dict[str, Any] = {
        "status": status,
        "RESTheader": request.method,
        "RESTverb": request.method,
        "action": message.action,
        "path": f"{PREFIX}/cmd",
        "receivedByServer": [f"{request.method} {PREFIX}/cmd HTTP/1.1", message.payload],
        "client_json_payload": message.payload,
        "client_json_len": len(message.payload),
        "payloadsize": message.size,
        "meta": message.meta,
    }
    if d_ret is not None:
        answer["d_ret"] = d_ret
    return reply(answer)
