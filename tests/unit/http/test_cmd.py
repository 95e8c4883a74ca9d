"""The cmd services over HTTP: what they refuse, what they do, and what they remember."""

import asyncio
import io
import json
import zipfile

import aiohttp
import pytest
from fakes.compute import FakeCompute
from harness.daemon import PASSWORD, USER, running
from harness.http import Api
from harness.waiting import eventually
from harness.zips import unzipped, zipped

from pfmoc.compute.base import Limits
from pfmoc.coordination.coordination import EMPTY_ZIP
from pfmoc.coordination.trails import Step
from pfmoc.jobs.model import Kind, Phase

LISTENERS = "cmd-pfcon@0,cmd-pman@0,cmd-pfioh@0"
FILES = {"a.txt": b"a" * 1000, "sub/b.bin": bytes(range(256))}
COMPRESS = {"mechanism": "compress", "compress": {"archive": "zip", "unpack": True, "cleanup": True}}


class Cmd:
    """One of the services."""

    def __init__(self, api, url) -> None:
        self.api = Api(api, url)

    async def post(self, document, **kwargs):
        text = document if isinstance(document, (str, bytes)) else json.dumps(document)
        data = io.BytesIO(text if isinstance(text, bytes) else text.encode())
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Mode": "control"} | kwargs.pop("headers", {})
        return await self.api.send("POST", "cmd", data=data, headers=headers, **kwargs)

    async def tell(self, document, **kwargs):
        return (await self.post(document, **kwargs)).expect(200).json()

    async def get(self, action, meta, **kwargs):
        params = {"action": action, "meta": meta if isinstance(meta, str) else repr(meta)}
        return await self.api.send(kwargs.pop("method", "GET"), "cmd", params=params, **kwargs)

    async def push(self, key, data, *, d_msg=None, **meta):
        message = {"action": "pushPath", "meta": {"remote": {"key": key}, "local": {"path": "/home/data"}, **meta}}
        message["meta"].setdefault("transport", COMPRESS)
        form = aiohttp.FormData(default_to_multipart=True)
        form.add_field("d_msg", json.dumps(message) if d_msg is None else d_msg)
        form.add_field("filename", "/tmp/x.zip")
        if data is not None:
            form.add_field("local", data, filename="x.zip")
        return (await self.api.send("POST", "cmd/", data=form, headers={"Mode": "file"})).expect(200).json()

    async def pull(self, key, **meta):
        reply = await self.get("pullPath", {"remote": {"key": key}, "local": {"path": "/x"}, "transport": COMPRESS, **meta})
        return reply.expect(200)


class Services:
    def __init__(self, daemon, session) -> None:
        self.daemon = daemon
        self.pfcon, self.pman, self.pfioh = (Cmd(session, url) for url in daemon.urls[1:4])


@pytest.fixture
def compute():
    return FakeCompute()


@pytest.fixture
def serve(tmp_path, compute):
    return lambda **overrides: running(tmp_path, compute=compute, PFMOC_LISTENERS=LISTENERS, **overrides)


@pytest.fixture
async def session():
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def services(serve, session):
    async with serve() as daemon:
        yield Services(daemon, session)


def run(jid, cmd="simpledsapp --prefix x /share/incoming /share/outgoing", **meta):
    container = {"target": {"image": "fnndsc/pl-simpledsapp"}}
    return {"action": "run", "meta": {"cmd": cmd, "auid": "bob", "jid": jid, "threaded": True, "container": container, **meta}}


def coordinate(key="j", service="host", *, cleanup=False, **data):
    special = {"op": "plugin", "cleanup": cleanup}
    meta = {"remote": {"key": "%meta-store"}, "specialHandling": special, "service": service, **data}
    return {
        "action": "coordinate",
        "threadAction": True,
        "meta-store": {"meta": "meta-compute", "key": "jid"},
        "meta-data": meta,
        "meta-compute": run(key)["meta"] | {"service": service},
    }


