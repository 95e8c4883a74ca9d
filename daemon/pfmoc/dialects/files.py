"""The file route of a plugin job: a JSON listing where the network shares the storage, a zip where it does not (contract 2.6)."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from aiohttp import web

from pfmoc.dialects import shapes
from pfmoc.dialects.fields import Field
from pfmoc.dialects.operations import Operation
from pfmoc.errors import NoSuchData, PfmocError
from pfmoc.http import NOT_FOUND, Refusal
from pfmoc.jobs.service import Jobs
from pfmoc.storage import zip_objects, zip_out
from pfmoc.storage.base import Storage
from pfmoc.storage.packing import Changed

_log = logging.getLogger(__name__)

MEASURE_BYTES = 64 << 20
"""A zip of no more than this is measured before it is sent, so that its answer has a length: the counting pass compresses
everything once more, which at 64 MiB takes about a second. Larger ones are sent in chunks of unknown number."""

_OUTPUT_PATH = Field(
    name="job_output_path",
    required=True,
    help="the job's output directory, relative to the storage's root",
    bounds={"pattern": "[^/]"},
)
_ONE_RANGE = re.compile(r"bytes=(\d*)-(\d*)", re.ASCII)


def operation(storage: Storage) -> Operation:
    """The route for the API's description: what it answers depends on the storage."""
    if storage.innetwork:
        help_ = "The names of the files; the files themselves are in the storage that server and client share."
        if storage.objects:
            help_ += " Without `job_output_path`, the files themselves, as a zip."
        output = replace(_OUTPUT_PATH, required=not storage.objects)
        refusals = [404] if storage.objects else [400, 404]
        return Operation(help=help_, shape=shapes.LISTING, query=[output], refusals=refusals, or_archive=storage.objects)
    help_ = "At any time, also while the job runs. Only an answer to a request with Range, or to HEAD, always has a length."
    return Operation(help=help_, archive=True, refusals=[404])


async def answer(request: web.Request, jobs: Jobs, jid: str, *, named: bool = True, brings: bool = False) -> web.StreamResponse:
    """Answer ``GET .../<id>/file/``.

    :param named: False leaves a zip without a file name, as pfcon 3 does
    :param brings: True where the question itself brings the output to the path that it names, as with pfcon 5 (contract 3.1)
    """
    try:
        if jobs.storage.objects and "job_output_path" not in request.query:
            return await _archive(request, jobs, jid)
        if jobs.storage.innetwork:
            return await _listing(request, jobs, jid, brings=brings)
        return await _zip(request, jobs, jid, named=named)
    except NoSuchData:
        raise Refusal(404, NOT_FOUND) from None


async def send(request: web.Request, plan: zip_out.Plan, jid: str) -> web.StreamResponse:
    """Send an archive, whole.

    :raises ConnectionError: the client is gone, or was dropped because the archive could not be sent to its end
    """
    response = web.StreamResponse(headers=_attachment(jid, "zip"))
    response.content_type = "application/zip"
    response.content_length = plan.length
    return await _sent(request, response, plan.stream())


async def _listing(request: web.Request, jobs: Jobs, jid: str, *, brings: bool) -> web.StreamResponse:
    told = request.query.get("job_output_path", "")
    # Of an object's name a slash at the end is a part, and upstream repeats it (contract 2.6).
    path = told.lstrip("/") if jobs.storage.objects else told.strip("/")
    if not path:  # nor is "/": that is not the output of a job but the whole storeBase
        raise Refusal(400, "job_output_path: query parameter is required")
    if brings and jobs.storage.requires_upload:
        await jobs.outputs.upload(jid, path)
    names = await jobs.outputs.listing(jid, path)
    body = json.dumps({"job_output_path": path, "rel_file_paths": names}).encode("ascii")
    return web.Response(body=body, headers=_attachment(jid, "json"), content_type="application/json")


async def _zip(request: web.Request, jobs: Jobs, jid: str, *, named: bool) -> web.StreamResponse:
    ranged = request.headers.get("Range")
    plan = await _planned(jobs.outputs.zip_root(jid), measured=request.method == "HEAD" or ranged is not None)
    etag = f'"{plan.tag}"'
    headers = {**(_attachment(jid, "zip") if named else {}), "Accept-Ranges": "bytes", "ETag": etag}
    span = None
    if ranged is not None and plan.length is not None and request.headers.get("If-Range", etag) == etag:
        span = _span(ranged, plan.length, headers)
    start, stop = span or (0, plan.length)
    response = web.StreamResponse(status=206 if span else 200, headers=headers)
    response.content_type = "application/zip"
    if stop is not None:
        response.content_length = stop - start
    if span:
        response.headers["Content-Range"] = f"bytes {start}-{span[1] - 1}/{plan.length}"
    return await _sent(request, response, plan.stream(start, stop))


async def _archive(request: web.Request, jobs: Jobs, jid: str) -> web.StreamResponse:
    """Send what is in an object store. How long it will be is not known."""
    source = await jobs.outputs.archive(jid)
    response = web.StreamResponse(headers=_attachment(jid, "zip"))
    response.content_type = "application/zip"
    return await _sent(request, response, zip_objects.stream(source))


async def _planned(root: Path, *, measured: bool) -> zip_out.Plan:
    """Look over the output, and measure its archive where the answer needs a length or where that is quick.

    A job that still writes is looked over again a few times.

    :raises StorageUnavailable: it does not hold still
    """
    for last in (False, False, True):
        plan = await zip_out.plan(root)
        if not measured and plan.size > MEASURE_BYTES:
            break
        try:
            await plan.measure()
            break
        except Changed:
            if last:
                raise
    return plan


async def _sent(request: web.Request, response: web.StreamResponse, pieces: AsyncGenerator[bytes, None]) -> web.StreamResponse:
    """Send the archive. One that cannot be finished breaks off: nobody may take its beginning for the whole.

    :raises ConnectionError: the client is gone, or was dropped
    """
    await response.prepare(request)
    async with aclosing(pieces):
        if request.method == "HEAD":
            return response
        try:
            async for piece in pieces:
                await response.write(piece)
        except (OSError, PfmocError) as error:
            if request.transport is not None:
                _log.warning("download broken off", extra={"cause": str(error)}, exc_info=error)
                request.transport.abort()
            raise ConnectionError("the archive could not be sent to its end") from error
    await response.write_eof()
    return response


def _span(header: str, length: int, headers: dict[str, str]) -> tuple[int, int] | None:
    """Read a ``Range`` of one part; several parts, or another unit, are answered with the whole.

    :raises Refusal: 416, nothing of the archive lies in it
    """
    match = _ONE_RANGE.fullmatch(header.strip())
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if first:
        start, stop = int(first), min(int(last) + 1, length) if last else length
        if last and int(last) < int(first):
            return None
    else:
        start, stop = max(0, length - int(last)), length
    if start >= stop:
        raise Refusal(
            416, "The requested range lies outside of the file.", headers={**headers, "Content-Range": f"bytes */{length}"}
        )
    return start, stop


def _attachment(jid: str, suffix: str) -> dict[str, str]:
    return {"Content-Disposition": _disposition(f"{jid}.{suffix}"), "Cache-Control": "no-cache"}


def _disposition(name: str) -> str:
    plain = name.encode("ascii", "replace").decode().replace("?", "_")
    if plain == name:
        return f"attachment; filename={name}"
    return f"attachment; filename={plain}; filename*=UTF-8''{quote(name)}"
