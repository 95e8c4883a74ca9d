"""faults.md row 1: SIGKILL of the daemon at each phase. Nothing lost, nothing doubled, nothing left, one terminal state."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest
from harness.daemon import START_S, launched, serving
from harness.http import PLUGIN, Api, client, connection, encoded, head
from harness.waiting import eventually
from harness.zips import zipped

KILLPOINTS = Path(__file__).with_name("killpoints.py")
IMAGE = "localhost/test/count:1"
JOB = {**PLUGIN, "jid": "j", "image": IMAGE, "entrypoint": ["count"], "args": []}

# Each start of the plugin leaves one line in a file that no restart touches; it ends when it is told to.
SCRIPT = """#!/bin/sh
echo started >> {count}
cp "$1"/a "$2"/a
while [ ! -e {go} ]; do sleep 0.02; done
"""


class Machine:
    """What outlives the daemon."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.storebase = home / "storeBase"
        self.count = home / "count"
        self.go = home / "go"
        program = home / "images/localhost/test/count/1/bin/count"
        program.parent.mkdir(parents=True)
        program.write_text(SCRIPT.format(count=self.count, go=self.go))
        program.chmod(0o755)

    def starts(self) -> int:
        return len(self.count.read_text().splitlines()) if self.count.exists() else 0

    def leftovers(self) -> set[str]:
        """What lies in the storeBase that belongs to no answered job."""
        names = {str(path.relative_to(self.storebase)) for path in self.storebase.rglob("*")}
        return {name for name in names if "partial" in name or "expanded" in name or name.startswith(".pfmoc/spool/")}

    def runs(self) -> list[str]:
        directory = self.home / "state/runs"
        return sorted(path.name for path in directory.iterdir()) if directory.is_dir() else []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


async def submit(api: Api) -> int:
    return (await api.post("pluginjobs/", JOB, data_file=zipped({"a": b"1"}))).status


async def finished(api: Api, kind: str = "plugin", jid: str = "j") -> str:
    async def status() -> str:
        reply = await api.get(f"{kind}jobs/{jid}/")
        word: str = reply.json()["compute"]["status"] if reply.status == 200 else ""
        return word if word.startswith("finished") else ""

    return await eventually(status)


async def is_forgotten(api: Api) -> bool:
    return (await api.get("pluginjobs/j/")).status == 404


async def died_at(machine: Machine, point: str, request: Callable[[Api], Awaitable[object]], **overrides: object) -> None:
    """Run a daemon that dies at a point, make the request that leads there, and see it dead."""
    async with launched(machine.home, str(KILLPOINTS), point, "serve", module=False, **overrides) as served:
        listening = await eventually(lambda: served.event("listening"), deadline_s=START_S)
        async with client(listening["url"]) as api:
            with suppress(aiohttp.ClientError):
                await request(api)
            assert await asyncio.wait_for(served.process.wait(), 20) == -signal.SIGKILL


@pytest.mark.parametrize("point", ["claimed", "unpacked", "staged", "starting"])
async def test_before_the_run_exists_the_job_is_undone(machine, point):
    await died_at(machine, point, submit)
    async with serving(machine.home) as served, client(served.url) as api:
        await eventually(lambda: is_forgotten(api))  # the record is the last thing that goes
        assert not (machine.storebase / "key-j").exists()
        assert machine.leftovers() == set()
        assert await submit(api) == 201
        machine.go.touch()
        assert await finished(api) == "finishedSuccessfully"
        assert machine.starts() == 1


@pytest.mark.parametrize("point", ["started", "answered"])
async def test_once_the_run_exists_it_is_adopted_and_not_doubled(machine, point):
    await died_at(machine, point, submit)
    async with serving(machine.home) as served, client(served.url) as api:
        assert await submit(api) == 201
        machine.go.touch()
        assert await finished(api) == "finishedSuccessfully"
        assert machine.starts() == 1
        assert (machine.storebase / "key-j/outgoing/a").read_bytes() == b"1"


@pytest.mark.parametrize("point", ["claimed", "starting", "started", "answered"])
async def test_a_job_of_pman_is_undone_or_adopted_and_its_callers_data_stay(machine, point):
    dialects = {"PFMOC_DIALECTS": "pfcon6,pman"}
    incoming = machine.storebase / "key-j/incoming"
    incoming.mkdir(parents=True)
    (incoming / "a").write_bytes(b"1")

    async def request(api: Api) -> int:
        return (await api.send("POST", "", json=JOB)).status

    await died_at(machine, point, request, **dialects)
    async with serving(machine.home, **dialects) as served, client(served.url) as api:
        assert await request(api) == 201
        machine.go.touch()
        assert await finished(api) == "finishedSuccessfully"
        assert machine.starts() == 1
        assert (incoming / "a").read_bytes() == (machine.storebase / "key-j/outgoing/a").read_bytes() == b"1"


