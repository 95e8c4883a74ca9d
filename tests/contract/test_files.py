"""The file route (contract 2.6)."""

import asyncio
import json
import os
from contextlib import suppress

import aiohttp
import psutil
import pytest
from harness.http import PLUGIN, client, connection, head
from harness.trees import plant
from harness.waiting import eventually
from harness.zips import unzipped, zipped

from pfmoc.dialects.files import _disposition

FILES = {"a.txt": b"a" * 1000, "sub/b.bin": bytes(range(256)) * 40, "empty": b"", "sub/deep/ünï.txt": b"x"}


async def plugin_job(api, jid, files, **fields):
    """A job whose output is there."""
    reply = await api.post("pluginjobs/", {**PLUGIN, "jid": jid, **fields}, data_file=zipped({"in.txt": b"x"}))
    reply.expect(201)
    return reply


@pytest.fixture
async def zip_daemon(serve):
    async with serve("zipfile", PFMOC_BODY_IDLE_S="2") as daemon:
        yield daemon


@pytest.fixture
async def api(zip_daemon):
    async with client(zip_daemon.url) as api:
        yield api


@pytest.fixture
async def outgoing(api, compute):
    await plugin_job(api, "j", {})
    return compute.started[0].mounts.outgoing


@pytest.fixture(params=["pluginjobs", "jobs"])
def route(request):
    return f"{request.param}/j/file/"


async def test_an_empty_job_is_an_empty_zip(api, outgoing, route):
    reply = (await api.get(route)).expect(200)
    assert len(reply.body) == 22
    assert unzipped(reply.body) == {}


async def test_a_zip_has_its_length_and_every_file(api, outgoing, route):
    plant(outgoing, FILES)
    (outgoing / "link").symlink_to("/etc/passwd")
    (outgoing / "empty-dir").mkdir()
    (outgoing / "x.chrislink").write_text("home/bob")
    reply = (await api.get(route + "?job_output_path=ignored")).expect(200)
    assert unzipped(reply.body) == FILES
    assert reply.headers["Content-Type"] == "application/zip"
    assert reply.headers["Content-Disposition"] == "attachment; filename=j.zip"
    assert reply.headers["Cache-Control"] == "no-cache"
    assert int(reply.headers["Content-Length"]) == len(reply.body)


async def test_head_knows_the_length_and_sends_nothing(api, outgoing, route):
    plant(outgoing, FILES)
    whole = await api.get(route)
    reply = (await api.send("HEAD", route)).expect(200)
    assert reply.body == b""
    assert reply.headers["Content-Length"] == str(len(whole.body))
    assert reply.headers["ETag"] == whole.headers["ETag"]


@pytest.mark.parametrize(
    ("wanted", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-99", 10, 100),
        ("bytes=500-", 500, None),
        ("bytes=-22", -22, None),
        ("bytes=0-999999999", 0, None),
        ("bytes=-999999999", 0, None),
    ],
)
async def test_a_range(api, outgoing, route, wanted, start, stop):
    plant(outgoing, FILES)
    whole = (await api.get(route)).body
    reply = (await api.get(route, headers={"Range": wanted})).expect(206)
    assert reply.body == whole[start:stop]
    first = start % len(whole)
    assert reply.headers["Content-Range"] == f"bytes {first}-{first + len(reply.body) - 1}/{len(whole)}"


@pytest.mark.parametrize("wanted", ["bytes=999999999-", "bytes=-0"])
async def test_a_range_outside_of_the_file(api, outgoing, route, wanted):
    plant(outgoing, FILES)
    whole = (await api.get(route)).body
    reply = (await api.get(route, headers={"Range": wanted})).expect(416)
    assert reply.headers["Content-Range"] == f"bytes */{len(whole)}"


@pytest.mark.parametrize(
    "wanted", ["bytes=", "bytes=-", "bytes=5-2", "bytes=0-1,5-6", "lines=0-1", "bytes=a-b", "bytes=1-2-3", "", "bytes=\u0661-"]
)
async def test_a_range_that_makes_no_sense_is_the_whole(api, outgoing, route, wanted):
    plant(outgoing, FILES)
    reply = (await api.get(route, headers={"Range": wanted})).expect(200)
    assert unzipped(reply.body) == FILES


async def test_a_download_goes_on_only_while_the_archive_is_the_same(api, outgoing, route):
    plant(outgoing, FILES)
    whole = await api.get(route)
    same = await api.get(route, headers={"Range": "bytes=100-", "If-Range": whole.headers["ETag"]})
    assert same.expect(206).body == whole.body[100:]
    plant(outgoing, {"a.txt": b"other"})
    changed = (await api.get(route, headers={"Range": "bytes=100-", "If-Range": whole.headers["ETag"]})).expect(200)
    assert unzipped(changed.body)["a.txt"] == b"other"


async def test_a_large_zip_comes_in_chunks(api, outgoing, route, monkeypatch):
    monkeypatch.setattr("pfmoc.dialects.files.MEASURE_BYTES", 1000)
    plant(outgoing, FILES)
    reply = (await api.get(route)).expect(200)
    assert "Content-Length" not in reply.headers
    assert reply.headers["Transfer-Encoding"] == "chunked"
    assert unzipped(reply.body) == FILES
    assert (await api.get(route, headers={"Range": "bytes=0-9"})).expect(206).body == reply.body[:10]


