"""Storage in an object store, as clients of pfcon 6 and 5 see it (contract 2.1, 2.4, 2.6, 3.1), and a job at work."""

import asyncio
import io
import zipfile

import pytest
from fakes.compute import FakeCompute
from fakes.object_storage import FakeStore
from harness.daemon import running
from harness.http import PLUGIN, client
from harness.waiting import eventually
from harness.zips import unzipped

from pfmoc.compute.base import Stages

IN, OUT = "home/bob/in", "home/bob/out/data"
DIRS = {"input_dirs": [IN], "output_dir": OUT}
JOB = {**PLUGIN, "jid": "j", **DIRS}
FILES = {"b.txt": b"b" * 300_000, "a/\u00fc.bin": bytes(range(256)), "empty": b""}


@pytest.fixture
def store():
    store = FakeStore()
    store.objects_of[IN] = 3
    return store


@pytest.fixture
def compute():
    return FakeCompute(env="kubernetes", volume_type="empty_dir")


@pytest.fixture
async def daemon(tmp_path, compute, store):
    async with running(tmp_path, compute=compute, storage=store, PFMOC_DRAIN_S="0.4") as daemon:
        yield daemon


@pytest.fixture
async def api(daemon):
    async with client(daemon.url) as api:
        yield api


async def status(api, kind, jid="j"):
    return (await api.get(f"{kind}jobs/{jid}/")).expect(200).json()["compute"]["status"]


async def ended(api, kind, jid="j"):
    async def poll():
        word = await status(api, kind, jid)
        return word if word.startswith("finished") else None

    return await eventually(poll)


async def submitted(api, compute, *, kind="plugin"):
    (await api.post("copyjobs/", {"jid": "j", **DIRS})).expect(201)
    assert await ended(api, "copy") == "finishedSuccessfully"
    return (await api.post("pluginjobs/", JOB)).expect(201).json()


async def test_server_info(api):
    info = (await api.get("pluginjobs/")).json()
    assert info["pfcon_innetwork"] is info["requires_copy_job"] is info["requires_upload_job"] is True
    assert (info["storage_env"], info["swift_auth_url"]) == ("swift", "http://swift.example/auth/v1.0")
    assert (await api.get("jobs/")).json()["swift_auth_url"] == info["swift_auth_url"]


async def test_the_four_jobs_of_pfcon_6(api, compute, store):
    refused = (await api.post("pluginjobs/", JOB)).expect(409)
    assert refused.message == "No copy job found. A copy job must complete successfully before scheduling a plugin job."
    answer = await submitted(api, compute)
    assert answer["data"] == {}
    assert answer["compute"]["status"] == "started"
    upload = {"jid": "j", "job_output_path": OUT}
    refused = (await api.post("uploadjobs/", upload)).expect(409)
    assert refused.message == ("Plugin job has not completed yet (status: started). The plugin job must finish before uploading.")
    store.outputs["j"] = FILES
    compute.finish("j", exit_code=1, logs="bad\n")
    assert await ended(api, "plugin") == "finishedWithError"
    assert (await api.post("uploadjobs/", upload)).expect(201).json()["compute"]["status"] == "notStarted"
    assert await ended(api, "upload") == "finishedSuccessfully"
    assert store.uploaded == [("j", OUT)]
    assert (await api.post("uploadjobs/", upload)).expect(201).json()["compute"]["status"] == "finishedSuccessfully"
    assert len(store.uploaded) == 1
    (await api.post("deletejobs/", {"jid": "j"})).expect(201)
    assert await ended(api, "delete") == "finishedSuccessfully"
    assert not store.staged
    for kind in ("copy", "plugin", "upload", "delete"):
        (await api.delete(f"{kind}jobs/j/")).expect(204)
        (await api.get(f"{kind}jobs/j/")).expect(404)


async def test_a_job_that_is_deleted_while_it_uploads(api, compute, store):
    await submitted(api, compute)
    compute.finish("j")
    await ended(api, "plugin")
    store.freeze()
    (await api.post("uploadjobs/", {"jid": "j", "job_output_path": OUT})).expect(201)
    delete = asyncio.create_task(api.post("deletejobs/", {"jid": "j"}))
    await asyncio.wait([delete], timeout=0.1)
    store.thaw()
    (await delete).expect(201)
    assert await ended(api, "delete") == "finishedSuccessfully"