def status(key):
    return {"action": "status", "meta": {"remote": {"key": key}}}


# What is refused

NEGATIVE = [
    ("pfcon", "no JSON at all", "is no JSON"),
    ("pfcon", b"\xff\xfe", "UTF-8"),
    ("pfcon", "", "is no JSON"),
    ("pfcon", "[1, 2]", "must be an object"),
    ("pfcon", "{}", "action: is required"),
    ("pfcon", '{"action": {"a": 1}}', "action: must be a string"),
    ("pfcon", '{"action": "hello", "meta": [1]}', "meta: must be an object"),
    ("pfcon", '{"action": "hello", "meta": {"x": NaN}}', "what JSON cannot"),
    ("pfcon", '{"action": "hello", "meta": ' + '{"a":' * 40 + "1" + "}" * 41, "levels deep"),
    ("pfcon", "[" * 100_000, "is no JSON"),
    ("pfcon", '{"action": "hello", "meta": {"x": ' + "9" * 5000 + "}}", "is no JSON"),
    ("pfcon", '{"action": "makeCoffee"}', "does not know 'makeCoffee'"),
    ("pfcon", '{"action": "__class__"}', "does not know '__class__'"),
    ("pfcon", run("j"), "for pman"),
    ("pman", coordinate(), "for pfcon"),
    ("pfioh", run("j"), "for pman"),
    *(
        (role, {"action": action, "meta": {"remote": {"key": "k"}}}, "never done")
        for role in ("pfcon", "pman", "pfioh")
        for action in ("quit", "internalctl", "rmtree", "DBctl")
    ),
    *(
        (role, {"action": "hello", "meta": {"ctl": {"serverCmd": "quit"}}}, "not controlled")
        for role in ("pfcon", "pman", "pfioh")
    ),
    ("pfioh", {"action": "ls", "meta": {"remote": {"path": "/etc"}}}, "remote.path"),
    ("pfioh", {"action": "ls", "meta": {"key": "../.."}}, "meta.key: must begin"),
    ("pfioh", {"action": "ls", "meta": {"key": "k", "subdir": "../.."}}, "must not contain '..'"),
    ("pfioh", {"action": "ls", "meta": {"key": "nothing"}}, "no data under the key 'nothing'"),
    ("pfioh", {"action": "pushPath", "meta": {"remote": {"key": "k"}}}, "brings no file"),
    (
        "pfioh",
        {"action": "pullPath", "meta": {"remote": {"key": "k"}, "transport": {"copy": {"symlink": True}}}},
        "transport.copy",
    ),
    ("pfioh", {"action": "pullPath", "meta": {"remote": {"key": "cmd"}}}, "cannot be a job id"),
    ("pfioh", {"action": "pullPath", "meta": {"remote": {"key": None}}}, "meta.remote.key: is required"),
    ("pman", {"action": "run", "meta": {"cmd": "rm -rf /", "jid": "j", "threaded": True}}, "never does"),
    ("pman", run("../x"), "meta.jid: must begin"),
    ("pman", run("j", cmd="echo 'open"), "cannot be split"),
    ("pman", run("j", cmd="  "), "meta.cmd: is empty"),
    ("pman", run("j", cmd="x\0y"), "NUL"),
    ("pman", run("j", cmd="x " * 100_000), "more than"),
    ("pman", run("j", container={"target": {}}), "target.image: is required"),
    ("pman", run("j", container="yes"), "target.image: is required"),
    ("pman", run("j", cpu_limit="2 cores"), "meta.cpu_limit"),
    ("pman", run("j", memory_limit="lots"), "meta.memory_limit"),
    ("pman", run("j", memory_limit=[1]), "meta.memory_limit"),
    ("pman", run("j", number_of_workers="-1"), "meta.number_of_workers"),
    ("pman", run("j", gpu_limit="1"), "gpu_limit"),
    ("pman", run("j", cpu_limit="0"), "cpu_limit"),
    ("pman", {"action": "status", "meta": {"key": "pid", "value": "1"}}, "by their jid only"),
    ("pfcon", {"action": "status", "meta": {}}, "meta.remote.key: is required"),
    ("pfcon", coordinate(service="moc"), "no service 'moc'; there are host, localhost"),
    ("pfcon", coordinate(remote={"key": "other"}), "one key"),
    ("pfcon", coordinate(remote={"path": "/etc"}), "remote.path"),
    ("pfcon", coordinate(localSource={"path": "../../etc"}), "localSource.path: must not contain '..'"),
    ("pfcon", coordinate(localSource={"path": "/nowhere"}), "there is no such directory"),
    ("pfcon", coordinate(localSource={"path": "key-other/incoming"}), "belongs to the compute resource"),
    ("pfcon", coordinate(localSource={"path": "x", "storageType": "swift"}), "has no Swift"),
    (
        "pfcon",
        coordinate(localTarget={"path": "out", "createDir": False}) | {"threadAction": False},
        "there is no such directory",
    ),
    ("pfcon", coordinate() | {"meta-store": {"meta": "meta-compute", "key": "nothing"}}, "meta-compute.nothing: is required"),
    ("pfcon", coordinate() | {"meta-compute": {"cmd": "rm -rf /", "jid": "j"}}, "never does"),
]


