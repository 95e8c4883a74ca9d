"""The file route of a plugin job: a JSON listing where the network shares the storage, a zip where it does not (contract 2.6)."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from urllib.parse import quote

from aiohttp import web

from pfmoc.errors import Conflict, NoSuchData, PfmocError
from pfmoc.http import NOT_FOUND, Refusal
from pfmoc.jobs.service import Jobs
from pfmoc.storage import zip_out

_log = logging.getLogger(__name__)

MEASURE_BYTES = 64 << 20
"""A zip of no more than this is measured before it is sent, so that its answer has a length: the counting pass compresses
everything once more, which at 64 MiB takes about a second. Larger ones are sent in chunks of unknown number."""

_ONE_RANGE = re.compile(r"bytes=(\d*)-(\d*)", re.ASCII)


async def answer(request: web.Request, jobs: Jobs, jid: str) -> web.StreamResponse:
    """Answer ``GET .../<id>/file/``."""
    try:
        return await (_listing if jobs.storage.innetwork else _zip)(request, jobs, jid)
    except NoSuchData:
        raise Refusal(404, NOT_FOUND) from None


async def _listing(request: web.Request, jobs: Jobs, jid: str) -> web.StreamResponse:
    path = request.query.get("job_output_path", "").strip("/")
    if not path:  # nor is "/": that is not the output of a job but the whole storeBase
        raise Refusal(400, "job_output_path: query parameter is required")
    names = await jobs.listing(jid, path)
    body = json.dumps({"job_output_path": path, "rel_file_paths": names}).encode("ascii")
    return web.Response(body=body, headers=_attachment(jid, "json"), content_type="application/json")


async def _zip(request: web.Request, jobs: Jobs, jid: str) -> web.StreamResponse:
    plan = await zip_out.plan(jobs.zip_root(jid))
    etag = f'"{plan.tag}"'
    wanted = request.headers.get("Range")
    if wanted is not None and request.headers.get("If-Range", etag) != etag:
        wanted = None  # the client's part is of another archive: it gets the whole of this one
    length = None
    if request.method == "HEAD" or wanted is not None:
        length = await plan.measure()
    elif plan.size <= MEASURE_BYTES:
        with suppress(Conflict):  # the job still writes; what there is can be sent all the same
            length = await plan.measure()
    headers = {**_attachment(jid, "zip"), "Accept-Ranges": "bytes", "ETag": etag}
    span = None if wanted is None or length is None else _span(wanted, length, headers)
    response = web.StreamResponse(status=200 if span is None else 206, headers=headers)
    response.content_type = "application/zip"
    if length is not None:
        start, stop = span or (0, length)
        response.content_length = stop - start
        if span is not None:
            response.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{length}"
        return await _sent(request, response, plan.stream(start, stop))
    return await _sent(request, response, plan.stream(0, None))


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
