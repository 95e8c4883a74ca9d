"""Routes that show a plugin job at work, which no upstream has: its log as it is written, and where its time went."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import asdict

from aiohttp import web

from pfmoc.dialects import shapes
from pfmoc.dialects.fields import Field
from pfmoc.dialects.operations import Operation
from pfmoc.errors import PfmocError
from pfmoc.http import json_response
from pfmoc.jobs.model import Job
from pfmoc.jobs.service import Jobs

_log = logging.getLogger(__name__)

LOGS = Operation(
    help="Standard output and error together. Of an ended job the last lines; with `follow`, from the beginning and as they come,"
    " until the job has ended or this server stops.",
    text=True,
    query=[Field(name="follow", required=False, help="`true` to go on until the job has ended", bounds={"examples": ["true"]})],
    refusals=[404],
)
STAGES = Operation(
    help="Seconds of each stage: of one that goes on, as far as it has come; null of one not begun, or not told apart.",
    shape=shapes.STAGES,
    refusals=[404],
)
_TRUE = frozenset({"1", "true", "yes", "on", "t", "y"})


async def logs(request: web.Request, jobs: Jobs, job: Job, *, stop: asyncio.Event) -> web.StreamResponse:
    """Answer ``GET .../<id>/logs/``.

    :param stop: ends it early: a log that goes on for days must not keep the server from stopping
    :raises ConnectionError: the client is gone, or was dropped because the log could not be had to its end
    """
    follow = request.query.get("follow", "").lower() in _TRUE
    response = web.StreamResponse(headers={"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"})
    response.content_type, response.charset = "text/plain", "utf-8"
    if not follow:
        text = (await jobs.log(job)).encode()
        response.content_length = len(text)
        await response.prepare(request)
        if request.method != "HEAD":
            await response.write(text)
        await response.write_eof()
        return response
    await response.prepare(request)
    if request.method != "HEAD":
        await _followed(request, response, jobs, job, stop)
    await response.write_eof()
    return response


async def _followed(request: web.Request, response: web.StreamResponse, jobs: Jobs, job: Job, stop: asyncio.Event) -> None:
    try:
        async with aclosing(_until(jobs.follow(job), stop)) as pieces:
            async for piece in pieces:
                await response.write(piece)
    except PfmocError as error:
        # The beginning is with the client already; that this is not the end, only a broken line can tell it.
        if request.transport is not None:
            _log.warning("a log could not be followed to its end", extra={"cause": error.message})
            request.transport.abort()
        raise ConnectionError("the log could not be followed to its end") from error


async def _until(pieces: AsyncGenerator[bytes], stop: asyncio.Event) -> AsyncGenerator[bytes]:
    """Yield the pieces until they end, or are stopped."""

    async def following() -> bytes | None:
        return await anext(pieces, None)

    stopped = asyncio.create_task(stop.wait())
    async with aclosing(pieces):
        try:
            while not stopped.done():
                coming = asyncio.create_task(following())
                try:
                    await asyncio.wait({coming, stopped}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    coming.cancel()  # nothing is lost: either it is done, or nobody waits for it any more
                    await asyncio.wait({coming})
                piece = None if coming.cancelled() else coming.result()
                if piece is None:
                    return
                yield piece
        finally:
            stopped.cancel()
            await asyncio.wait({stopped})


async def stages(jobs: Jobs, job: Job) -> web.StreamResponse:
    """Answer ``GET .../<id>/stages/``."""
    return json_response({"jid": job.jid, **asdict(await jobs.stages(job))})