async def test_bad_documents_get_a_reason_and_nothing_else(services, compute, tmp_path):
    for role, document, reason in NEGATIVE:
        answer = await getattr(services, role).tell(document)
        assert answer["status"] is False, (role, document)
        assert reason in answer["msg"], (role, document)
    assert not compute.started
    assert not [path.name for path in (tmp_path / "storeBase").iterdir() if not path.name.startswith(".")]
    assert not (tmp_path / "state" / "trails").exists()


@pytest.mark.parametrize(
    ("meta", "reason"),
    [
        ("__import__('os').system('touch /tmp/x')", "neither a Python literal nor JSON"),
        ("{'a': " + "(" * 300 + ")" * 300 + "}", "neither a Python literal nor JSON"),
        ("{'x': {1, 2}}", "what JSON cannot"),
        ("{'x': b'bytes'}", "what JSON cannot"),
        ("{1: 2}", "a key that is no text"),
        ("[1]", "meta: must be an object"),
        ("{'remote': {'key': 'k/../..'}}", "must begin"),
    ],
)
async def test_bad_queries(services, meta, reason):
    answer = (await services.pfioh.get("pullPath", meta)).expect(200).json()
    assert answer["status"] is False
    assert reason in answer["msg"]


async def test_a_get_changes_nothing(services, compute):
    for cmd, document in (
        (services.pman, run("j")),
        (services.pfcon, coordinate()),
        (services.pfioh, {"action": "pushPath", "meta": {}}),
    ):
        answer = (await cmd.get(document["action"], document.get("meta", {}))).expect(200).json()
        assert answer["status"] is False
        assert "POST" in answer["msg"]
    assert not compute.started


async def test_a_get_without_anything(services):
    reply = await services.pfcon.api.send("GET", "cmd/")
    assert reply.expect(200).json()["msg"] == "action: is required"


async def test_bodies_that_are_too_large(serve, session, tmp_path):
    async with serve(PFMOC_MAX_FORM_BYTES=1000, PFMOC_MAX_UPLOAD_BYTES=100_000) as daemon:
        services = Services(daemon, session)
        reply = await services.pfcon.post({"action": "hello", "meta": {"x": "y" * 2000}})
        assert reply.expect(413).json()["status"] is False
        with pytest.raises(AssertionError, match="413"):
            await services.pfioh.push("k", b"x" * 200_000)
        assert not list((tmp_path / "storeBase" / ".pfmoc" / "spool").iterdir())


