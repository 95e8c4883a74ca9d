"""Requests for tests: an API client that says what it expects, and raw sockets for what no client library sends."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from harness.daemon import PASSWORD, USER
from harness.waiting import DEADLINE_S

PLUGIN: dict[str, Any] = {
    "args": ["--prefix", "le"],
    "args_path_flags": [],
    "auid": "cube",
    "number_of_workers": 1,
    "cpu_limit": 1000,
    "memory_limit": 200,
    "gpu_limit": 0,
    "image": "fnndsc/pl-simpledsapp",
    "entrypoint": ["python3", "/usr/local/bin/simpledsapp"],
    "type": "ds",
    "env": ["CHRIS_JID=x", "CHRIS_USER_TOKEN=tell-nobody"],
}
"""A plugin job, jid and data aside."""

STRINGS = {
    "cmd_args": "--prefix 'two words'",
    "cmd_path_flags": "",
    "auid": "bob",
    "number_of_workers": "1",
    "cpu_limit": "1000",
    "memory_limit": "512",
    "gpu_limit": "0",
    "image": "fnndsc/pl-copy",
    "selfexec": "copyfiles",
    "selfpath": "/usr/local/bin",
    "execshell": "python3",
    "type": "ds",
}
"""The same kind of thing as the generations before pfcon 4.1 describe it."""


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def message(self) -> Any:
        return self.json()["message"]

    def expect(self, status: int) -> Reply:
        assert self.status == status, (self.status, self.body[:2000])
        return self


class Api:
    """The API of one daemon, with a token."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.session = session
        self.url = url
        self.token = ""

    async def send(self, method: str, path: str, *, auth: bool = True, **kwargs: Any) -> Reply:
        """Send a request; ``path`` is below /api/v1/ unless it begins with a slash."""
        headers = dict(kwargs.pop("headers", {}))
        if auth and self.token:
            headers.setdefault("Authorization", f"Bearer {self.token}")
        url = self.url + (path if path.startswith("/") else f"/api/v1/{path}")
        kwargs.setdefault("allow_redirects", False)
        if isinstance(kwargs.get("data"), bytes):
            kwargs["data"] = io.BytesIO(kwargs["data"])
        async with self.session.request(method, url, headers=headers, **kwargs) as response:
            return Reply(response.status, response.headers, await response.read())

    async def get(self, path: str, **kwargs: Any) -> Reply:
        return await self.send("GET", path, **kwargs)

    async def delete(self, path: str, **kwargs: Any) -> Reply:
        return await self.send("DELETE", path, **kwargs)

    async def post(
        self, path: str, fields: Mapping[str, Any] | None = None, *, data_file: bytes | None = None, **kwargs: Any
    ) -> Reply:
        """POST fields as ``requests`` does it: urlencoded, or multipart once there is a file."""
        if fields is not None:
            kwargs["data"] = encoded(fields, data_file)
        return await self.send("POST", path, **kwargs)

    async def log_in(self) -> None:
        reply = await self.send("POST", "auth-token/", json={"pfcon_user": USER, "pfcon_password": PASSWORD})
        self.token = reply.expect(200).json()["token"]


def pairs(fields: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Lists repeat the key, empty lists and None send nothing."""
    many = ((name, value if isinstance(value, (list, tuple)) else [value]) for name, value in fields.items())
    return [(name, str(item)) for name, items in many for item in items if item is not None]


def encoded(fields: Mapping[str, Any], data_file: bytes | None = None) -> Any:
    if data_file is None:
        return aiohttp.FormData(pairs(fields), charset="utf-8")
    form = aiohttp.FormData(default_to_multipart=True)
    for name, value in pairs(fields):
        form.add_field(name, value)
    form.add_field("data_file", data_file, filename="data_file")
    return form


@asynccontextmanager
async def client(url: str, *, log_in: bool = True) -> AsyncIterator[Api]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=DEADLINE_S * 3)) as session:
        api = Api(session, url)
        if log_in:
            await api.log_in()
        yield api


async def raw(url: str, *chunks: bytes, half_close: bool = False) -> bytes:
    """Send bytes, and return all that comes back until the daemon closes."""
    async with connection(url) as (reader, writer):
        for chunk in chunks:
            writer.write(chunk)
            await writer.drain()
        if half_close:
            writer.write_eof()
        return await asyncio.wait_for(reader.read(), DEADLINE_S)


@asynccontextmanager
async def connection(url: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A plain connection to the daemon."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


def head(method: str, path: str, headers: Iterable[tuple[str, object]] | Sequence[tuple[str, object]] = ()) -> bytes:
    """The head of a request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: daemon.test", *(f"{name}: {value}" for name, value in headers)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()
