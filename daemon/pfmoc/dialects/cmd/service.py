"""What the three services have in common: the route, the dispatch on ``action``, and ``hello``."""

from __future__ import annotations

import os
import platform
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar

from aiohttp import web

from pfmoc import __version__, logs
from pfmoc.dialects.base import BODY, PREFIX, Dialect
from pfmoc.dialects.cmd import envelope, trail
from pfmoc.dialects.cmd.documents import key_at, truth, words
from pfmoc.dialects.cmd.envelope import Message
from pfmoc.dialects.routes import Route
from pfmoc.errors import InvalidRequest
from pfmoc.http import json_response
from pfmoc.jobs.model import Kind

Action = Callable[[web.Request, Message], Awaitable[web.StreamResponse]]

ELSEWHERE = {
    "coordinate": "pfcon",
    "run": "pman",
    "pushPath": "pfioh",
    "pullPath": "pfioh",
    "ls": "pfioh",
}
"""Which service has an action that another lacks."""
REFUSED = frozenset({"quit", "internalctl", "rmtree", "DBctl", "fileiosetup"})
"""Actions that gave any client the machine. They are known, and never done."""
READING = frozenset({"hello", "status", "search", "ls", "pullPath"})
"""Actions that a GET may ask for; of ``pushPath`` it may ask whether there is room (``checkRemote``)."""


class Service(Dialect):
    """One of the services. Each has a listener of its own, and answers in its own manner."""

    name: ClassVar[str]
    version: ClassVar[str]

    def routes(self) -> Sequence[Route]:
        """One path, with its last slash or without: not every client of these years follows a redirect."""
        return tuple(
            Route(
                method=method,
                path=f"{PREFIX}/cmd/",
                handler=self.handle,
                summary=f"{verb} {self.name}",
                legacy=True,
                bare=True,
                around=envelope.answering,
            )
            for method, verb in (("GET", "Ask"), ("POST", "Tell"))
        )

    def actions(self) -> Mapping[str, Action]:
        """What this service does, by name."""
        raise NotImplementedError

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """GET and POST /cmd. Whatever is wrong, the answer has ``status: false`` and says why."""
        settings = self.services.settings
        received = envelope.received(request, request[BODY], spool=self.services.spool, max_form_bytes=settings.max_form_bytes)
        async with received as message:
            action = self._chosen(message.action)
            if request.method != "POST" and message.action not in READING and not checks_remote(message):
                raise InvalidRequest("action", f"{message.action} changes something: send it with POST")
            return await action(request, message)

    def _chosen(self, name: str) -> Action:
        """Return the action of that name.

        :raises InvalidRequest: this service has none
        """
        actions = self.actions()
        if name in actions:
            return actions[name]
        shown = ascii(name[:100])
        if name in REFUSED:
            raise InvalidRequest("action", f"{shown} is never done for a client")
        if other := ELSEWHERE.get(name):
            raise InvalidRequest("action", f"{shown} is not for {self.name} but for {other}, which listens elsewhere")
        raise InvalidRequest("action", f"{self.name} does not know {shown}; it knows {', '.join(actions)}")

    async def known(self, key: str) -> trail.Known:
        """Gather all that is known of a key."""
        job = await self.jobs.board.find(key, Kind.PLUGIN)
        return trail.Known(
            trail=await self.services.coordination.trails.get(key),
            pushed=await self.jobs.board.find(key, Kind.COPY),
            job=job,
            log="" if job is None else await self.jobs.log(job),
        )

    def hello(self, message: Message) -> dict[str, Any]:
        """Answer a greeting; ``status`` is false when it does not say what it asks about."""
        meta = message.meta
        about = words(meta, "askAbout", default="")
        told: dict[str, Any] = {"name": self.name, "version": self.version}
        if about == "timestamp":
            told["timestamp"] = {"now": datetime.now(UTC).strftime("%Y%m%d%H%M%S.%f")}
        elif about == "echoBack":
            told["echoBack"] = {"msg": words(meta, "echoBack", default="")}
        elif about == "sysinfo":
            told["sysinfo"] = _sysinfo(self.services.settings.host)
        return {"d_ret": told, "status": len(told) > 2}

    def key(self, message: Message, *path: str) -> str:
        """Return the key at a path of the document, and have the log tell of it.

        :raises InvalidRequest: there is none, or none that could be one
        """
        key = key_at(message.document, *path)
        logs.jid.set(key)
        return key


def checks_remote(message: Message) -> bool:
    """True for pfurl's question whether data could go, or are, there: it precedes every push and pull."""
    transport = message.meta.get("transport")
    return isinstance(transport, Mapping) and truth(transport.get("checkRemote"))


def version(release: str) -> str:
    """The release whose manners these are, and ours."""
    return f"{release}+pfmoc.{__version__}"


def reply(document: Mapping[str, Any]) -> web.Response:
    """An answer. Its status is 200 whatever it says."""
    return json_response(document)


def _sysinfo(host: str) -> dict[str, Any]:
    """What a greeting about the machine is told; nothing that a client of a compute resource could not find out from a job."""
    uname = os.uname()
    load = os.getloadavg()
    cpus = os.cpu_count() or 1
    page = os.sysconf("SC_PAGE_SIZE")
    return {
        "system": uname.sysname,
        "machine": uname.machine,
        "platform": platform.platform(),
        "uname": list(uname),
        "version": uname.version,
        "memory": [page * os.sysconf("SC_PHYS_PAGES"), page * os.sysconf("SC_AVPHYS_PAGES")],
        "cpucount": cpus,
        "loadavg": list(load),
        "cpu_percent": min(100.0, round(100 * load[0] / cpus, 1)),
        "hostname": uname.nodename,
        "inet": host,
    }