async def test_a_body_that_is_multipart_and_broken(services):
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    reply = await services.pfioh.api.send("POST", "cmd", data=io.BytesIO(b"--y\r\nnonsense"), headers=headers)
    assert reply.expect(200).json()["status"] is False
    answer = await services.pfioh.push("k", zipped(FILES), d_msg="nonsense")
    assert "is no JSON" in answer["msg"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [("../up", "local: "), ("/abs", "local: "), ("a\\..\\b", "local: ")],
)
async def test_hostile_zips(services, tmp_path, name, reason):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(name, b"x")
    answer = await services.pfioh.push("k", packed.getvalue())
    assert answer["status"] is False
    assert answer["msg"].startswith(reason)
    assert not (tmp_path / "storeBase" / "key-k").exists()
    assert "local: Bad zip file" in (await services.pfioh.push("k", b"no zip"))["msg"]


async def test_names_of_files_that_are_not_unpacked(services):
    plain = {"mechanism": "compress", "compress": {"archive": "", "unpack": False}}
    for path in ("..", "/", "a/\n"):
        answer = await services.pfioh.push("k", b"data", transport=plain, local={"path": path})
        assert answer["status"] is False
        assert "meta.local.path" in answer["msg"]


async def test_what_fails_here_is_said_with_its_status(services, compute):
    compute.unavailable = True
    reply = await services.pman.post(run("j"))
    assert reply.expect(503).json()["status"] is False
    assert int(reply.headers["Retry-After"]) > 0


async def test_a_run_that_is_refused_leaves_nothing(services, compute, tmp_path):
    compute.refuses = 404
    answer = await services.pman.tell(run("j"))
    assert answer["status"] is False
    assert "refused by the fake" in answer["msg"]
    await eventually(lambda: not (tmp_path / "storeBase" / "key-j").exists())


async def test_web_pages_and_wrong_methods(services):
    reply = await services.pman.post(run("j"), headers={"Origin": "http://evil.example"})
    assert reply.expect(403).json()["status"] is False
    assert (await services.pman.api.send("PUT", "cmd")).status == 405


# What is done


async def test_both_spellings_of_the_path_answer_without_a_redirect(services):
    for path in ("cmd", "cmd/"):
        reply = await services.pfcon.api.send(
            "POST", path, data=io.BytesIO(b'{"action": "hello", "meta": {"askAbout": "sysinfo"}}')
        )
        info = reply.expect(200).json()["d_ret"]["sysinfo"]
        assert info["cpucount"] >= 1


async def test_hello_that_asks_about_nothing(services):
    assert (await services.pman.tell({"action": "hello", "meta": {"askAbout": "name"}}))["status"] is False
    assert (await services.pman.tell({"action": "hello", "meta": {}}))["status"] is False


async def test_the_limits_and_the_command(services, compute):
    target = {
        "image": "fnndsc/pl-simpledsapp",
        "cmdParse": False,
        "selfexec": "s.py",
        "selfpath": "/usr/src/",
        "execshell": "python3 -u",
    }
    cmd = "$execshell $selfpath/$selfexec --name 'two words' /share/incoming /share/outgoing --saveinputmeta"
    limits = {"number_of_workers": "1", "cpu_limit": "1500m", "memory_limit": "2Gi", "gpu_limit": ""}
    answer = await services.pman.tell({"payload": run("j", cmd=cmd, container={"target": target}, **limits)})
    assert answer["status"] is True
    (started,) = compute.started
    words = ["python3", "-u", "/usr/src/s.py", "--name", "two words", "/share/incoming", "/share/outgoing", "--saveinputmeta"]
    assert list(started.argv) == words
    assert started.limits == Limits(number_of_workers=1, cpu_millicores=1500, memory_mib=2048, gpus=0)


async def test_limits_by_default(services, compute):
    await services.pman.tell(run("j", cmd="$execshell $selfpath/$selfexec --dir /share/incoming /share/outgoing"))
    (started,) = compute.started
    assert list(started.argv) == ["simpledsapp", "--dir", "/share/incoming", "/share/outgoing"]
    assert started.limits == Limits(number_of_workers=1, cpu_millicores=2000, memory_mib=1024, gpus=0)


