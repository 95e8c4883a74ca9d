"""The generations before pfcon 5: what their clients do not show, and the calls of pfcon 5.2 to
the pman behind it (contract 3.2, 3.3, 4)."""

from typing import Any

import pytest
from harness.clients import Client
from harness.http import PLUGIN, STRINGS, client
from harness.trees import contents, plant
from harness.waiting import eventually
from harness.zips import unzipped, zipped

from pfmoc.jobs.model import Kind

TOKEN = "a-token-of-24-characters"
LISTS = {**PLUGIN, "env": ["CHRIS_JID=x"]}
FLAT = ["jid", "image", "cmd", "status", "message", "timestamp", "logs"]
FILES = {"a.txt": b"a" * 1000, "sub/b.bin": bytes(range(256))}


async def test_zips_of_pfcon_4_have_a_name_and_those_of_pfcon_3_none(serve, compute):
    async with serve(PFMOC_DIALECTS="pfcon4,pfcon3") as daemon, client(daemon.url) as api:
        for jid, path in (("j4", "jobs/"), ("j3", "")):
            reply = await api.post(path, {**STRINGS, "jid": jid}, data_file=zipped({"a": b""}))
            assert reply.expect(201).json()["compute"]["status"] == "started"
            compute.finish(jid)
        named, bare = [(await api.get(path)).expect(200) for path in ("jobs/j4/file/", "j3/file/")]
        assert named.headers["Content-Disposition"] == "attachment; filename=j4.zip"
        assert "Content-Disposition" not in bare.headers
        assert bare.headers["Content-Type"] == "application/zip"
        assert (await api.get("")).json().keys() == {"server_version"}
        assert (await api.get("jobs/")).json()["server_version"].startswith("4.0.2")
        assert "pfcon_innetwork" in (await api.get("jobs/")).json()


# pfcon 5.2 and the pman behind it


class Pfcon52:
    """The calls of pfcon 5.0 to 5.2 to its compute service, with the statuses that it takes for success.

    :param places: True for 5.1 and later, which name the two directories
    """

    def __init__(self, api, storebase, *, places) -> None:
        self.api = api
        self.storebase = storebase
        self.places = places

    async def run(self, jid, **changes):
        """Stage as pfcon does, and have the job run. It passes the answer on as it is."""
        key = self.storebase / f"key-{jid}"
        plant(key / "incoming", FILES)
        (key / "outgoing").mkdir(exist_ok=True)
        fields = {**LISTS, "jid": jid, **changes}
        if self.places:
            fields |= {"input_dir": f"key-{jid}/incoming", "output_dir": f"key-{jid}/outgoing"}
        return (await self.api.send("POST", "", json=fields)).expect(201).json()

    async def show(self, jid):
        return (await self.api.send("GET", f"{jid}/")).expect(200).json()

    async def delete(self, jid):
        (await self.api.send("DELETE", f"{jid}/")).expect(204)

    async def ended(self, jid):
        async def poll() -> Any:
            shown = await self.show(jid)
            return shown if shown["status"].startswith("finished") else None

        return await eventually(poll, what=f"{jid} to end")


@pytest.fixture
async def pman(serve):
    async with serve(PFMOC_LISTENERS="pman@0") as daemon, client(daemon.urls[1], log_in=False) as api:
        yield api


@pytest.mark.parametrize("places", [True, False])
async def test_pfcon_5_2_runs_a_job_on_pman(pman, compute, storebase, places):
    compute.begin_at_once = False
    pfcon = Pfcon52(pman, storebase, places=places)
    begun = await pfcon.run("chris-jid-7")
    assert list(begun) == FLAT
    assert (begun["jid"], begun["status"], begun["logs"]) == ("chris-jid-7", "notstarted", "")
    assert begun["cmd"] == "python3 /usr/local/bin/simpledsapp --prefix le /share/incoming /share/outgoing"
    (run,) = compute.started
    assert (run.mounts.incoming, run.mounts.outgoing) == (
        storebase / "key-chris-jid-7/incoming",
        storebase / "key-chris-jid-7/outgoing",
    )
    assert run.env == {"CHRIS_JID": "x"}
    compute.begin("chris-jid-7")
    plant(run.mounts.outgoing, {"out.txt": b"result"})
    compute.finish("chris-jid-7", logs="done\n")
    shown = await pfcon.ended("chris-jid-7")
    assert (list(shown), shown["status"], shown["logs"]) == (FLAT, "finishedSuccessfully", "done\n")
    await pfcon.delete("chris-jid-7")
    assert contents(storebase / "key-chris-jid-7").keys() == {"incoming/a.txt", "incoming/sub/b.bin", "outgoing/out.txt"}
    for method in ("GET", "DELETE"):
        (await pman.send(method, "chris-jid-7/")).expect(404)


