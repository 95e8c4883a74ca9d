"""The mover as a pod runs it, against the real Swift: what it brings, what it leaves, and how it bears a store that fails."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from harness.box import Box
from harness.pods import Pod
from harness.store_proxy import StoreProxy
from harness.stores import MEBIBYTE, content_of, fill, identity_of, swift_storage
from harness.tenants import Tenant, administrator, sdk_warnings, tenant
from harness.waiting import until

import pfmoc
from pfmoc.data import Tickets
from pfmoc.storage.base import Inputs
from pfmoc.storage.object_storage import Tuning
from pfmoc.storage.swift import SwiftStorage

pytestmark = sdk_warnings
TUNING = Tuning(
    connections=4,
    patience_s=20,
    window_s=1,
    publish_s=30,
    segment_above=4 * MEBIBYTE,
    segment_bytes=3 * MEBIBYTE,
    max_bytes=1 << 40,
)
IDLE_MAX_KIB = 30 << 10


@pytest.fixture(scope="module")
def alice(box: Box) -> Iterator[Tenant]:
    with administrator(box) as admin, tenant(box, admin, "b-mover") as made:
        made.swift.put_container("data")
        yield made


@pytest.fixture
async def storage(box: Box, alice: Tenant, proxy: StoreProxy) -> AsyncIterator[SwiftStorage]:
    """Pods go through the proxy, and so does the daemon."""
    async with swift_storage(identity_of(box, alice, proxy.url), "data", tuning=TUNING) as made:
        yield made


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A directory that any user can get to; pytest's own are its user's alone."""
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


@pytest.fixture
def jid(request: pytest.FixtureRequest) -> str:
    return hashlib.sha256(request.node.name.encode()).hexdigest()[:12]


@pytest.fixture
def inputs(jid: str) -> Inputs:
    return Inputs(jid=jid, input_dirs=[f"home/{jid}/in"], output_dir=f"home/{jid}/out/data")


async def staged(storage: SwiftStorage, inputs: Inputs, tree: dict[str, bytes], *, lifetime_s: float = 600) -> Tickets:
    await fill(storage.store, {f"{inputs.input_dirs[0]}/{name}": content for name, content in tree.items()})
    await storage.stage(inputs)
    return await storage.data(inputs, lifetime_s=lifetime_s)


async def outputs(storage: SwiftStorage, inputs: Inputs) -> dict[str, bytes]:
    return await content_of(storage.store, f"{inputs.output_dir}/")


TREE = {
    "plain": b"plain",
    "empty": b"",
    "a b/ü/日本語/проба.txt": "что-то".encode(),
    "odd/%41 &?#+;=@:'\"\\": b"odd",
    "line\nbreak\u2028and separator": b"lines",
    "deep/" + "x/" * 40 + "file": b"deep",
    "large": os.urandom(3 * MEBIBYTE),
}


async def test_what_is_pulled_is_what_was_stored_and_what_is_published_is_what_was_left(storage, inputs, tmp_path):
    pod = Pod(tmp_path, await staged(storage, inputs, TREE))
    pulled = await pod.pull()
    assert pulled.status == 0, pulled
    assert pod.pulled() == TREE
    assert {name: pulled.message[name] for name in ("phase", "files", "bytes", "error")} == {
        "phase": "pull",
        "files": len(TREE),
        "bytes": sum(map(len, TREE.values())),
        "error": None,
    }
    process = await pod.publisher()
    pod.incoming.rename(tmp_path / "moved")
    pod.outgoing.rmdir()
    (tmp_path / "moved").rename(pod.outgoing)
    published = await pod.end(process)
    assert (published.status, published.message["files"]) == (0, len(TREE))
    assert await outputs(storage, inputs) == TREE
    assert await storage.listing(inputs, "any") == sorted(TREE)
    lines = [
        line
        async for head in storage._heads(storage._places(inputs.jid))
        async for line in storage._lines(storage._places(inputs.jid), head)
    ]
    assert {line["path"]: (line["size"], line["md5"], line["sha256"]) for line in lines} == {
        name: (len(content), hashlib.md5(content, usedforsecurity=False).hexdigest(), hashlib.sha256(content).hexdigest())
        for name, content in TREE.items()
    }