async def test_while_the_plugin_runs_it_goes_on_and_its_end_is_found(machine):
    async with serving(machine.home) as served, client(served.url) as api:
        assert await submit(api) == 201
        await eventually(machine.starts)
        await served.stop(signal.SIGKILL)
    machine.go.touch()
    async with serving(machine.home) as served, client(served.url) as api:
        assert await finished(api) == "finishedSuccessfully"
        assert machine.starts() == 1


async def test_between_the_end_and_its_record_the_end_is_told_once(machine):
    machine.go.touch()
    await died_at(machine, "ended", until_it_ends)
    async with serving(machine.home) as served, client(served.url) as api:
        assert await finished(api) == "finishedSuccessfully"
        assert machine.starts() == 1


async def until_it_ends(api: Api) -> None:
    await submit(api)
    while True:  # until the daemon, and this connection with it, is gone
        await api.get("pluginjobs/j/")


async def test_while_an_upload_comes_in_nothing_stays(machine):
    body = encoded(JOB, zipped({"a": bytes(200_000)}))()
    boundary = body.boundary
    async with serving(machine.home) as served, client(served.url) as api:
        headers = [
            ("Authorization", f"Bearer {api.token}"),
            ("Content-Type", f"multipart/form-data; boundary={boundary}"),
            ("Content-Length", 10_000_000),
        ]
        part = f'--{boundary}\r\nContent-Disposition: form-data; name="data_file"; filename="x"\r\n\r\n'.encode()
        async with connection(served.url) as (_, writer):
            writer.write(head("POST", "/api/v1/pluginjobs/", headers) + part + bytes(3_000_000))
            await writer.drain()
            spool = machine.storebase / ".pfmoc/spool"
            await eventually(lambda: any(path.stat().st_size for path in spool.glob("*")))
            await served.stop(signal.SIGKILL)
    async with serving(machine.home) as served, client(served.url) as api:
        assert machine.leftovers() == set()
        assert list(machine.storebase.glob("key-*")) == []
        assert (await api.get("pluginjobs/j/")).status == 404


@pytest.mark.parametrize("point", ["copying", "copied"])
async def test_a_copy_that_was_promised_is_made(machine, point):
    (machine.storebase / "home/in").mkdir(parents=True)
    (machine.storebase / "home/out").mkdir()
    for number in range(50):
        (machine.storebase / f"home/in/{number}").write_bytes(b"1")
    copy = {"jid": "j", "input_dirs": ["home/in"], "output_dir": "home/out"}

    async def request(api: Api) -> None:
        await api.post("copyjobs/", copy)

    await died_at(machine, point, request, STORAGE_ENV="fslink")
    async with serving(machine.home, STORAGE_ENV="fslink") as served, client(served.url) as api:
        assert await finished(api, "copy") == "finishedSuccessfully"
        assert len(list((machine.storebase / "key-j/incoming").iterdir())) == 50
        assert machine.leftovers() == set()


async def test_a_deletion_that_was_promised_is_made(machine):
    machine.go.touch()

    async def request(api: Api) -> None:
        await submit(api)
        await finished(api)
        await api.post("deletejobs/", {"jid": "j"})

    await died_at(machine, "deleting", request)
    async with serving(machine.home) as served, client(served.url) as api:
        assert await finished(api, "delete") == "finishedSuccessfully"
        assert not (machine.storebase / "key-j").exists()
        assert (await api.delete("pluginjobs/j/")).status == 204
        assert (await api.delete("deletejobs/j/")).status == 204
        assert machine.runs() == []


async def test_a_daemon_that_is_killed_again_and_again_loses_nothing(machine):
    machine.go.touch()
    answered: set[str] = set()
    for generation in range(4):
        async with serving(machine.home) as served, client(served.url) as api:
            for number in range(3):
                jid = f"j-{generation}-{number}"
                reply = await api.post("pluginjobs/", {**JOB, "jid": jid}, data_file=zipped({"a": b"1"}))
                assert reply.status == 201
                answered.add(jid)
            await served.stop(signal.SIGKILL)
    async with serving(machine.home) as served, client(served.url) as api:
        for jid in sorted(answered):
            assert await finished(api, jid=jid) == "finishedSuccessfully"
    assert machine.starts() == len(answered)
