"""pfcon 2: the coordinator of the other two (contract 5.2)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any, ClassVar

from aiohttp import web

from pfmoc import logs
from pfmoc.coordination.trails import Errand, Step
from pfmoc.dialects.base import Services
from pfmoc.dialects.cmd import trail
from pfmoc.dialects.cmd.command import plugin_spec
from pfmoc.dialects.cmd.documents import Document, find, key_at, replaced, section, truth, words
from pfmoc.dialects.cmd.envelope import Message
from pfmoc.dialects.cmd.pman import CmdPman
from pfmoc.dialects.cmd.service import Action, Service, reply, version
from pfmoc.dialects.plugin import on_own_data
from pfmoc.errors import InvalidRequest, PfmocError
from pfmoc.storage.paths import KEY_PREFIX

STORE, SHARE = "%meta-store", "%shareDir"


class CmdPfcon(Service):
    """The coordinating service: what CUBE 1 speaks to."""

    name: ClassVar[str] = "pfcon"
    version: ClassVar[str] = version("2.4.0")

    def __init__(self, services: Services) -> None:
        super().__init__(services)
        self._pman = CmdPman(services)

    def actions(self) -> Mapping[str, Action]:
        """What pfcon does."""
        return {"hello": self.greet, "coordinate": self.coordinate, "status": self.status, "search": self.search}

    async def greet(self, _: web.Request, message: Message) -> web.StreamResponse:
        """``hello``, to this service and to the two behind it, which are the same daemon."""
        told = self.hello(message)
        service = words(message.meta, "service", default="host")
        try:
            elsewhere = await self._elsewhere("meta.service", service)
        except PfmocError as error:
            remote: dict[str, Any] = {"status": False, "msg": error.message}
        else:
            one = {"d_ret": {"name": elsewhere}, "status": True} if elsewhere else told
            behind = {f"{service}-data": one, f"{service}-compute": one}
            remote = {"status": True, "d_ret": behind, "serviceNameData": service, "serviceNameCompute": service}
        return reply({"d_ret": told["d_ret"], "d_remote": remote, "status": told["status"]})

    async def coordinate(self, _: web.Request, message: Message) -> web.StreamResponse:
        """``coordinate``: push, compute, pull. With ``threadAction`` the answer waits for none of it."""
        errand = await self._errand(message)
        task = await self.services.coordination.start(errand)
        if truth(message.document.get("threadAction")):
            return reply({"msg": "In do_POST", "status": True, "formsize": message.size})
        await asyncio.shield(task)
        known = await self.known(errand.key)
        jobs = trail.operation(known)
        info, short = jobs["info"], trail.summary(jobs)
        good = info["compute"]["status"] is True and not known.trail.failed
        return reply(
            {
                "status": good,
                "pushData": info["pushPath"],
                "compute": info["compute"],
                "pullData": info["pullPath"],
                "d_swiftstore": info["swiftPut"].get("d_swiftstore", {}),
                "d_jobStatus": jobs,
                "d_jobStatusSummary": short,
            }
            | ({} if good else {"msg": _why(known)})
        )

    async def status(self, _: web.Request, message: Message) -> web.StreamResponse:
        """``status`` of a key: how far each operation has come."""
        jobs = trail.operation(await self.known(self.key(message, "meta", "remote", "key")))
        return reply({"status": jobs["status"], "jobOperation": jobs, "jobOperationSummary": trail.summary(jobs)})

    async def search(self, _: web.Request, message: Message) -> web.StreamResponse:
        """``search``, which CUBE 1 sends here for what an earlier pman would tell."""
        found = await self._pman.found(message)
        return reply({"status": bool(found), "d_ret": found})

    async def _errand(self, message: Message) -> Errand:
        """Read a ``coordinate``.

        :raises InvalidRequest: names what is wrong with it
        """
        document = message.document
        key = _key(document)
        logs.jid.set(key)
        document = replaced(document, STORE, key)
        document = replaced(document, SHARE, f"{KEY_PREFIX}{key}")
        services = [words(document, name, "service", default="host") for name in ("meta-data", "meta-compute")]
        if len(set(services)) > 1:
            raise InvalidRequest("meta-compute.service", "must be that of meta-data: a job runs where its data are")
        service = await self._elsewhere("meta-compute.service", services[0])
        remote = words(document, "meta-data", "remote", "key", default=key)
        if remote != key:
            raise InvalidRequest("meta-data.remote.key", f"must be {STORE}: job and data of a coordinate have one key")
        source, target = self._place(document, "localSource"), self._place(document, "localTarget")
        spec = plugin_spec(section(document, "meta-compute"), "meta-compute")
        if self.jobs.storage.innetwork:
            inputs = () if source is None else (source,)
            spec = replace(spec, input_dirs=inputs, output_dir=target)
        else:
            spec = on_own_data(key, spec)
        cleanup = truth(find(document, "meta-data", "specialHandling", "cleanup"))
        return Errand(
            key=key,
            spec=spec,
            source=source,
            target=target,
            make_target=_makes(document),
            cleanup=cleanup,
            service=service,
        )

    def _place(self, document: Document, name: str) -> str | None:
        """Return the path of the source or target, relative to the storeBase; None where the document names none.

        :raises InvalidRequest: it is in a storage that this daemon does not have
        """
        if find(document, "meta-data", name) is None:
            return None
        kind = words(document, "meta-data", name, "storageType", default="")
        if kind == "swift" and not self.jobs.storage.innetwork:
            raise InvalidRequest(
                f"meta-data.{name}.storageType",
                f"this server keeps its data in {self.jobs.storage.env} storage and has no Swift to read from",
            )
        text = words(document, "meta-data", name, "path")
        root = self.services.settings.storebase_mount
        path = PurePosixPath(text)
        return str(path.relative_to(root)) if path.is_relative_to(root) else text

    async def _elsewhere(self, field: str, service: str) -> str:
        """Return the name of the other compute resource that a service is; empty for this daemon itself.

        :raises InvalidRequest: there is no such service
        """
        own = self.services.settings.service_names
        if service in own:
            return ""
        others = await self.services.coordination.elsewhere()
        if service in others:
            return service
        raise InvalidRequest(field, f"there is no service {service[:100]!a}; there are {', '.join([*own, *others])}")


def _key(document: Document) -> str:
    """Return the key: what ``meta-store`` says that it is called by, or else the name of the data.

    :raises InvalidRequest: there is none
    """
    if section(document, "meta-store"):
        return key_at(document, words(document, "meta-store", "meta"), words(document, "meta-store", "key"))
    return key_at(document, "meta-data", "remote", "key")


def _makes(document: Document) -> bool:
    """Whether the target is to be made. So it is by default: pfcon made it for every threaded request."""
    asked = find(document, "meta-data", "localTarget", "createDir")
    return True if asked is None else truth(asked) or truth(document.get("threadAction"))


def _why(known: trail.Known) -> str:
    reasons = [f"{step}: {reason}" for step, reason in known.trail.failed.items()]
    if not reasons and known.job is not None:
        reasons = [f"{Step.COMPUTE}: {trail.word(known.job)} ({known.job.message})"]
    return "; ".join(reasons)