async def test_an_idle_publisher_is_small_and_ends_with_one_signal(storage, inputs, tmp_path):
    pod = Pod(tmp_path, await staged(storage, inputs, {}))
    process = await pod.publisher()
    assert json.loads(pod.message.read_text())["error"] == "ended before it published"
    memory = dict(line.split(":", 1) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines())
    assert int(memory["VmRSS"].split()[0]) < IDLE_MAX_KIB
    assert "aiohttp" not in Path(f"/proc/{process.pid}/maps").read_text()
    (pod.outgoing / "result").write_text("42")
    ended = await pod.end(process)
    assert (ended.status, ended.message["files"], ended.message["error"]) == (0, 1, None)


# Rights


async def ask(method: str, base: str, name: str, query: str, **how: object) -> int:
    async with aiohttp.ClientSession() as session, session.request(method, f"{base}/{quote(name)}?{query}", **how) as answer:  # type: ignore[arg-type]
        await answer.read()
        return answer.status


async def test_a_ticket_opens_its_own_prefixes_and_nothing_else(storage, inputs, jid):
    beside = {
        f"home/{jid}/in2/secret": b"s",
        f"home/{jid}/in.bak": b"s",
        f"home/{jid}/out/data2/x": b"s",
        "key-other/ticket.json": b"{}",
    }
    await fill(storage.store, beside)
    tickets = await staged(storage, inputs, {"mine": b"mine"})
    pull, publish = json.loads(tickets.pull), json.loads(tickets.publish)
    base = pull["base"]
    rights = json.loads(await storage.store.read(f"key-{jid}/ticket.json"))
    reading, manifest = rights["grants"][0], rights["parts"][0]["query"]
    assert await ask("GET", base, f"home/{jid}/in/mine", reading) == 200
    rights_of_all = {reading, manifest, *(each["query"] for each in (pull["ticket"], publish["ticket"], *publish["grants"]))}
    names = (*beside, f"home/{jid}/in/../in2/secret", f"home/{jid}/in%2f..%2fin2/secret")
    tried = [(method, name, query) for query in rights_of_all for name in names for method in ("GET", "PUT")]
    tried += [(method, name, reading) for name in names for method in ("DELETE", "POST", "COPY")]
    answers = await asyncio.gather(*(ask(method, base, name, query) for method, name, query in tried))
    assert set(answers) <= {401, 404}, [each for each, status in zip(tried, answers, strict=True) if status not in (401, 404)]
    assert await ask("GET", base.rpartition("/")[0], "data", reading + "&prefix=") == 401
    # What may be read may not be written, and what may be written may not be read or deleted.
    assert await ask("PUT", base, f"home/{jid}/in/mine", reading, data=b"changed") == 401
    writing = publish["grants"][0]["query"]
    assert await ask("PUT", base, f"{inputs.output_dir}/new", writing, data=b"new") == 201
    for method in ("GET", "DELETE", "POST"):
        assert await ask(method, base, f"{inputs.output_dir}/new", writing) == 401
    assert {name: await storage.store.read(name) for name in beside} == beside
    assert await storage.store.read(f"home/{jid}/in/mine") == b"mine"


async def test_a_right_to_write_makes_no_pointer_to_what_it_may_not_read(storage, inputs, jid):
    await fill(storage.store, {f"secret-{jid}": b"secret"})
    tickets = await staged(storage, inputs, {})
    publish = json.loads(tickets.publish)
    name, query = f"{inputs.output_dir}/spy", publish["grants"][0]["query"]
    for header in (
        {"X-Symlink-Target": f"data/secret-{jid}"},
        {"X-Object-Manifest": "data/secret"},
        {"X-Copy-From": f"data/secret-{jid}"},
    ):
        assert await ask("PUT", publish["base"], name, query, headers=header) == 400
    manifest = json.dumps([{"path": f"/data/secret-{jid}"}])
    await ask("PUT", publish["base"], name, f"{query}&multipart-manifest=put", data=manifest)
    assert await storage.store.read(name) == manifest.encode(), "it is plain text, and points nowhere"