@pytest.mark.parametrize("storage", ["zipfile", "fslink", "filesystem"])
async def test_pman_takes_the_directories_that_its_caller_names(serve, compute, storebase, storage):
    """In the network pfcon has pman mount the user's own directories, whatever else the daemon's storage does."""
    plant(storebase / "home/bob/in", FILES)
    (storebase / "home/bob/out").mkdir()
    fields = {**LISTS, "jid": "j", "input_dir": "/home/bob/in/", "output_dir": "home/bob/out"}
    async with serve(storage, PFMOC_LISTENERS="pman@0") as daemon, client(daemon.urls[1], log_in=False) as api:
        (await api.send("POST", "", json=fields)).expect(201)
    (run,) = compute.started
    assert (run.mounts.incoming, run.mounts.outgoing) == (storebase / "home/bob/in", storebase / "home/bob/out")
    assert not (storebase / "key-j").exists()


async def test_pman_makes_the_directories_of_a_job_that_brings_nothing(pman, storebase):
    (await pman.send("POST", "", json={**LISTS, "jid": "fs-1", "type": "fs", "args": []})).expect(201)
    assert sorted(path.name for path in (storebase / "key-fs-1").iterdir()) == ["incoming", "outgoing"]


URL_WITH_TOKEN = """
import requests
result = [requests.post(base, json=job, timeout=100).status_code, requests.get(base + "j/", timeout=100).json()["jid"]]
"""


async def test_pfcon_5_2_can_carry_the_token_in_its_url_of_pman(serve):
    async with serve(PFMOC_LISTENERS="pman@0", PFMOC_LEGACY_TOKEN=TOKEN) as daemon:
        base = daemon.urls[1].replace("//", f"//pfcon:{TOKEN}@") + "/api/v1/"
        assert await Client("2.2.0").script(URL_WITH_TOKEN, base=base, job={**LISTS, "jid": "j"}) == [201, "j"]


async def test_pman_keeps_its_jobs_over_a_restart_and_repeats_nothing(serve, compute, storebase):
    async with serve(PFMOC_LISTENERS="pman@0") as daemon, client(daemon.urls[1], log_in=False) as api:
        pfcon = Pfcon52(api, storebase, places=True)
        await pfcon.run("ended")
        compute.finish("ended", logs="kept\n")
        before = await pfcon.ended("ended")
        await pfcon.run("goes-on")
    compute.lose("ended")  # as a prune does
    compute.finish("goes-on", exit_code=3)
    async with serve(PFMOC_LISTENERS="pman@0") as daemon, client(daemon.urls[1], log_in=False) as api:
        pfcon = Pfcon52(api, storebase, places=True)
        assert await pfcon.show("ended") == before
        assert await pfcon.run("ended") == before
        assert (await pfcon.ended("goes-on"))["status"] == "finishedWithError"
        assert len(compute.started) == 2
        other = (await api.send("POST", "", json={**LISTS, "jid": "ended", "args": ["other"]})).expect(409)
        assert other.message.startswith("args: differs from that of the plugin job 'ended'")
        assert (await pfcon.run("goes-on"))["status"] == "started"  # a failed one is run again


async def test_a_run_of_pman_is_adopted_when_its_record_is_lost(serve, compute, storebase, tmp_path):
    async with serve(PFMOC_LISTENERS="pman@0") as daemon, client(daemon.urls[1], log_in=False) as api:
        await Pfcon52(api, storebase, places=True).run("j")
    variables = {"PFMOC_LISTENERS": "pman@0,pman+pfcon3@0", "PFMOC_STATE_DIR": tmp_path / "new state"}
    async with serve(**variables) as daemon, client(daemon.urls[1], log_in=False) as api:
        pfcon = Pfcon52(api, storebase, places=True)

        await eventually(lambda: daemon.jobs.board.glance("j", Kind.PLUGIN))
        assert (await pfcon.show("j"))["status"] == "started"
        compute.finish("j")
        await pfcon.ended("j")
        await pfcon.delete("j")
    assert contents(storebase / "key-j/incoming") == FILES


