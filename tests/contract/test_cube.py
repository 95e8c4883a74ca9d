"""CUBE's sequences of requests, with the checks that it makes on the answers (contract 8.3, 8.4)."""

import asyncio

import pytest
from harness.http import PLUGIN, client
from harness.trees import plant
from harness.waiting import eventually
from harness.zips import unzipped, zipped

ENV = [
    "CHRIS_JID=chris-jid-7",
    "CHRIS_PLG_INST_ID=7",
    "CHRIS_USER_USERNAME=bob",
    "CHRIS_USER_EMAIL=bob@example.org",
    "CHRIS_USER_TOKEN=0123456789abcdef",
    "CHRIS_PREV_PLG_INST_ID=6",
    "CHRIS_PREV_JID=chris-jid-6",
    "CHRIS_WORKFLOW_ID=",
]
LIMITS = {"cpu_limit": 1000, "memory_limit": 200}
INPUT = "home/bob/feeds/feed_1/pl-dircopy_1/data"
OUTPUT = "home/bob/feeds/feed_1/pl-simpledsapp_2/data"
FILES = {"a.txt": b"a", "sub/b.txt": b"bb"}
ENDED = ("finishedSuccessfully", "finishedWithError", "undefined")


class Cube:
    """What CUBE does around each request: one retry with a fresh token, and its own reading of the answers.

    :param spelling: of the first status
    """

    def __init__(self, api, *, spelling) -> None:
        self.api = api
        self.words = {spelling, "started", *ENDED}
        self.requires_copy = None

    async def request(self, method, path, fields=None, data_file=None):
        reply = (
            await self.api.post(path, fields, data_file=data_file) if fields is not None else await self.api.send(method, path)
        )
        if reply.status == 401:
            await self.api.log_in()
            return await self.request(method, path, fields, data_file)
        return reply

    async def register(self, path):
        info = (await self.request("GET", path)).expect(200).json()
        self.innetwork = info["pfcon_innetwork"]
        self.storage = info["storage_env"]
        self.requires_copy = info.get("requires_copy_job", False)
        self.requires_upload = info.get("requires_upload_job", False)
        if path == "pluginjobs/":
            assert {"requires_copy_job", "requires_upload_job"} <= set(info)

    async def submit(self, path, fields, data_file=None):
        reply = (await self.request("POST", path, fields, data_file)).expect(201)
        return self.compute(reply)

    async def status(self, path):
        return self.compute((await self.request("GET", path)).expect(200))

    def compute(self, reply):
        compute = reply.json()["compute"]
        assert list(compute) == ["jid", "image", "cmd", "status", "message", "timestamp", "logs"]
        assert all(isinstance(value, str) for value in compute.values())
        assert compute["jid"] == "chris-jid-7"
        assert compute["status"] in self.words
        return compute

    async def ended(self, path):
        async def poll():
            compute = await self.status(path)
            return compute if compute["status"] in ENDED else None

        return await eventually(poll, what=f"{path} to end")

    async def copy(self, jid):
        """Have the input copied, where the storage wants to be asked for that."""
        if self.requires_copy:
            await self.submit("copyjobs/", {**LIMITS, "jid": jid, "input_dirs": [INPUT], "output_dir": OUTPUT})
            await self.ended(f"copyjobs/{jid}/")

    async def remove(self, path):
        reply = await self.request("DELETE", path)
        assert (reply.status, reply.body) == (204, b"")


def descriptors(cube, *, plugin_type="ds"):
    """What CUBE sends for a plugin job; an argument-less fs plugin brings neither arguments nor inputs."""
    fields = {**PLUGIN, "jid": "chris-jid-7", "env": ENV, "type": plugin_type}
    if plugin_type == "fs":
        fields["args"] = []
    if cube.innetwork:
        fields["output_dir"] = OUTPUT
        if plugin_type != "fs" or not cube.requires_copy:
            fields["input_dirs"] = [INPUT]
    return fields


def outputs(compute, cube, storebase):
    return storebase / OUTPUT if cube.innetwork else compute.started[-1].mounts.outgoing


@pytest.fixture(autouse=True)
def user_data(storebase):
    plant(storebase / INPUT, {"in.txt": b"in", "deep/er.txt": b"er"})
    (storebase / OUTPUT).mkdir(parents=True)