async def test_the_same_run_again_is_the_same_job(services, compute):
    assert (await services.pman.tell(run("j")))["status"] is True
    assert (await services.pman.tell(run("j")))["status"] is True
    assert len(compute.started) == 1
    answer = await services.pman.tell(run("j", cmd="other /share/outgoing"))
    assert answer["status"] is False
    assert "exists already" in answer["msg"]


async def test_a_run_that_is_not_threaded_waits(services, compute):
    compute.begin_at_once = True
    asking = asyncio.create_task(services.pman.tell(run("j", threaded=False)))
    await eventually(lambda: compute.started)
    assert not asking.done()
    compute.finish("j", exit_code=3, logs="no\n")
    answer = await asking
    assert answer["d_ret"]["l_status"] == ["finishedWithError"]
    assert answer["d_ret"]["0.end"]["returncode"] == [3]
    found = await services.pman.tell(
        {"action": "search", "meta": {"key": "jid", "value": "j", "job": "0", "when": "end", "field": "stderr"}}
    )
    assert found["d_ret"] == {"0.end": {"stderr": "no\n"}}
    found = await services.pfcon.tell(
        {"action": "search", "meta": {"key": "jid", "value": "j", "job": "0", "when": "end", "field": "returncode"}}
    )
    assert found == {"status": True, "d_ret": {"0.end": {"returncode": 3}}}


async def test_share_dir_of_another_key(services, compute):
    await services.pfioh.push("other", zipped(FILES))
    container = {"target": {"image": "i"}, "manager": {"env": {"shareDir": "/store/key-other"}}}
    answer = await services.pman.tell(run("j", container=container))
    assert "another key" in answer["msg"]
    assert not compute.started


async def test_data_stay_while_a_job_works_on_them(services, compute, tmp_path):
    await services.pfioh.push("j", zipped(FILES))
    await services.pman.tell(run("j"))
    assert "has not ended" in (await services.pfioh.push("j", zipped({"new": b""})))["msg"]
    assert "has not ended" in (await services.pfioh.pull("j", specialHandling={"cleanup": True})).json()["msg"]
    (tmp_path / "storeBase" / "key-j" / "outgoing" / "out.txt").write_text("out")
    compute.finish("j", exit_code=0)
    await services.daemon.coordination.ended("j")
    assert unzipped((await services.pfioh.pull("j")).body) == {"out.txt": b"out"}
    head = await services.pfioh.get("pullPath", {"remote": {"key": "j"}, "specialHandling": {"cleanup": True}}, method="HEAD")
    assert head.expect(200).body == b""
    assert (tmp_path / "storeBase" / "key-j").exists()


async def test_pushing_anew_begins_anew(services, compute, tmp_path):
    await services.pfioh.push("j", zipped({"old": b"1"}))
    await services.pman.tell(run("j"))
    compute.finish("j", exit_code=0)
    await services.daemon.coordination.ended("j")
    await services.pfioh.push("j", zipped({"new": b"2"}), transport=None)
    assert (await services.pman.tell({"action": "status", "meta": {"key": "jid", "value": "j"}}))["status"] is False
    assert [path.name for path in (tmp_path / "storeBase" / "key-j" / "incoming").iterdir()] == ["new"]
    await services.pman.tell(run("j"))
    assert len(compute.started) == 2


async def test_ls_shows_and_follows_no_link(services, tmp_path):
    await services.pfioh.push("k", zipped(FILES))
    outgoing = tmp_path / "storeBase" / "key-k" / "outgoing"
    (outgoing / "link").symlink_to("/etc")
    answer = await services.pfioh.tell({"action": "ls", "meta": {"remote": {"key": "k"}, "subdir": "outgoing"}})
    assert answer["d_ls"]["link"]["type"] == "symlink"
    assert (await services.pfioh.tell({"action": "ls", "meta": {"key": "k"}}))["d_ls"].keys() == {"incoming", "outgoing"}
    assert (await services.pfioh.tell({"action": "ls", "meta": {"key": "k", "subdir": "outgoing/link"}}))["status"] is False


