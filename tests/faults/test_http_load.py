"""What a crowd, or one very large request, does to the daemon (faults 10, 19, 30).

The daemon is a process of its own, so that its memory is measured and not the test's. It must answer meanwhile; how
fast it does is for ``bench/`` to say.
"""

import asyncio
import contextlib
import resource

import psutil
import pytest
from harness.daemon import serving
from harness.http import PLUGIN, client, connection, head, pairs
from harness.waiting import eventually

MIB = 1 << 20
BOUNDARY = "a-boundary"


def part(name, *, filename=None):
    more = f'; filename="{filename}"' if filename else ""
    return f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode()


async def post_slowly_built(served, api, chunks, *, length, path="/api/v1/pluginjobs/"):
    """POST a body that never exists as a whole; returns the answer."""
    headers = [
        ("Authorization", f"Bearer {api.token}"),
        ("Content-Type", f"multipart/form-data; boundary={BOUNDARY}"),
        ("Content-Length", length),
        ("Connection", "close"),
    ]
    async with connection(served.url) as (reader, writer):
        writer.write(head("POST", path, headers))
        for chunk in chunks:
            writer.write(chunk)
            await writer.drain()
        return await asyncio.wait_for(reader.read(), 120)


@contextlib.asynccontextmanager
async def probed(api):
    """Ask /livez all the time; yields a list that fills with the answers."""
    answers = []

    async def probe():
        while True:
            answers.append((await api.get("/livez")).expect(200))
            await asyncio.sleep(0.005)

    task = asyncio.create_task(probe())
    try:
        yield answers
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.mark.parametrize("outcome", ["spooled", "refused"])
async def test_a_body_of_two_gigabytes_is_not_held_in_memory_and_holds_nobody_up(tmp_path, outcome):
    size = 2048 * MIB
    opening = b"".join(part(name) + value.encode() + b"\r\n" for name, value in pairs({**PLUGIN, "jid": "big"}))
    opening += part("data_file" if outcome == "spooled" else "other", filename="x")
    closing = f"\r\n--{BOUNDARY}--\r\n".encode()
    block = bytes(range(256)) * 4096

    def chunks():
        yield opening
        for _ in range(size // len(block)):
            yield block
        yield closing

    async with serving(tmp_path) as served, client(served.url) as api:
        process = psutil.Process(served.process.pid)
        before = process.memory_info().rss
        peaks = []

        async def watch():
            while True:
                peaks.append(process.memory_info().rss)
                await asyncio.sleep(0.05)

        watcher = asyncio.create_task(watch())
        async with probed(api) as answers:
            answer = await post_slowly_built(served, api, chunks(), length=len(opening) + size + len(closing))
        watcher.cancel()
        assert answer.split()[1] == (b"404" if outcome == "spooled" else b"400")  # there is no such image; or no zip came
        assert len(answers) > 1
        assert max(peaks) - before < 64 * MIB
        await eventually(lambda: not list((tmp_path / "storeBase").rglob("*.part")), what="the spool to be empty")


async def test_a_text_field_of_a_gigabyte_and_a_million_arguments(tmp_path):
    async with serving(tmp_path, PFMOC_BODY_IDLE_S="3") as served, client(served.url) as api:
        process = psutil.Process(served.process.pid)
        before = process.memory_info().rss
        block = b"x" * MIB

        def gigabyte():
            yield part("image")
            for _ in range(1024):
                yield block

        answer = await post_slowly_built(served, api, gigabyte(), length=10**12)
        assert answer.startswith(b"HTTP/1.1 413 ")

        argument = (part("args") + b"value\r\n") * 1000

        def million():
            for _ in range(1000):
                yield argument

        answer = await post_slowly_built(served, api, million(), length=1000 * len(argument))
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert process.memory_info().rss - before < 256 * MIB


async def test_ten_thousand_idle_connections(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 10_500:
        pytest.skip(f"this machine allows {hard} descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 10_500), hard))
    loop = asyncio.get_running_loop()
    async with serving(tmp_path, PFMOC_BODY_IDLE_S="40") as served, client(served.url) as api:
        process = psutil.Process(served.process.pid)
        before, descriptors = process.memory_info().rss, process.num_fds()
        host, port = served.url.removeprefix("http://").split(":")
        transports = []
        for _ in range(100):
            opened = await asyncio.gather(*(loop.create_connection(asyncio.Protocol, host, int(port)) for _ in range(100)))
            transports += [transport for transport, _ in opened]
        async with probed(api) as answers:
            await eventually(lambda: len(answers) >= 200, what="probes", deadline_s=60)
        each = (process.memory_info().rss - before) / len(transports)
        assert each < 64 << 10
        for transport in transports:
            transport.abort()
        await eventually(lambda: process.num_fds() <= descriptors + 5, what="descriptors to come back")
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