@pytest.mark.parametrize("fault", ["refuses", "fails_after_start", "unavailable"])
async def test_what_pman_cannot_start_leaves_its_callers_data_alone(serve, compute, storebase, fault):
    async with serve(PFMOC_LISTENERS="pman@0") as daemon, client(daemon.urls[1], log_in=False) as api:
        setattr(compute, fault, 422 if fault == "refuses" else True)
        plant(storebase / "key-j/incoming", FILES)
        assert (await api.send("POST", "", json={**LISTS, "jid": "j"})).status == (422 if fault == "refuses" else 503)
        setattr(compute, fault, None if fault == "refuses" else False)
        assert contents(storebase / "key-j/incoming") == FILES
        (await api.send("POST", "", json={**LISTS, "jid": "j"})).expect(201)
        (await api.send("DELETE", "j/")).expect(204)
    assert contents(storebase / "key-j/incoming") == FILES


async def test_pman_deletes_nothing_when_told_to_keep_jobs(serve, compute, storebase):
    async with serve(PFMOC_LISTENERS="pman@0", REMOVE_JOBS="no") as daemon, client(daemon.urls[1], log_in=False) as api:
        pfcon = Pfcon52(api, storebase, places=True)
        await pfcon.run("j")
        await pfcon.delete("j")
        await pfcon.delete("unheard-of")
        await pfcon.show("j")
    assert compute.removed == []


# What else is sent to pman

MISSING_JSON = "Missing required parameter in the JSON body"
MISSING_ANY = "Missing required parameter in the JSON body or the post body or the query string"
MALFORMED = "The browser (or proxy) sent a request that this server could not understand."
NOT_JSON = "Did not attempt to load JSON data because the request Content-Type was not 'application/json'."
NAMES = ["jid", "args", "auid", "number_of_workers", "cpu_limit", "memory_limit", "gpu_limit", "image", "entrypoint", "type"]


async def test_scripts_to_pman_3_with_units_in_their_limits(pman, compute, storebase):
    """As HTTPie sends them: JSON by default, a form with --form."""
    fields = {**STRINGS, "cpu_limit": "2000m", "memory_limit": "4000Mi"}
    for jid, how in (("json", {"json": {**fields, "jid": "json"}}), ("form", {"data": {**fields, "jid": "form"}})):
        reply = (await pman.send("POST", "", **how)).expect(201).json()
        assert (list(reply), reply["jid"]) == (FLAT, jid)
        run = compute.started[-1]
        assert (run.limits.cpu_millicores, run.limits.memory_mib) == (2000, 4000)
        assert list(run.argv) == [
            "python3",
            "/usr/local/bin/copyfiles",
            "--prefix",
            "two words",
            "/share/incoming",
            "/share/outgoing",
        ]
        assert (run.mounts.incoming, run.mounts.outgoing) == (
            storebase / f"key-{jid}/incoming",
            storebase / f"key-{jid}/outgoing",
        )


