"""Downloads that break, from servers that can and cannot go on."""

from __future__ import annotations

import re

import pytest
from aiohttp import web
from harness.zips import zipped

from pfmoc.workflow.dialects import Pfcon6, ServerInfo
from pfmoc.workflow.download import Download
from pfmoc.workflow.problems import Damaged, LostContact, Refused
from pfmoc.workflow.transport import ZipTransport

DATA = bytes(range(256)) * 4096


class Archive:
    """Serves bytes, and breaks off where it is told to."""

    def __init__(self, data=DATA, *, etag='"v1"', ranges=True, length=True) -> None:
        self.data = data
        self.etag = etag
        self.ranges = ranges
        self.length = length
        self.breaks: list[int] = []
        self.asked: list[str | None] = []

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        wanted = request.headers.get("Range")
        self.asked.append(wanted)
        headers = {}
        if self.etag:
            headers["ETag"] = self.etag
        if self.ranges:
            headers["Accept-Ranges"] = "bytes"
        start = 0
        if wanted and self.ranges and request.headers.get("If-Range", self.etag) == self.etag:
            start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])
        if start >= len(self.data) and start:
            return web.Response(status=416, headers={"Content-Range": f"bytes */{len(self.data)}"})
        response = web.StreamResponse(status=206 if start else 200, headers=headers)
        if start:
            response.headers["Content-Range"] = f"bytes {start}-{len(self.data) - 1}/{len(self.data)}"
        if self.length:
            response.content_length = len(self.data) - start
        await response.prepare(request)
        stop = self.breaks.pop(0) if self.breaks else None
        await response.write(self.data[start:stop])
        if stop is not None:
            request.transport.close()
        else:
            await response.write_eof()
        return response


@pytest.fixture
def fetch(script, server, tmp_path):
    async def fetch(archive) -> tuple[bytes, list[tuple[int, int | None]]]:
        script.answer = archive
        seen = []
        download = Download(
            server, "pluginjobs/j/file/", tmp_path / "a.zip", progress=lambda done, total: seen.append((done, total))
        )
        await download.run()
        return (tmp_path / "a.zip").read_bytes(), seen

    return fetch


@pytest.mark.parametrize("length", [True, False])
async def test_a_break_is_gone_on_with(fetch, length):
    archive = Archive(length=length)
    archive.breaks = [300_000, 700_000]
    data, seen = await fetch(archive)
    assert data == DATA
    assert len(archive.asked) == 3
    assert archive.asked[0] is None
    assert None not in archive.asked[1:]
    assert seen[-1] == (len(DATA), len(DATA))


async def test_a_server_without_ranges_is_asked_for_the_whole_again(fetch):
    archive = Archive(etag="", ranges=False)
    archive.breaks = [300_000]
    assert (await fetch(archive))[0] == DATA
    assert archive.asked == [None, None]


async def test_an_archive_that_changed_is_fetched_from_its_beginning(fetch):
    archive = Archive()
    archive.breaks = [300_000]
    others = iter(['"v1"', '"v2"'])
    whole = archive.__call__

    async def changing(request) -> web.StreamResponse:
        archive.etag = next(others)
        if archive.etag == '"v2"':
            archive.data = DATA[::-1]
        return await whole(request)

    data, _ = await fetch(changing)
    assert data == DATA[::-1]


async def test_a_download_of_an_earlier_process_is_gone_on_with(fetch, server, tmp_path):
    archive = Archive()
    archive.breaks = [400_000] + [0] * 1000
    server.resource.entry = server.resource.entry.model_copy(update={"patience": 0.3})
    with pytest.raises(LostContact):
        await fetch(archive)
    kept = (tmp_path / "a.zip").stat().st_size
    assert kept
    archive.breaks = []
    archive.asked = []
    assert (await fetch(archive))[0] == DATA
    assert archive.asked == [f"bytes={kept}-"]


async def test_a_whole_archive_is_not_fetched_again(fetch):
    archive = Archive()
    await fetch(archive)
    archive.asked = []
    assert (await fetch(archive))[0] == DATA
    assert archive.asked == [f"bytes={len(DATA)}-"]


async def test_no_archive_is_a_refusal(fetch):
    with pytest.raises(Refused, match="status 404"):
        await fetch(lambda _: web.json_response({"message": "gone"}, status=404))


async def test_two_parts_that_do_not_fit_are_fetched_anew(script, server, tmp_path):
    """Without a tag nobody says that an archive changed between its parts: its checksums do."""
    first, second = zipped({"a": "one" * 1000}), zipped({"a": "two" * 1000})
    size = min(len(first), len(second))
    assert len(first) == len(second) == size
    archive = Archive(first, etag="")
    archive.breaks = [size // 2]
    whole = archive.__call__

    async def changing(request) -> web.StreamResponse:
        response = await whole(request)
        archive.data = second
        return response

    script.answer = changing
    info = ServerInfo(
        dialect="pfcon 6", version="", innetwork=False, storage="zipfile", requires_copy=False, requires_upload=False
    )
    transport = ZipTransport(Pfcon6(server, info))
    manifest = await transport.fetch("j", archive=tmp_path / "a.zip", into=tmp_path / "out", moved=lambda *_: None)
    assert [file.name for file in manifest.files] == ["a"]
    assert (tmp_path / "out/a").read_text() == "two" * 1000
    assert len(archive.asked) == 3

    script.answer = Archive(b"never a zip")
    with pytest.raises(Damaged):
        await transport.fetch("k", archive=tmp_path / "b.zip", into=tmp_path / "out", moved=lambda *_: None)