@pytest.mark.parametrize("path", ["../elsewhere", ""])
async def test_an_upload_leads_nowhere_else(api, compute, store, path):
    await submitted(api, compute)
    compute.finish("j")
    await ended(api, "plugin")
    assert (await api.post("uploadjobs/", {"jid": "j", "job_output_path": path})).status == 400
    assert store.uploaded == []


async def test_one_request_of_pfcon_5_does_it_all(api, compute, store):
    answer = (await api.post("jobs/", JOB)).expect(201).json()
    assert {name: answer["data"][name] for name in ("jid", "nfiles", "path")} == {"jid": "j", "nfiles": 3, "path": "key-j"}
    assert answer["compute"]["status"] == "started"
    store.outputs["j"] = FILES
    listed = (await api.get(f"jobs/j/file/?job_output_path={OUT}")).expect(200)
    assert listed.json() == {"job_output_path": OUT, "rel_file_paths": sorted(FILES)}
    assert store.uploaded == [], "while the job runs, its pod may be publishing"
    compute.finish("j")
    assert await ended(api, "plugin") == "finishedSuccessfully"
    listed = (await api.get(f"jobs/j/file/?job_output_path={OUT}")).expect(200)
    assert listed.json() == {"job_output_path": OUT, "rel_file_paths": sorted(FILES)}
    assert store.uploaded == [("j", OUT)], "the question brings the output to where the client wants it"
    (await api.delete("jobs/j/")).expect(204)
    assert not store.staged
    (await api.delete("jobs/j/")).expect(404)


async def test_files_of_pfcon_6_change_nothing(api, compute, store):
    await submitted(api, compute)
    store.outputs["j"] = FILES
    reply = (await api.get(f"pluginjobs/j/file/?job_output_path=/{OUT}/")).expect(200)
    assert reply.json()["job_output_path"] == f"{OUT}/", "upstream repeats a slash at the end, and not one at the beginning"
    assert reply.headers["Content-Disposition"] == "attachment; filename=j.json"
    assert store.uploaded == []
    assert (await api.get("pluginjobs/j/file/?job_output_path=")).expect(400).message == (
        "job_output_path: query parameter is required"
    )
    for query in ("", f"?job_output_path={OUT}"):
        (await api.get(f"pluginjobs/unknown/file/{query}")).expect(404)


async def test_without_a_path_the_files_themselves_come_as_a_zip(api, compute, store):
    await submitted(api, compute)
    empty = (await api.get("pluginjobs/j/file/")).expect(200)
    assert (len(empty.body), unzipped(empty.body)) == (22, {})
    store.outputs["j"] = {**FILES, "link.chrislink": b"home/bob/in"}
    reply = (await api.get("pluginjobs/j/file/")).expect(200)
    assert unzipped(reply.body) == FILES
    assert zipfile.ZipFile(io.BytesIO(reply.body)).testzip() is None
    assert (reply.headers["Content-Type"], reply.headers["Content-Disposition"]) == (
        "application/zip",
        "attachment; filename=j.zip",
    )
    head = await api.send("HEAD", "pluginjobs/j/file/")
    assert (head.status, head.body) == (200, b"")


async def test_the_bogus_file_of_the_command_line_is_ignored(api, compute, store):
    (await api.post("copyjobs/", {"jid": "j", **DIRS}, data_file=b"1000")).expect(201)
    assert await ended(api, "copy") == "finishedSuccessfully"
    (await api.post("pluginjobs/", JOB, data_file=b"1000")).expect(201)


async def test_the_store_away(api, compute, store):
    await submitted(api, compute)
    store.unavailable = True
    assert (await api.get("pluginjobs/j/")).status == 200
    for path in (f"pluginjobs/j/file/?job_output_path={OUT}", "pluginjobs/j/file/"):
        reply = (await api.get(path)).expect(503)
        assert "Retry-After" in reply.headers
    reply = (await api.get("/readyz")).expect(503)
    assert "storage" in reply.json()["reasons"]


async def test_the_store_full(api, compute, store):
    """No new job, but those that there are: their status, their outputs, and the deletes that make room (faults 9)."""
    await submitted(api, compute)
    store.outputs["j"] = FILES
    compute.finish("j")
    assert await ended(api, "plugin") == "finishedSuccessfully"
    store.full = True
    assert (await api.get("/readyz")).expect(200).json() == {"ready": True, "reasons": {"storage": "the quota is used up"}}
    (await api.post("jobs/", {**JOB, "jid": "k"})).expect(507)
    assert unzipped((await api.get("pluginjobs/j/file/")).expect(200).body) == FILES
    (await api.post("deletejobs/", {"jid": "j"})).expect(201)
    assert await ended(api, "delete") == "finishedSuccessfully"
    assert not store.staged


