"""What is said to a compute resource: the requests of pfcon 6 and of pfcon 5, behind one set of verbs."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp.payload import Payload
from pydantic import TypeAdapter

from pfmoc.workflow.patience import Patience
from pfmoc.workflow.problems import LostContact, NodeFailed, Refused
from pfmoc.workflow.server import Reply, Server
from pfmoc.workflow.text import plain

SUCCESS = "finishedSuccessfully"
_ENDED = frozenset({SUCCESS, "finishedWithError", "undefined"})
CLEAN_S = 60.0
"""Seconds of patience for the removal of what is no longer needed."""

Fields = Mapping[str, str | int | Sequence[str]]
"""A form: a sequence repeats its field."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerInfo:
    """What the server says of itself."""

    dialect: str
    version: str
    innetwork: bool
    storage: str
    requires_copy: bool
    requires_upload: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Compute:
    """A job as the wire shows it."""

    status: str
    message: str
    logs: str

    @property
    def ended(self) -> bool:
        """True when nothing more will happen to it."""
        return self.status in _ENDED

    @property
    def succeeded(self) -> bool:
        """True when it ended well."""
        return self.status == SUCCESS


class Dialect(ABC):
    """One generation of the API, spoken to one server."""

    plugins: str
    """The collection of plugin jobs."""

    def __init__(self, server: Server, info: ServerInfo) -> None:
        self.server = server
        self.info = info

    async def find(self, jid: str) -> Compute | None:
        """Return a plugin job, or None when the server knows none of that id."""
        reply = await self.server.call("GET", f"{self.plugins}/{jid}/", expect=(200, 404))
        return None if reply.status == 404 else self._compute(reply)

    async def submit(self, fields: Fields, payload: Callable[[], Payload] | None, *, jid: str) -> Compute:
        """Submit a plugin job. After an attempt that broke, the server is asked first whether it has the job already.

        :param payload: makes the input, anew for each attempt, where no storage is shared
        """

        async def known() -> Reply | None:
            reply = await self.server.call("GET", f"{self.plugins}/{jid}/", expect=(200, 404))
            return None if reply.status == 404 else reply

        return self._compute(
            await self.server.call(
                "POST",
                f"{self.plugins}/",
                expect=(200, 201),
                body=lambda: _form(fields, payload and payload()),
                before_retry=known,
                slow=True,
            )
        )

    async def ended(self, jid: str, collection: str | None = None) -> Compute:
        """Poll a job until it ended.

        :raises NodeFailed: the server no longer knows it
        """
        pauses = self.server.backoff.pauses()
        while True:
            reply = await self.server.call("GET", f"{collection or self.plugins}/{jid}/", expect=(200, 404))
            if reply.status == 404:
                raise NodeFailed(f"{self.server.name} no longer knows job {jid}")
            compute = self._compute(reply)
            if compute.ended:
                return compute
            await asyncio.sleep(next(pauses))

    def file_route(self, jid: str) -> str:
        """Where a job's output is."""
        return f"{self.plugins}/{jid}/file/"

    async def listing(self, jid: str, directory: str) -> list[str]:
        """Names of the files of a job's output, in storage that is shared."""
        reply = await self.server.call("GET", self.file_route(jid), query={"job_output_path": directory})
        try:
            return TypeAdapter(list[str]).validate_python(reply.json()["rel_file_paths"], strict=True)
        except (ValueError, KeyError, TypeError):
            raise Refused(f"{self.server.name} answered with something else than a list of files", status=200) from None

    @abstractmethod
    async def copy(self, jid: str, *, input_dirs: Sequence[str], output_dir: str) -> None:
        """Let the server copy the input into place, where it wants to be asked for that.

        :raises NodeFailed: it could not
        """

    @abstractmethod
    async def remove(self, jid: str, *, ended: bool) -> None:
        """Remove a job and its data from the server; that there is none is fine.

        :param ended: False when the job may still run: it is ended first
        """

    def _compute(self, reply: Reply) -> Compute:
        try:
            compute = reply.json()["compute"]
            logs = compute.get("logs") or ""
            return Compute(status=str(compute["status"]), message=str(compute.get("message") or ""), logs=str(logs))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise Refused(f"{self.server.name} answered with something else than a job", status=reply.status) from None