async def fetch(cube, path, expected):
    """Fetch the output and check it as CUBE does."""
    if cube.innetwork:
        document = (await cube.request("GET", f"{path}file/?job_output_path={OUTPUT}")).expect(200).json()
        assert document["job_output_path"] == OUTPUT
        assert sorted(document["rel_file_paths"]) == sorted(expected)
    else:
        assert unzipped((await cube.request("GET", f"{path}file/")).expect(200).body) == expected


@pytest.mark.parametrize("plugin_type", ["ds", "fs"])
@pytest.mark.parametrize("exit_code", [0, 1])
async def test_cube_7(api, compute, storebase, plugin_type, exit_code):
    api.token = "stale"  # CUBE's database holds an old one
    cube = Cube(api, spelling="notStarted")
    await cube.register("pluginjobs/")
    fields = descriptors(cube, plugin_type=plugin_type)
    jid = fields["jid"]

    if cube.requires_copy:
        copy = {**LIMITS, "jid": jid, "input_dirs": fields.get("input_dirs", []), "output_dir": OUTPUT}
        submitted = await cube.submit("copyjobs/", copy)
        assert submitted["status"] in ("notStarted", "started", "finishedSuccessfully")
        assert (await cube.ended(f"copyjobs/{jid}/"))["status"] == "finishedSuccessfully"

    zip_file = None if cube.innetwork else zipped({"in.txt": b"in"})
    submitted = await cube.submit("pluginjobs/", fields, zip_file)
    assert submitted["logs"] == ""
    (run,) = compute.started
    assert dict(run.env)["CHRIS_USER_TOKEN"] == "0123456789abcdef"
    assert (await cube.status(f"pluginjobs/{jid}/"))["status"] == "started"
    plant(outputs(compute, cube, storebase), FILES)
    compute.finish(run.name, exit_code=exit_code, logs="said\n")
    ended = await cube.ended(f"pluginjobs/{jid}/")
    assert ended["status"] == ("finishedWithError" if exit_code else "finishedSuccessfully")
    assert ended["logs"] == "said\n"

    assert (await cube.submit("uploadjobs/", {**LIMITS, "jid": jid, "job_output_path": OUTPUT}))["message"] == "uploadSkipped"
    await cube.status(f"pluginjobs/{jid}/")
    await fetch(cube, f"pluginjobs/{jid}/", FILES)

    deleted = await cube.submit("deletejobs/", {"jid": jid})
    if deleted["message"] != "deleteSkipped":
        assert (await cube.ended(f"deletejobs/{jid}/"))["status"] == "finishedSuccessfully"
    for kind in ("copy", "plugin", "upload", "delete"):
        await cube.remove(f"{kind}jobs/{jid}/")
    assert not (storebase / f"key-{jid}").exists()
    assert (storebase / INPUT / "in.txt").read_bytes() == b"in"
    for kind in ("copy", "plugin", "upload", "delete"):
        (await cube.request("GET", f"{kind}jobs/{jid}/")).expect(404)
    if cube.innetwork:
        assert (storebase / OUTPUT / "a.txt").read_bytes() == b"a"


@pytest.mark.parametrize("exit_code", [0, 1])
async def test_cube_5(api, compute, storebase, exit_code):
    api.token = "stale"
    cube = Cube(api, spelling="notstarted")
    await cube.register("jobs/")
    cube.requires_copy = False
    fields = descriptors(cube)
    jid = fields["jid"]
    reply = (await cube.request("POST", "jobs/", fields, None if cube.innetwork else zipped({"in.txt": b"in"}))).expect(201)
    assert set(reply.json()["data"]) == {"jid", "nfiles", "timestamp", "path"}
    cube.compute(reply)
    (run,) = compute.started
    plant(outputs(compute, cube, storebase), FILES)
    compute.finish(run.name, exit_code=exit_code, logs="said\n")
    ended = await cube.ended(f"jobs/{jid}/")
    assert (ended["status"], ended["logs"]) == ("finishedWithError" if exit_code else "finishedSuccessfully", "said\n")
    await fetch(cube, f"jobs/{jid}/", FILES)
    await cube.remove(f"jobs/{jid}/")
    assert not (storebase / f"key-{jid}").exists()
    (await cube.request("GET", f"jobs/{jid}/")).expect(404)
    (await cube.request("DELETE", f"jobs/{jid}/")).expect(404)  # clears CODE12