# A job at work


async def test_the_log_of_a_job_at_work_and_after_its_end(api, compute):
    await submitted(api, compute)
    compute.write_log("j", "one\n")
    reply = (await api.get("pluginjobs/j/logs/")).expect(200)
    assert (reply.body, reply.headers["Content-Type"]) == (b"one\n", "text/plain; charset=utf-8")
    assert (await api.get("jobs/j/logs/")).body == b"one\n"
    following = asyncio.create_task(api.get("pluginjobs/j/logs/?follow=true"))
    await asyncio.wait([following], timeout=0.1)
    assert not following.done()
    compute.finish("j", logs="one\n\xfc two\n")
    followed = (await following).expect(200)
    assert followed.body.decode() == "one\n\xfc two\n"
    assert followed.headers["Transfer-Encoding"] == "chunked"
    await ended(api, "plugin")
    compute.lose("j")
    for query in ("", "?follow=true", "?follow=no"):
        assert (await api.get(f"pluginjobs/j/logs/{query}")).body.decode() == "one\n\xfc two\n"
    (await api.get("pluginjobs/unknown/logs/")).expect(404)
    assert (await api.get("pluginjobs/j/logs/", auth=False)).status == 401


async def test_a_log_that_breaks_off_is_not_taken_for_a_whole_one(api, compute):
    await submitted(api, compute)
    compute.write_log("j", "one\n")
    following = asyncio.create_task(api.get("pluginjobs/j/logs/?follow=true"))
    await eventually(lambda: "follow" in compute.calls)
    compute.unavailable = True
    with pytest.raises(Exception, match=r"(?i)payload|disconnect|reset"):
        await following
    compute.unavailable = False


async def test_a_log_that_is_followed_does_not_keep_the_daemon_from_stopping(api, compute, daemon):
    await submitted(api, compute)
    compute.write_log("j", "one\n")
    following = asyncio.create_task(api.get("pluginjobs/j/logs/?follow=true"))
    await eventually(lambda: "follow" in compute.calls)
    await asyncio.wait_for(daemon.drain(), 5)
    assert (await following).body == b"one\n"


async def test_where_the_time_went(api, compute):
    compute.stages = Stages(waiting=1.5, pull=2.0, plugin=3.0, publish=None, node="n", pod="p")
    await submitted(api, compute)
    none = {"jid": "j", "waiting": None, "pull": None, "plugin": None, "publish": None, "node": "", "pod": ""}
    assert (await api.get("pluginjobs/j/stages/")).json() == none
    compute.finish("j")
    await ended(api, "plugin")
    assert (await api.get("pluginjobs/j/stages/")).json() == {
        **none,
        "waiting": 1.5,
        "pull": 2.0,
        "plugin": 3.0,
        "node": "n",
        "pod": "p",
    }
    (await api.get("pluginjobs/unknown/stages/")).expect(404)


async def test_answers_say_how_old_they_are(api, compute, daemon):
    await submitted(api, compute)
    assert "Age" not in (await api.get("pluginjobs/j/")).headers
    await eventually(lambda: not daemon.jobs._follower.stale)
    compute.age = 7.2
    reply = (await api.get("pluginjobs/j/")).expect(200)
    assert reply.headers["Age"] == "7"
    assert (await api.get("/readyz")).expect(200).json() == {"ready": True, "age_s": 7.2}
    assert "Age" not in (await api.get("/metrics")).headers


async def test_a_request_that_outlasts_the_draining_is_told_to_come_again(api, compute, store, daemon):
    """faults 2: its job is undone, and not left half made."""
    go = asyncio.Event()

    async def slow(inputs):
        await go.wait()

    store.stage = slow
    request = asyncio.create_task(api.post("jobs/", JOB))
    await eventually(lambda: daemon.jobs._submissions.flights._flights)
    await daemon.drain()
    reply = (await request).expect(503)
    assert (reply.message, reply.headers["Retry-After"]) == ("The server is shutting down. Try again.", "5")
    assert list(daemon.jobs.board.live()) == []
    assert compute.started == []