async def test_an_archive_that_cannot_be_finished_breaks_off(api, outgoing, route, monkeypatch):
    plant(outgoing, {"a": b"x" * 4_000_000})
    monkeypatch.setattr("pfmoc.dialects.files.MEASURE_BYTES", 1000)

    async def stream(self, start=0, stop=None):
        yield b"PK" * 100_000
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("pfmoc.storage.zip_out.Plan.stream", stream)
    with pytest.raises(aiohttp.ClientError):
        await api.get(route)
    monkeypatch.undo()
    (await api.get(route)).expect(200)


async def test_clients_that_leave_in_the_middle_leave_nothing(zip_daemon, api, outgoing, route):
    plant(outgoing, {f"{number}": os.urandom(1 << 20) for number in range(24)})
    process = psutil.Process()
    await api.get("pluginjobs/")
    descriptors, tasks = process.num_fds(), len(asyncio.all_tasks())
    for _ in range(10):
        async with connection(zip_daemon.url) as (reader, writer):
            writer.write(head("GET", f"/api/v1/{route}", [("Authorization", f"Bearer {api.token}")]))
            await reader.readexactly(100_000)
    await eventually(lambda: zip_daemon._in_flight == 0, what="the downloads to end")
    await eventually(lambda: process.num_fds() <= descriptors, what="descriptors to come back")
    await eventually(lambda: len(asyncio.all_tasks()) <= tasks, what="tasks to end")


async def test_a_client_that_stops_reading_is_dropped(zip_daemon, api, outgoing, route):
    plant(outgoing, {f"{number}": os.urandom(1 << 20) for number in range(24)})
    async with connection(zip_daemon.url) as (reader, writer):
        writer.write(head("GET", f"/api/v1/{route}", [("Authorization", f"Bearer {api.token}")]))
        await reader.readexactly(1000)
        await eventually(lambda: zip_daemon._in_flight == 0, what="the download to be given up")


async def test_downloads_work_while_the_job_writes(api, outgoing, route):
    plant(outgoing, FILES)
    stop = asyncio.Event()

    async def churn():
        number = 0
        while not stop.is_set():
            (outgoing / "grows").write_bytes(b"x" * (number := number + 1))
            await asyncio.sleep(0)

    writer = asyncio.create_task(churn())
    try:
        for _ in range(10):
            with suppress(aiohttp.ClientError):  # broken off, rather than a wrong archive
                reply = await api.get(route)
                if reply.status == 503:
                    assert reply.headers["Retry-After"] == "1"
                else:
                    assert set(unzipped(reply.expect(200).body)) >= set(FILES)
    finally:
        stop.set()
        await writer
    assert set(unzipped((await api.get(route)).expect(200).body)) == {*FILES, "grows"}


@pytest.mark.parametrize("storage", ["filesystem", "fslink"])
async def test_a_listing(serve, storebase, storage):
    out = storebase / "home" / "bob"
    plant(out, FILES)
    async with serve(storage) as daemon, client(daemon.url) as api:
        for kind in ("pluginjobs", "jobs"):
            for path in ("home/bob", "/home/bob/", "home/bob/"):
                reply = (await api.get(f"{kind}/j/file/", params={"job_output_path": path})).expect(200)
                document = json.loads(reply.body)
                assert document["job_output_path"] == "home/bob"
                assert sorted(document["rel_file_paths"]) == sorted(FILES)
                assert not reply.body.endswith(b"\n")
                assert reply.body.isascii()
                assert reply.headers["Content-Type"] == "application/json"
                assert reply.headers["Content-Disposition"] == "attachment; filename=j.json"
                assert reply.headers["Cache-Control"] == "no-cache"
                assert int(reply.headers["Content-Length"]) == len(reply.body)
            head_reply = await api.send("HEAD", f"{kind}/j/file/?job_output_path=home/bob")
            assert (head_reply.status, head_reply.headers["Content-Length"]) == (200, reply.headers["Content-Length"])


async def test_names_that_clients_do_not_escape(serve, storebase):
    for name in ("with blank", "ünï", "a,b;c", "100%"):
        plant(storebase / "home" / name, {"f": b""})
    async with serve("filesystem") as daemon, client(daemon.url) as api:
        for query, name in (
            ("with%20blank", "with blank"),
            ("%C3%BCn%C3%AF", "ünï"),
            ("a,b;c", "a,b;c"),
            ("100%25", "100%"),
            ("100%", "100%"),
        ):
            async with connection(daemon.url) as (reader, writer):
                path = f"/api/v1/pluginjobs/j/file/?job_output_path=home/{query}"
                writer.write(head("GET", path, [("Authorization", f"Bearer {api.token}"), ("Connection", "close")]))
                answer = await reader.read()
            assert json.loads(answer.partition(b"\r\n\r\n")[2])["job_output_path"] == f"home/{name}"


def test_a_name_that_is_not_ascii():
    assert _disposition("j.zip") == "attachment; filename=j.zip"
    assert _disposition("ü.zip") == "attachment; filename=_.zip; filename*=UTF-8''%C3%BC.zip"
