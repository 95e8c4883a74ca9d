"""pfioh 2: data come and go as zips, under a key (contract 5.4)."""

from __future__ import annotations

import asyncio
import io
import json
import os
import shutil
import stat
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path, PurePath
from typing import Any, ClassVar

from aiohttp import web

from pfmoc.dialects import files
from pfmoc.dialects.cmd.documents import Document, find, truth, words
from pfmoc.dialects.cmd.envelope import Message
from pfmoc.dialects.cmd.service import Action, Service, checks_remote, reply, version
from pfmoc.errors import Conflict, InvalidRequest, NoSuchData
from pfmoc.http import SERVER
from pfmoc.jobs.model import now
from pfmoc.spool import SpoolFile
from pfmoc.storage import trees, workers, zip_out
from pfmoc.storage.failures import storage_errors
from pfmoc.storage.local import LocalStorage
from pfmoc.storage.paths import BadPath, components
from pfmoc.storage.workers import Stop

WRITTEN = "File written successfully!"
NO_FILES = "computeCreatedNoFiles.json"
"""The one file of an archive of nothing: an empty archive can be read as text, and pfurl then fails to write it."""
OPS = frozenset({"plugin", "dsplugin"})
"""``specialHandling.op`` of data for a plugin, by its newer and its older name."""
LISTED_MAX = 10_000
"""Entries of one directory that ``ls`` shows."""


class CmdPfioh(Service):
    """The data service. What is pushed is the input of a job; what is pulled is its output, or else what was pushed."""

    name: ClassVar[str] = "pfioh"
    version: ClassVar[str] = version("2")

    def actions(self) -> Mapping[str, Action]:
        """What pfioh does."""
        return {"hello": self.greet, "pushPath": self.push, "pullPath": self.pull, "ls": self.ls}

    async def greet(self, _: web.Request, message: Message) -> web.StreamResponse:
        """``hello``."""
        return reply({"stdout": self.hello(message), "User-agent": SERVER})

    async def push(self, _: web.Request, message: Message) -> web.StreamResponse:
        """``pushPath``: unpack a zip under the key, or put one file there."""
        key = self.key(message, "meta", "remote", "key")
        if checks_remote(message):
            return reply(await self._check(key, wanted=False))
        _check_transport(message)
        if message.upload is None:
            raise InvalidRequest("local", "the request brings no file")
        if _unpacks(message.meta):
            staged = await self.jobs.push(key, message.upload)
        else:
            async with self.services.spool.file() as file:
                await asyncio.to_thread(_wrap, message.upload, file, _basename(message))
                staged = await self.jobs.push(key, file.path)
        moment = now()
        write = {"file": str(staged.path), "status": True, "msg": WRITTEN, "timestamp": moment}
        postop = _postop(message, staged.path, moment)
        return reply({"write": write, "status": True, "msg": WRITTEN, "postop": postop, "User-agent": SERVER})

    async def pull(self, request: web.Request, message: Message) -> web.StreamResponse:
        """``pullPath``: send a zip; then, on ``specialHandling.cleanup``, remove the data."""
        key = self.key(message, "meta", "remote", "key")
        if checks_remote(message):
            return reply(await self._check(key, wanted=True))
        _check_transport(message)
        await self.jobs.require_ended(key)
        plan = await zip_out.plan(await self._root(key, message))
        response = await (files.send(request, plan, key) if plan.files else _nothing(request, key))
        if request.method != "HEAD":
            await self.services.coordination.trails.change(key, pulled=now())
            if truth(find(message.meta, "specialHandling", "cleanup")):
                with suppress(Conflict):  # a job has begun on the data meanwhile: they stay
                    await self.jobs.clean(key)
        return response

    async def ls(self, _: web.Request, message: Message) -> web.StreamResponse:
        """``ls``: one directory of a key."""
        path = ("meta", "remote", "key") if find(message.meta, "remote", "key") is not None else ("meta", "key")
        key = self.key(message, *path)
        subdir = words(message.meta, "subdir", default="") or words(message.meta, "remote", "subdir", default="")
        try:
            inside = "/".join(components(subdir)) if subdir.strip("/") not in ("", ".") else ""
        except BadPath as bad:
            raise InvalidRequest("meta.subdir", bad.reason) from None
        top = await self._key_dir(key)
        listed = await workers.run(lambda stop: _listed(top, inside, stop))
        return reply({"status": True, "msg": f"Successful scandir on {key}/{inside}", "d_ls": listed})

    async def _check(self, key: str, *, wanted: bool) -> dict[str, Any]:
        """Answer ``checkRemote``. A push needs no more than a key that can be one; nothing is made before data come."""
        held = await self.jobs.storage.holds(key)
        status = held or not wanted
        msg = "" if status else f"There are no data under the key '{key}'."
        return {"status": status, "msg": msg, "isfile": False, "isswiftstore": False, "isdir": held, "createdNewDir": False}

    async def _root(self, key: str, message: Message) -> Path:
        """The directory to send: the output, or where there is none, and no plugin is spoken of, what was pushed."""
        top = await self._key_dir(key)
        outgoing = top / "outgoing"
        if not _for_plugin(message) and not await workers.run(lambda stop: _holds_files(outgoing, stop)):
            return top / "incoming"
        return outgoing

    async def _key_dir(self, key: str) -> Path:
        storage = self.jobs.storage
        if not isinstance(storage, LocalStorage) or not await storage.holds(key):
            raise NoSuchData(f"There are no data under the key '{key}'.")
        return storage.storebase.key_dir(key)