async def test_pman_describes_itself(pman):
    info = (await pman.get("")).expect(200).json()
    assert info["server_version"].startswith("6.3.1")
    assert (info["container_env"], info["storage_type"]) == ("docker", "host")


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"json": {}}, 400, dict.fromkeys(NAMES, MISSING_JSON)),
        (
            {"json": {"cmd_args": ""}},
            400,
            {name: MISSING_ANY for name in ["jid", *STRINGS] if name not in ("cmd_args", "cmd_path_flags")},
        ),
        ({"json": {**LISTS, "jid": None}}, 400, {"jid": MISSING_JSON}),
        (
            {"json": {**LISTS, "jid": "../x"}},
            400,
            "jid: must begin with a letter or digit and hold only letters, digits, '_', '.' and '-'",
        ),
        ({"json": {**LISTS, "jid": "jobs"}}, 400, "jid: 'jobs' is the name of a route and cannot be a job id"),
        ({"json": {**LISTS, "jid": "j", "args": "--a b"}}, 400, {"args": "must be a list of strings"}),
        (
            {"json": {**LISTS, "jid": "j", "entrypoint": "python3", "env": "A=b"}},
            400,
            {"entrypoint": "must be a list of strings", "env": "must be a list of strings"},
        ),
        ({"json": {**LISTS, "jid": "j", "args": [1, None]}}, 400, {"args": "must be a string"}),
        ({"json": {**LISTS, "jid": "j", "entrypoint": []}}, 400, '"entrypoint" cannot be empty'),
        ({"json": {**LISTS, "jid": "j", "env": ["A"]}}, 400, '"env" must be a list of "key=value" strings'),
        ({"json": {**LISTS, "jid": "j", "type": "xx"}}, 400, {"type": "xx is not a valid choice"}),
        (
            {"json": {**LISTS, "jid": "j", "cpu_limit": "2000m"}},
            400,
            {"cpu_limit": "invalid literal for int() with base 10: '2000m'"},
        ),
        ({"json": {**LISTS, "jid": "j", "gpu_limit": 1.5}}, 400, {"gpu_limit": "invalid literal for int() with base 10: '1.5'"}),
        ({"json": {**LISTS, "jid": "j", "input_dir": "home"}}, 400, {"output_dir": MISSING_JSON}),
        ({"json": {**LISTS, "jid": "j", "output_dir": "home"}}, 400, {"input_dir": MISSING_JSON}),
        ({"json": {**STRINGS, "jid": "j", "cmd_args": "'"}}, 400, "cmd_args: no closing quotation"),
        ({"json": []}, 400, MALFORMED),
        ({"data": b"{", "headers": {"Content-Type": "application/json"}}, 400, MALFORMED),
        ({"data": b"[" * 100_000, "headers": {"Content-Type": "application/json"}}, 400, MALFORMED),
        ({"data": b"{}", "headers": {"Content-Type": "text/plain"}}, 415, NOT_JSON),
        ({"data": {"jid": "j", "entrypoint": "python3"}}, 415, NOT_JSON),
        ({}, 415, NOT_JSON),
    ],
)
async def test_what_pman_refuses(pman, compute, storebase, body, status, message):
    reply = await pman.send("POST", "", **body)
    assert (reply.status, reply.message) == (status, message)
    assert not compute.started
    assert [path.name for path in storebase.iterdir()] in ([], [".pfmoc"])


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("../home", "must not contain '..'"),
        ("home/../../etc", "must not contain '..'"),
        ("", "is empty"),
        ("/", "is empty"),
        ("//", "is empty"),
        (".", "is empty"),
        ("key-other/incoming", "lies in a directory that belongs to the compute resource"),
        ("key-jj", "lies in a directory that belongs to the compute resource"),
        (".pfmoc", "lies in a directory that belongs to the compute resource"),
        ("home/to-other", "lies in a directory that belongs to the compute resource"),
        ("home/to-outside", "leads out of the storage"),
        ("key-j/to-outside", "leads out of the storage"),
        ("home/a\nb", "must not contain control characters"),
        ("home/absent", "there is no directory 'home/absent' in storage"),
        ("home/file", "there is no directory 'home/file' in storage"),
    ],
)
async def test_directories_that_a_job_of_pman_may_not_name(pman, compute, storebase, place, says):
    plant(storebase, {"home/file": b"", "key-other/incoming/secret": b"", "key-j/x": b""})
    (storebase / "home/to-other").symlink_to(storebase / "key-other/incoming")
    for link in ("home/to-outside", "key-j/to-outside"):
        (storebase / link).symlink_to("/etc")
    for field, fields in (("input_dir", {"output_dir": "home"}), ("output_dir", {"input_dir": "home"})):
        reply = await pman.send("POST", "", json={**LISTS, "jid": "j", **fields, field: place})
        assert reply.status == 400
        assert reply.message.startswith(f"{field}: ")
        assert says in reply.message
    assert not compute.started


# pfcon 3 and pman on one listener


async def test_pfcon_3_and_pman_on_one_listener(serve, storebase):
    async with serve(PFMOC_LISTENERS="pfcon3+pman@0") as daemon, client(daemon.urls[1], log_in=False) as api:
        sent = (await api.post("", {**STRINGS, "jid": "p"}, data_file=zipped(FILES))).expect(201).json()
        assert list(sent) == ["data", "compute"]
        placed = (await api.send("POST", "", json={**LISTS, "jid": "m"})).expect(201).json()
        assert list(placed) == FLAT
        plant(storebase / "key-p/outgoing", {"r": b"r"})
        for jid in ("p", "m"):
            shown = (await api.get(f"{jid}/")).expect(200).json()
            assert list(shown) == [*FLAT, "compute"]
            assert shown["compute"] == {name: shown[name] for name in FLAT}
            assert shown["jid"] == jid
        assert unzipped((await api.get("p/file/")).expect(200).body) == {"r": b"r"}
        for jid in ("p", "m"):
            (await api.delete(f"{jid}/")).expect(204)
            (await api.delete(f"{jid}/")).expect(404)
        assert (await api.get("")).json().keys() == {"server_version", "container_env", "storage_type"}
    assert not (storebase / "key-p").exists()
    assert (storebase / "key-m").exists()