async def test_the_first_status_is_spelled_as_each_generation_does(serve, compute):
    compute.begin_at_once = False
    async with serve("zipfile") as daemon, client(daemon.url) as api:
        for path, word in (("pluginjobs/", "notStarted"), ("jobs/", "notstarted")):
            reply = await api.post(path, {**PLUGIN, "jid": f"j{word}"}, data_file=zipped({"a": b""}))
            assert reply.expect(201).json()["compute"]["status"] == word
            assert (await api.get(f"{path}j{word}/")).json()["compute"]["status"] == word


async def test_blind_retries_make_one_job(api, compute):
    """CUBE without copy jobs repeats any failed request once, and copy submits three times (contract 8.3)."""
    cube = Cube(api, spelling="notStarted")
    await cube.register("pluginjobs/")
    fields = descriptors(cube)
    zip_file = None if cube.innetwork else zipped({"in.txt": b"in"})
    if cube.requires_copy:
        copies = [
            await cube.submit("copyjobs/", {**LIMITS, "jid": fields["jid"], "input_dirs": [INPUT], "output_dir": OUTPUT})
            for _ in range(3)
        ]
        assert {copy["status"] for copy in copies} <= {"notStarted", "started", "finishedSuccessfully"}
        await cube.ended(f"copyjobs/{fields['jid']}/")
    for _ in range(3):
        fields["env"] = [*ENV[:4], "CHRIS_USER_TOKEN=a-new-one", *ENV[5:]]
        reply = (await cube.request("POST", "pluginjobs/", fields, zip_file)).expect(201)
    assert reply.json()["data"] == {}
    assert len(compute.started) == 1
    deleted = [await cube.submit("deletejobs/", {"jid": fields["jid"]}) for _ in range(3)]
    assert {each["status"] for each in deleted} <= {"notStarted", "started", "finishedSuccessfully"}


async def test_cancelling_with_a_delete_ends_the_plugin(api, compute, storebase):
    """CUBE cancels with one POST; upstream answers 409 and the container runs on (contract 8.3)."""
    cube = Cube(api, spelling="notStarted")
    await cube.register("pluginjobs/")
    fields = descriptors(cube)
    await cube.copy(fields["jid"])
    await cube.submit("pluginjobs/", fields, None if cube.innetwork else zipped({"in.txt": b"in"}))
    (run,) = compute.started
    await cube.submit("deletejobs/", {"jid": fields["jid"]})
    assert (await cube.ended(f"deletejobs/{fields['jid']}/"))["status"] == "finishedSuccessfully"
    assert run.name in compute.removed
    assert not (storebase / f"key-{fields['jid']}").exists()


async def test_the_same_post_fifty_times_at_once_is_one_job(api, compute):
    cube = Cube(api, spelling="notStarted")
    await cube.register("pluginjobs/")
    fields = descriptors(cube)
    zip_file = None if cube.innetwork else zipped({"in.txt": b"in"})
    await cube.copy(fields["jid"])
    replies = await asyncio.gather(*(api.post("pluginjobs/", fields, data_file=zip_file) for _ in range(50)))
    assert {reply.status for reply in replies} == {201}
    assert len({str(reply.json()["compute"]) for reply in replies}) == 1
    assert len(compute.started) == 1


async def test_the_same_id_with_another_spec_is_a_409_that_names_the_field(api, compute):
    cube = Cube(api, spelling="notStarted")
    await cube.register("pluginjobs/")
    fields = descriptors(cube)
    zip_file = None if cube.innetwork else zipped({"in.txt": b"in"})
    await cube.copy(fields["jid"])
    await cube.submit("pluginjobs/", fields, zip_file)
    for name, value in (("args", ["--other"]), ("image", "fnndsc/other"), ("entrypoint", ["x"]), ("type", "fs")):
        reply = await api.post("pluginjobs/", {**fields, name: value}, data_file=zip_file)
        assert reply.status == 409
        assert reply.message.startswith(f"{name}: ")
    assert len(compute.started) == 1
    assert not compute.removed
    assert (await cube.status(f"pluginjobs/{fields['jid']}/"))["status"] == "started"