async def test_the_remote_check(services):
    transport = COMPRESS | {"checkRemote": True}
    meta = {"remote": {"key": "k"}, "local": {"path": "/x"}, "transport": transport}
    room = (await services.pfioh.get("pushPath", meta)).json()
    assert room == {"status": True, "msg": "", "isfile": False, "isswiftstore": False, "isdir": False, "createdNewDir": False}
    assert (await services.pfioh.get("pullPath", meta)).json()["status"] is False
    await services.pfioh.push("k", zipped(FILES))
    assert (await services.pfioh.get("pullPath", json.dumps(meta))).json()["isdir"] is True


async def test_the_token_is_never_repeated(serve, session):
    token = "sixteen characters and more"
    async with serve(PFMOC_LEGACY_TOKEN=token) as daemon:
        services = Services(daemon, session)
        assert (await services.pman.post({"action": "hello"})).expect(401).json()["status"] is False
        reply = await services.pman.post(
            {"action": "hello", "meta": {"askAbout": "timestamp"}}, headers={"Authorization": f"bearer {token}"}
        )
        assert reply.expect(200).json()["status"] is True
        assert token not in reply.body.decode()


# What is remembered


@pytest.fixture
def source(tmp_path):
    directory = tmp_path / "storeBase" / "home" / "bob" / "in"
    (directory / "sub").mkdir(parents=True)
    for name, data in FILES.items():
        (directory / name).write_bytes(data)
    return "home/bob/in"


async def test_the_trail_grows(services, compute, tmp_path):
    async def summary():
        return (await services.pfcon.tell(status("j")))["jobOperationSummary"]

    def states(short):
        return [short["pushPath"]["status"], short["compute"]["status"], short["pullPath"]["status"]]

    assert states(await summary()) == ["not found"] * 3
    await services.pfioh.push("j", zipped(FILES))
    assert states(await summary()) == [True, "not started", "not started"]
    compute.begin_at_once = False
    await services.pman.tell(run("j"))
    assert states(await summary()) == [True, "notstarted", "not started"]
    compute.begin("j")
    await eventually(lambda: services.daemon.jobs.board.glance("j", "plugin").phase == "running")
    assert states(await summary()) == [True, "started", "not started"]
    compute.finish("j", exit_code=0, logs="done\n")
    await services.daemon.coordination.ended("j")
    short = await summary()
    assert states(short) == [True, True, "not started"]
    assert short["compute"]["return"] == {"status": True, "l_status": ["finishedSuccessfully"], "l_logs": ["done\n"]}
    await services.pfioh.pull("j", specialHandling={"op": "plugin", "cleanup": True})

    async def gone() -> bool:
        return not await services.daemon.jobs.storage.holds("j")

    await eventually(gone)
    assert states(await summary()) == [True, True, True]
    assert not (tmp_path / "storeBase" / "key-j").exists()


async def test_coordinate_that_waits(services, compute, source, tmp_path):
    target = tmp_path / "storeBase" / "home" / "bob" / "out"
    places = {"localSource": {"path": str(tmp_path / "storeBase" / source)}, "localTarget": {"path": "home/bob/out"}}
    document = coordinate(cleanup=True, **places)
    asking = asyncio.create_task(services.pfcon.tell(document | {"threadAction": False}))
    await eventually(lambda: compute.started)
    incoming = compute.started[0].mounts.incoming
    assert (incoming / "a.txt").read_bytes() == FILES["a.txt"]
    outgoing = compute.started[0].mounts.outgoing
    (outgoing / "result").write_text("good")
    (outgoing / "passwd").symlink_to("/etc/passwd")
    compute.finish("j", exit_code=0)
    answer = await asking
    assert answer["status"] is True
    assert answer["d_jobStatusSummary"]["status"] is True
    assert answer["d_swiftstore"]["filesPushed"] == 1
    assert [path.name for path in target.iterdir()] == ["result"]
    assert not (tmp_path / "storeBase" / "key-j").exists()
    again = await services.pfcon.tell(document)
    assert again["status"] is False
    assert "nothing there is ever replaced" in again["msg"]