def _check_transport(message: Message) -> None:
    """Refuse transports that need a disk in common."""
    if find(message.meta, "transport", "copy") is not None:
        raise InvalidRequest("meta.transport.copy", "is not served: data come and go as a zip (compress)")


def _unpacks(meta: Document) -> bool:
    """Whether the file is a zip that is to be unpacked: so it is unless the document says how data are sent."""
    archive, unpack = (find(meta, "transport", "compress", name) for name in ("archive", "unpack"))
    return find(meta, "transport") is None or (archive == "zip" and truth(unpack))


def _for_plugin(message: Message) -> bool:
    return find(message.meta, "specialHandling", "op") in OPS


def _postop(message: Message, incoming: PurePath, moment: str) -> dict[str, Any]:
    if not _for_plugin(message):
        return {"status": False, "timestamp": moment}
    return {
        "op": "plugin",
        "shareDir": str(incoming.parent),
        "tmpPath": str(incoming.parent),
        "incomingPath": str(incoming),
        "outgoingPath": str(incoming.parent / "outgoing"),
        "status": True,
        "timestamp": moment,
    }


def _basename(message: Message) -> str:
    """The name of a file that is not unpacked: the last part of its path on the client."""
    name = words(message.meta, "local", "path", default=message.filename).rstrip("/").rpartition("/")[2]
    try:
        return components(name)[0]
    except BadPath as bad:
        raise InvalidRequest("meta.local.path", bad.reason) from None


def _wrap(source: Path, file: SpoolFile, name: str) -> None:
    """Make a zip of one file, stored as it is, so that it takes the same guarded way into storage as every other."""
    with storage_errors(), source.open("rb") as data, file.path.open("wb") as target, zipfile.ZipFile(target, "w") as archive:
        entry = zipfile.ZipInfo(name)
        entry.external_attr = (stat.S_IFREG | 0o644) << 16
        with archive.open(entry, "w", force_zip64=True) as out:
            shutil.copyfileobj(data, out, 1 << 20)


async def _nothing(request: web.Request, key: str) -> web.StreamResponse:
    """Send the archive of an empty output."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(NO_FILES, json.dumps({"status": "The computation created no files."}))
    headers = {"Content-Disposition": f"attachment; filename={key}.zip"}
    response = web.Response(body=packed.getvalue(), content_type="application/zip", headers=headers)
    await response.prepare(request)
    await response.write_eof()
    return response


def _holds_files(directory: Path, stop: Stop) -> bool:
    with storage_errors():
        return trees.measure(directory, stop=stop).files > 0


def _listed(top: Path, inside: str, stop: Stop) -> dict[str, Any]:
    """Describe the entries of a directory below a key; links are shown and never followed."""
    listed: dict[str, Any] = {}
    with storage_errors(), trees.opened(top, inside) as fd, os.scandir(fd) as entries:
        for entry in entries:
            stop.check()
            found = entry.stat(follow_symlinks=False)
            kind = "symlink" if entry.is_symlink() else "dir" if entry.is_dir() else "file" if entry.is_file() else ""
            listed[entry.name] = {
                "type": kind,
                "path": f"{inside}/{entry.name}" if inside else entry.name,
                "uid": found.st_uid,
                "gid": found.st_gid,
                "size": found.st_size,
                "mtime": found.st_mtime,
                "ctime": found.st_ctime,
                "atime": found.st_atime,
            }
            if len(listed) >= LISTED_MAX:
                break
    return listed