async def test_a_ticket_dies_with_its_time(storage, inputs, tmp_path):
    tickets = await staged(storage, inputs, {"one": b"1"}, lifetime_s=3)
    pod = Pod(tmp_path, tickets)
    (pod.outgoing / "late").write_text("late")
    expires: int = json.loads(tickets.publish)["expires"]
    until(lambda: time.time() > expires + 1, what="the ticket to expire")
    pulled, published = await pod.pull(), await pod.publish()
    assert (pulled.status, pulled.message["error"]) == (1, "the job's ticket to the store has expired")
    assert (published.status, published.message["error"]) == (1, "the job's ticket to the store has expired")
    assert await outputs(storage, inputs) == {}


async def test_secrets_are_in_no_log_and_no_message(storage, inputs, tmp_path, proxy):
    tickets = await staged(storage, inputs, {"one": b"1"})
    pod = Pod(tmp_path, tickets)
    proxy.fail(path="/in/one", status=503, times=2)
    proxy.fail(method="PUT", status=500)
    (pod.outgoing / "one").write_text("1")
    told = [await pod.pull(), await pod.publish()]
    for secret in ("temp_url_sig", "temp_url_expires", storage._rights._key):
        assert secret not in repr(told)
        assert secret not in repr(tickets)


async def test_a_cancelled_job_neither_pulls_nor_publishes(storage, inputs, tmp_path):
    pod = Pod(tmp_path, await staged(storage, inputs, {"one": b"1"}))
    (pod.outgoing / "result").write_text("42")
    process = await pod.publisher()
    await storage.withdraw(inputs.jid)
    await storage.withdraw(inputs.jid)
    ended, pulled = await pod.end(process), await pod.pull()
    assert (ended.status, ended.message["files"], ended.message["error"]) == (0, 0, None)
    assert pulled.status == 1
    assert "cancelled" in pulled.message["error"]
    assert await outputs(storage, inputs) == {}
    assert (await storage.seal(inputs)).files == 0


# Faults while pulling


async def test_a_store_that_is_away_for_a_moment_is_waited_for(storage, inputs, tmp_path, proxy):
    pod = Pod(tmp_path, await staged(storage, inputs, {"one": b"1", "two": b"2"}))
    proxy.fail(method="GET", status=503, times=3, headers={"Retry-After": "1"})
    proxy.fail(method="GET", path="/in/", status=500, times=2)
    proxy.fail(method="GET", path="/in/", cut=0)
    begun = time.monotonic()
    assert (await pod.pull()).status == 0
    assert time.monotonic() - begun >= 1, "Retry-After is kept"
    assert pod.pulled() == {"one": b"1", "two": b"2"}


async def test_a_body_that_breaks_off_goes_on_where_it_was(storage, inputs, tmp_path, proxy):
    content = os.urandom(5 * MEBIBYTE)
    pod = Pod(tmp_path, await staged(storage, inputs, {"large": content}))
    ranges: list[str | None] = []
    proxy.watch = lambda request: ranges.append(request.headers.get("Range")) if "/large" in request.path else None
    proxy.fail(path="/in/large", cut=2 * MEBIBYTE)
    proxy.fail(path="/in/large", cut=MEBIBYTE)
    assert (await pod.pull()).status == 0
    assert pod.pulled() == {"large": content}
    assert [text is None for text in ranges] == [True, False, False]


async def test_bytes_that_are_not_those_of_the_digest_are_fetched_again(storage, inputs, tmp_path, proxy):
    pod = Pod(tmp_path, await staged(storage, inputs, {"one": b"what was stored"}))
    proxy.fail(path="/in/one", damage=True, times=2)
    assert (await pod.pull()).status == 0
    assert pod.pulled() == {"one": b"what was stored"}
    assert proxy.count("GET", "/in/one") == 3


async def test_a_store_that_drips_is_not_waited_for_for_ever(storage, inputs, tmp_path, proxy):
    content = os.urandom(10_000)
    pod = Pod(tmp_path, await staged(storage, inputs, {"one": content}))
    drip = proxy.fail(path="/in/one", drip=0.05, times=1)
    assert (await pod.pull()).status == 0
    assert (pod.pulled(), drip.times) == ({"one": content}, 0)