async def test_coordinate_whose_plugin_fails_keeps_what_it_left(services, compute, tmp_path):
    asking = asyncio.create_task(services.pfcon.tell(coordinate(localTarget={"path": "out"}) | {"threadAction": 0}))
    await eventually(lambda: compute.started)
    (compute.started[0].mounts.outgoing / "partial").write_text("x")
    compute.finish("j", exit_code=1)
    answer = await asking
    assert answer["status"] is False
    assert "finishedWithError" in answer["msg"]
    assert answer["pullData"]["status"] is True
    assert (tmp_path / "storeBase" / "out" / "partial").exists()


async def test_coordinate_that_cannot_be_computed_says_so(services, compute):
    compute.refuses = 400
    await services.pfcon.tell(coordinate())

    async def failed():
        answer = await services.pfcon.tell(status("j"))
        return answer["jobOperationSummary"]["compute"]["submit"]["status"] is False and answer

    answer = await eventually(failed)
    assert "refused by the fake" in answer["jobOperation"]["info"]["compute"]["submit"]["msg"]
    assert answer["jobOperationSummary"]["pushPath"]["status"] is True
    assert answer["jobOperationSummary"]["pullPath"]["status"] == "not started"


async def test_a_second_coordinate_joins_the_first_or_is_refused(services, compute, source):
    document = coordinate(localSource={"path": source}, localTarget={"path": "out"})
    assert (await services.pfcon.tell(document))["status"] is True
    assert (await services.pfcon.tell(document))["status"] is True
    assert "under way" in (await services.pfcon.tell(coordinate()))["msg"]
    await eventually(lambda: compute.started)
    assert len(compute.started) == 1


def is_running(daemon):
    job = daemon.jobs.board.glance("j", Kind.PLUGIN)
    return job is not None and job.phase is Phase.RUNNING


@pytest.mark.parametrize("when", ["pushed", "running", "ended"])
async def test_coordinate_survives_a_restart(serve, session, compute, source, tmp_path, when):
    compute.unavailable = when == "pushed"
    async with serve() as daemon:
        services = Services(daemon, session)
        document = coordinate(localSource={"path": source}, localTarget={"path": "out"})
        assert (await services.pfcon.tell(document))["status"] is True
        if when == "pushed":
            await eventually(lambda: "start" in compute.calls)
        else:
            # A run whose start was not written down yet is undone when the daemon ends, and begun anew by the next.
            await eventually(lambda: is_running(daemon))
            (compute.started[0].mounts.outgoing / "result").write_text("good")
            compute.finish("j", exit_code=0) if when == "ended" else None
    compute.unavailable = False
    async with serve() as daemon:
        services = Services(daemon, session)
        if when == "pushed":
            await eventually(lambda: compute.started)
            (compute.started[0].mounts.outgoing / "result").write_text("good")
        if when != "ended":
            compute.finish("j", exit_code=0)

        async def over():
            return (await services.pfcon.tell(status("j")))["jobOperationSummary"]["status"]

        await eventually(over)
    assert len(compute.started) == 1
    assert (tmp_path / "storeBase" / "out" / "result").read_text() == "good"