class Pfcon6(Dialect):
    """Copy, plugin, upload and delete are jobs of their own."""

    plugins = "pluginjobs"

    async def copy(self, jid: str, *, input_dirs: Sequence[str], output_dir: str) -> None:
        """POST copyjobs, and wait."""
        if not self.info.requires_copy:
            return
        fields = {"jid": jid, "input_dirs": input_dirs, "output_dir": output_dir}
        reply = await self.server.call("POST", "copyjobs/", expect=(200, 201), body=lambda: _form(fields, None))
        compute = self._compute(reply)
        if not compute.ended:
            compute = await self.ended(jid, "copyjobs")
        if not compute.succeeded:
            raise NodeFailed(
                f"{self.server.name} could not copy the input: {plain(compute.message or compute.logs or compute.status)}"
            )

    async def remove(self, jid: str, *, ended: bool) -> None:
        """As CUBE does: a delete job for the data, then each job."""
        patience = self.server.patience(CLEAN_S)
        jobs = (["copyjobs"] if self.info.requires_copy else []) + ["pluginjobs"]
        if not ended:
            # A delete job is refused by upstream while a plugin runs; removing the plugin job ends it.
            for collection in jobs:
                await self._delete(collection, jid, patience)
        reply = await self.server.call(
            "POST", "deletejobs/", expect=(200, 201), body=lambda: _form({"jid": jid}, None), patience=patience
        )
        if not self._compute(reply).ended:
            await self._deleted(jid, patience)
        for collection in [*jobs, "deletejobs"]:
            await self._delete(collection, jid, patience)

    async def _deleted(self, jid: str, patience: Patience) -> None:
        pauses = self.server.backoff.pauses()
        while True:
            reply = await self.server.call("GET", f"deletejobs/{jid}/", expect=(200, 404), patience=patience)
            if reply.status == 404 or self._compute(reply).ended:
                return
            if patience.left() < 0:
                raise LostContact(f"{self.server.name} still removes the data of job {jid}")
            await asyncio.sleep(next(pauses))

    async def _delete(self, collection: str, jid: str, patience: Patience) -> None:
        await self.server.call("DELETE", f"{collection}/{jid}/", expect=(204, 404), patience=patience)


class Pfcon5(Dialect):
    """One kind of job: what is posted brings its data, what is deleted takes it along."""

    plugins = "jobs"

    async def copy(self, jid: str, *, input_dirs: Sequence[str], output_dir: str) -> None:
        """Nothing: the submission itself copies."""

    async def remove(self, jid: str, *, ended: bool) -> None:  # noqa: ARG002 - deleting ends what runs
        """DELETE jobs; 404 says that it is gone, data and all."""
        await self.server.call("DELETE", f"jobs/{jid}/", expect=(204, 404), patience=self.server.patience(CLEAN_S))


async def detected(server: Server) -> Dialect:
    """Find out which generation a server speaks.

    :raises Refused: none that we do
    """
    reply = await server.call("GET", "pluginjobs/", expect=(200, 404))
    if reply.status == 200:
        return Pfcon6(server, _info(server, "pfcon 6", reply))
    reply = await server.call("GET", "jobs/", expect=(200, 404))
    if reply.status == 404:
        raise Refused(f"{server.name} at {server.resource.url} speaks neither pfcon 6 nor pfcon 5", status=404)
    info = _info(server, "pfcon 5", reply)
    if info.version.startswith("4.0."):
        raise Refused(
            f"{server.name} is pfcon {info.version}, which takes its arguments in another way; 4.1 is the oldest", status=200
        )
    return Pfcon5(server, info)


def _info(server: Server, dialect: str, reply: Reply) -> ServerInfo:
    try:
        document = reply.json()
        innetwork = bool(document.get("pfcon_innetwork", False))
        storage = str(document.get("storage_env") or ("" if innetwork else "zipfile"))
        version = str(document.get("server_version") or "")
    except (ValueError, AttributeError):
        raise Refused(f"{server.name} describes itself with something else than JSON", status=reply.status) from None
    return ServerInfo(
        dialect=dialect,
        version=version,
        innetwork=innetwork,
        storage=storage,
        requires_copy=bool(document.get("requires_copy_job", False)),
        requires_upload=bool(document.get("requires_upload_job", False)),
    )


def _form(fields: Fields, payload: Payload | None) -> Any:
    """Encode a form: multipart as soon as there is a file."""
    pairs: list[tuple[str, str]] = []
    for name, value in fields.items():
        values = [str(value)] if isinstance(value, (str, int)) else value
        pairs += [(name, one) for one in values]
    if payload is None:
        return aiohttp.FormData(pairs, charset="utf-8")
    writer = aiohttp.MultipartWriter("form-data")
    for name, value in pairs:
        writer.append(value).set_content_disposition("form-data", name=name)
    payload.set_content_disposition("form-data", name="data_file", filename="data_file")
    writer.append_payload(payload)
    return writer