async def test_what_is_gone_or_another_by_now_fails_the_pull_and_is_named(storage, inputs, tmp_path, proxy):
    tree = {"gone": b"1", "kept": b"2"}
    pod = Pod(tmp_path / "gone", await staged(storage, inputs, tree))
    await storage.store.delete([f"{inputs.input_dirs[0]}/gone"])
    begun = time.monotonic()
    ended = await pod.pull()
    assert (ended.status, time.monotonic() - begun < TUNING.patience_s) == (1, True)
    assert ended.message["error"] == f"{inputs.input_dirs[0]}/gone vanished from the store before it was pulled"
    pod = Pod(tmp_path / "changed", await staged(storage, inputs, tree))
    await fill(storage.store, {f"{inputs.input_dirs[0]}/kept": b"other"})
    ended = await pod.pull()
    assert ended.status == 1
    assert f"{inputs.input_dirs[0]}/kept changed after the job was staged" in ended.message["error"]


async def test_a_full_disk_fails_the_pull_with_the_reason(storage, inputs, tmp_path, root):
    pod = Pod(tmp_path, await staged(storage, inputs, {"large": os.urandom(2 * MEBIBYTE)}))
    small = ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs -o size=1m none {pod.incoming} && exec "$@"', "sh"]
    ended = await pod.pull(prefix=small)
    assert ended.status == 1
    assert "the pod's disk is full" in ended.message["error"]


# Faults while publishing


async def test_outputs_are_kept_while_the_store_is_away_and_published_when_it_is_back(storage, inputs, tmp_path, proxy):
    pod = Pod(tmp_path, await staged(storage, inputs, {}))
    expected = {f"{number}": os.urandom(1000) for number in range(10)}
    for name, content in expected.items():
        (pod.outgoing / name).write_bytes(content)
    proxy.fail(method="HEAD", status=503, times=2)
    proxy.fail(method="PUT", path="/out/", status=500, times=5)
    proxy.fail(method="PUT", path="/out/", cut=0, times=3)
    proxy.fail(method="PUT", path="/output", status=503, times=2)
    ended = await pod.publish()
    assert (ended.status, ended.message["files"]) == (0, 10)
    assert "trying again" in ended.log
    assert await outputs(storage, inputs) == expected
    stored = [name for method, name, status in proxy.seen if (method, status) == ("PUT", 201) and "/out/" in name]
    assert len(stored) <= len(expected) + 3, "what is there is not sent again, unless its answer was lost"


async def test_a_wrong_digest_in_the_answer_is_not_believed(storage, inputs, tmp_path, proxy):
    pod = Pod(tmp_path, await staged(storage, inputs, {}))
    content = os.urandom(2 * MEBIBYTE)
    (pod.outgoing / "large").write_bytes(content)
    proxy.fail(method="PUT", path="/out/", headers={"ETag": "0" * 32}, times=2)
    assert (await pod.publish()).status == 0
    assert proxy.count("PUT", "/out/data/large") == 3
    assert await outputs(storage, inputs) == {"large": content}


async def test_a_publish_that_fails_says_so_when_its_time_is_up_and_can_be_repeated(storage, inputs, alice, tmp_path):
    pod = Pod(tmp_path, await staged(storage, inputs, {}))
    (pod.outgoing / "result").write_bytes(bytes(5000))
    alice.swift.post_container("data", {"X-Container-Meta-Quota-Bytes": "1"})
    try:
        ended = await pod.publish("--deadline", "8")
    finally:
        alice.swift.post_container("data", {"X-Container-Meta-Quota-Bytes": ""})
    assert ended.status == 1
    assert ended.message["error"] == "the store is full: its quota is used up, or it has no space left"
    assert (await storage.seal(inputs)).files == 0
    assert (await pod.publish()).status == 0
    assert await outputs(storage, inputs) == {"result": bytes(5000)}