@pytest.mark.parametrize("storage", ["filesystem", "fslink"])
async def test_coordinate_in_the_network(serve, session, compute, source, tmp_path, storage):
    async with serve(STORAGE_ENV=storage) as daemon:
        services = Services(daemon, session)
        swift = {"storageType": "swift"}
        document = coordinate(localSource={"path": source} | swift, localTarget={"path": "home/bob/out", "createDir": True})
        assert (await services.pfcon.tell(document))["status"] is True
        await eventually(lambda: compute.started)
        assert (compute.started[0].mounts.incoming / "a.txt").exists()
        (tmp_path / "storeBase" / "home" / "bob" / "out" / "result").write_text("good")
        compute.finish("j", exit_code=0)

        async def over():
            answer = await services.pfcon.tell(status("j"))
            return answer["jobOperationSummary"]["status"] and answer

        answer = await eventually(over)
        assert answer["jobOperation"]["info"]["swiftPut"]["d_swiftstore"]["filesPushed"] == 1
        assert "in the network" in (await services.pfioh.push("k", EMPTY_ZIP))["msg"]
        assert "in the network" in (await services.pman.tell(run("k")))["msg"]


# On another compute resource


@pytest.fixture
async def other(tmp_path):
    compute = FakeCompute()
    async with running(tmp_path / "other", compute=compute) as daemon:
        daemon.fake = compute
        yield daemon


@pytest.fixture
def registered(tmp_path, other):
    password = tmp_path / "password"
    password.write_text(PASSWORD)
    password.chmod(0o600)
    path = tmp_path / "resources.yml"
    path.write_text(f"resources: [{{name: moc, url: '{other.url}/api/v1/', user: {USER}, password_file: password}}]")
    return path


async def test_a_service_that_is_registered_gets_the_job(serve, session, compute, other, registered, source, tmp_path):
    async with serve(PFMOC_RESOURCES=registered) as daemon:
        services = Services(daemon, session)
        hello = await services.pfcon.tell({"action": "hello", "meta": {"askAbout": "timestamp", "service": "moc"}})
        assert hello["d_remote"]["status"] is True
        document = coordinate(service="moc", localSource={"path": source}, localTarget={"path": "out"})
        assert (await services.pfcon.tell(document))["status"] is True
        await eventually(lambda: other.fake.started)
        started = other.fake.started[0]
        assert (started.mounts.incoming / "sub" / "b.bin").read_bytes() == FILES["sub/b.bin"]
        assert list(started.argv) == ["simpledsapp", "--prefix", "x", "/share/incoming", "/share/outgoing"]
        assert (await services.pfcon.tell(status("j")))["jobOperationSummary"]["compute"]["status"] == "started"
        (started.mounts.outgoing / "result").write_text("good")
        other.fake.finish("j", exit_code=0, logs="done there\n")

        async def over():
            answer = (await services.pfcon.tell(status("j")))["jobOperationSummary"]
            return answer["status"] and answer

        answer = await eventually(over)
        assert answer["compute"]["return"]["l_logs"] == ["done there\n"]
        assert (
            "no service 'moc2'; there are host, localhost, moc" in (await services.pfcon.tell(coordinate(service="moc2")))["msg"]
        )
    assert (tmp_path / "storeBase" / "out" / "result").read_text() == "good"
    assert not compute.started
    assert not await other.jobs.board.find("j", "plugin")


async def test_a_resources_file_that_is_wrong(serve, session, tmp_path):
    (tmp_path / "resources.yml").write_text("resources: []")
    async with serve(PFMOC_RESOURCES=tmp_path / "resources.yml") as daemon:
        services = Services(daemon, session)
        reply = await services.pfcon.post(coordinate(service="moc"))
        assert "resources file" in reply.expect(503).json()["msg"]
        assert (await services.pfcon.tell({"action": "hello", "meta": {"askAbout": "timestamp"}}))["status"] is True


async def test_changes_of_a_trail_do_not_overwrite_each_other(services):
    trails = services.daemon.coordination.trails
    await asyncio.gather(trails.change("k", pulled="then"), trails.change("k", files=3), trails.change("k", step=Step.DONE))
    trail = await trails.get("k")
    assert (trail.pulled, trail.files, trail.step) == ("then", 3, Step.DONE)