async def test_large_outputs_go_in_segments_and_only_the_broken_one_goes_again(storage, inputs, tmp_path, proxy):
    pod = Pod(tmp_path, await staged(storage, inputs, {}))
    content = os.urandom(10 * MEBIBYTE)
    (pod.outgoing / "huge").write_bytes(content)
    proxy.fail(method="PUT", path="segments", status=503, times=1)
    proxy.fail(method="PUT", path="00002?", cut=0, times=1)
    assert (await pod.publish()).status == 0
    assert proxy.count("PUT", "segments") == 6, "four, and two again"
    assert await outputs(storage, inputs) == {}, "the daemon puts it together"
    sealed = await storage.seal(inputs)
    assert (sealed.files, sealed.size) == (1, len(content))
    assert await outputs(storage, inputs) == {"huge": content}
    # It is input of the next job, by a right to the prefix that it is in.
    following = Inputs(jid=f"{inputs.jid}-next", input_dirs=[str(inputs.output_dir)], output_dir="home/next")
    await storage.stage(following)
    pod = Pod(tmp_path / "next", await storage.data(following, lifetime_s=600))
    proxy.fail(method="GET", path="/huge", cut=5 * MEBIBYTE)
    assert (await pod.pull()).status == 0
    assert pod.pulled() == {"huge": content}
    await storage.discard(inputs.jid)
    assert await outputs(storage, inputs) == {"huge": content}, "its segments are the user's"


async def test_outputs_go_after_as_many_days_as_the_container_says(storage, inputs, alice, tmp_path):
    alice.swift.post_container("data", {"X-Container-Meta-Pfmoc-Expire-After-Days": "3"})
    try:
        pod = Pod(tmp_path, await staged(storage, inputs, {"in": b"1"}))
        (pod.outgoing / "small").write_bytes(b"1")
        (pod.outgoing / "huge").write_bytes(os.urandom(5 * MEBIBYTE))
        assert (await pod.publish()).status == 0
        assert (await storage.seal(inputs)).files == 2
    finally:
        alice.swift.post_container("data", {"X-Container-Meta-Pfmoc-Expire-After-Days": ""})
    ends = {}
    for entry in alice.swift.get_container("data", full_listing=True)[1]:
        if inputs.jid in entry["name"]:
            ends[entry["name"]] = alice.swift.head_object("data", entry["name"]).get("x-delete-at")
    going = {name for name, end in ends.items() if end}
    days = {round((int(ends[name]) - time.time()) / 86_400, 1) for name in going}
    assert days == {3.0}
    segments = {name for name in ends if name.startswith(".pfmoc/segments/")}
    assert len(segments) == 2
    assert going == segments | {f"{inputs.output_dir}/{name}" for name in ("small", "huge")}, "inputs and manifests stay"


# What a plugin may leave


async def test_links_and_what_is_no_file_stay_and_sparse_files_are_accounted(storage, inputs, tmp_path):
    pod = Pod(tmp_path, await staged(storage, inputs, {}))
    out = pod.outgoing
    (out / "sub").mkdir()
    (out / "sub/result").write_text("42")
    (out / "evil.chrislink").write_text("home")
    (out / "sub/other.chrislink").write_text("/")
    (out / "passwd").symlink_to("/etc/passwd")
    (out / "etc").symlink_to("/etc")
    os.mkfifo(out / "fifo")
    (out / "setuid").write_text("#!/bin/sh")
    (out / "setuid").chmod(0o6755)
    with (out / "sparse").open("wb") as file:
        file.truncate(3 * MEBIBYTE)
    ended = await pod.publish()
    assert (ended.status, ended.message["dropped_links"], ended.message["skipped"]) == (0, 2, 3)
    assert sorted(await outputs(storage, inputs)) == ["setuid", "sparse", "sub/result"]
    assert ended.message["bytes"] >= 3 * MEBIBYTE > ended.message["allocated"]
    sealed = await storage.seal(inputs)
    assert (sealed.dropped_links, sealed.files) == (2, 3)
    assert sealed.allocated < sealed.size


async def test_a_sparse_file_beyond_every_limit_is_refused_before_a_byte_is_sent(storage, inputs, tmp_path, proxy):
    pod = Pod(tmp_path, await staged(storage, inputs, {}))
    with (pod.outgoing / "sparse").open("wb") as file:
        file.truncate(2 << 40)
    ended = await pod.publish()
    assert ended.status == 1
    assert "the limit is 1099511627776" in ended.message["error"]
    assert "sparse" in ended.message["error"]
    assert not proxy.count("PUT", "/out/")


async def test_names_that_swift_refuses_fail_clearly_and_all_others_are_published(storage, inputs, tmp_path):
    pod = Pod(tmp_path, await staged(storage, inputs, {}))
    (pod.outgoing / "good").write_text("good")
    (Path(os.fsdecode(os.fsencode(pod.outgoing) + b"/not-\xff-utf8"))).write_text("bad")
    long = pod.outgoing.joinpath(*["d" * 250] * 4)
    long.mkdir(parents=True)
    (long / "file").write_text("bad")
    ended = await pod.publish()
    assert ended.status == 1
    assert "not-\\udcff-utf8" in ended.message["error"]
    assert "the store takes no name that is not UTF-8" in ended.message["error"]
    assert await outputs(storage, inputs) == {"good": b"good"}
    assert await storage.listing(inputs, "any") == ["good"]


async def test_several_workers_publish_side_by_side(storage, inputs, tmp_path):
    tickets = await staged(storage, inputs, {})
    pods = [Pod(tmp_path / str(index), tickets) for index in range(3)]
    large = {f"large-{index}": os.urandom(5 * MEBIBYTE) for index in range(3)}
    for index, pod in enumerate(pods):
        (pod.outgoing / f"part-{index}").write_text(str(index))
        (pod.outgoing / f"large-{index}").write_bytes(large[f"large-{index}"])
    ended = await asyncio.gather(*(pod.publish("--index", str(index)) for index, pod in enumerate(pods)))
    assert [each.status for each in ended] == [0, 0, 0]
    assert await storage.listing(inputs, "any") == [*large, "part-0", "part-1", "part-2"]
    assert (await storage.seal(inputs)).files == 6
    assert await outputs(storage, inputs) == large | {f"part-{index}": str(index).encode() for index in range(3)}


async def test_it_works_as_any_user_on_a_root_that_is_read_only(storage, inputs, open_path, root):
    tmp_path = open_path
    pod = Pod(tmp_path, await staged(storage, inputs, {"dir/one": b"1"}))
    for path in (tmp_path, *tmp_path.iterdir()):
        os.chown(path, 0, 0)
        path.chmod(0o775 if path.is_dir() else 0o640)
    (pod.outgoing / "result").write_text("42")
    user = "setpriv --reuid 1000680000 --regid 0 --clear-groups"
    script = f'mount --bind {tmp_path} {tmp_path} && mount -o remount,bind,ro / && exec {user} "$@"'
    confined = ["unshare", "--mount", "sh", "-c", script, "sh"]
    # Whoever it is, it reaches neither root's home nor this checkout. The mover needs nothing but Python.
    shutil.copytree(Path(pfmoc.__file__).parent, tmp_path / "site/pfmoc", ignore=shutil.ignore_patterns("__pycache__"))
    alone: dict[str, Any] = {"prefix": confined, "python": "/usr/bin/python3", "path": str(tmp_path / "site")}
    pulled = await pod.pull(**alone)
    assert (pulled.status, pod.pulled()) == (0, {"dir/one": b"1"})
    assert (pod.incoming / "dir/one").stat().st_uid == 1000680000
    process = await pod.publisher(**alone)
    assert (await pod.end(process)).status == 0
    assert await outputs(storage, inputs) == {"result": b"42"}


async def test_what_is_no_ticket_is_an_error_of_its_own(tmp_path):
    pod = Pod(tmp_path, Tickets(pull="no json", publish='{"version": 99}'))
    pulled, published = await pod.pull(), await pod.publish()
    assert (pulled.status, published.status) == (2, 2)
    assert pulled.message["error"] == "the ticket is no JSON"
    assert "the same image" in published.message["error"]
