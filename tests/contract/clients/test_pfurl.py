"""pfurl as it comes from PyPI against the cmd services, with the messages of the seeds as they were sent (contract 5.1)."""

import sys
from functools import partial

import pytest
from harness.pfurl import VERSIONS, Pfurl
from harness.trees import contents, install, plant
from harness.waiting import eventually

WRAPPED = ("--jsonwrapper", "payload")
TOKEN = "sixteen characters and more"

PROGRAM = f"""#!{sys.executable} -I
import pathlib, shutil, sys
arguments = sys.argv[1:]
incoming, outgoing = map(pathlib.Path, arguments[4:6])
print("arguments:", arguments[:4])
if "--fail" in arguments:
    sys.exit("failed as told")
for path in sorted(incoming.rglob("*")):
    if path.is_file():
        shutil.copyfile(path, outgoing / (arguments[1] + path.name))
"""

PUSH = """{"action":"pushPath","meta":{"remote":{"key":"someKey"},"local":{"path":"/home/data"},
"transport":{"mechanism":"compress","compress":{"encoding":"base64","archive":"zip","unpack":true,"cleanup":true}}}}"""
BARE_RUN = """{"action":"run","meta":{"cmd":"cal 7 1970","auid":"rudolphpienaar","jid":"cal-job-1234","threaded":true}}"""
RUN = """{"action":"run","meta":{
"cmd":"$execshell $selfpath/$selfexec --prefix test- --sleepLength 0 /share/incoming /share/outgoing",
"auid":"rudolphpienaar","jid":"simpledsapp-1","threaded":true,
"container":{"target":{"image":"fnndsc/pl-simpledsapp","cmdParse":true},
"manager":{"image":"fnndsc/swarm","app":"swarm.py","env":{"shareDir":"/home/tmp/share","serviceType":"docker",
"serviceName":"testService"}}}}}"""


@pytest.fixture
def pfurl(request, tmp_path):
    """The newest release; others by indirect parameter."""
    return Pfurl(getattr(request, "param", VERSIONS[0]), tmp_path / "client")


every_release = pytest.mark.parametrize("pfurl", VERSIONS, indirect=True)


@pytest.fixture
def image(tmp_path):
    install(tmp_path / "images", "fnndsc/pl-simpledsapp:latest", {"simpledsapp": PROGRAM})


@pytest.fixture
def inputs(tmp_path):
    return plant(tmp_path / "data", {"a.txt": b"a" * 1000, "sub/b.bin": bytes(range(256))})


class Services:
    def __init__(self, daemon) -> None:
        self.daemon = daemon
        self.pfcon, self.pman, self.pfioh = (f"{url}/api/v1/cmd" for url in daemon.urls[1:])


@pytest.fixture
def serve(real, image):
    return partial(real, PFMOC_LISTENERS="cmd-pfcon@0,cmd-pman@0,cmd-pfioh@0")


@pytest.fixture
async def services(serve):
    async with serve() as daemon:
        yield Services(daemon)


def moved(action, key, path, **more):
    compress = {"archive": "zip", "unpack": True, "cleanup": True}
    meta = {"remote": {"key": key}, "local": {"path": str(path)}, "transport": {"mechanism": "compress", "compress": compress}}
    return {"action": action, "meta": meta | more}


def pulled(key, path, **more):
    message = moved("pullPath", key, path, **more)
    message["meta"]["local"]["createDir"] = True
    return message


def asked(jid):
    return {"action": "status", "meta": {"key": "jid", "value": jid}}


async def finished(pfurl, services, jid):
    await services.daemon.coordination.ended(jid)
    return await pfurl(services.pman, asked(jid), *WRAPPED)


@every_release
async def test_push_run_and_pull_with_the_messages_of_the_seeds(services, pfurl, inputs, tmp_path):
    sent = await pfurl(services.pfioh, PUSH.replace("/home/data", str(inputs)).replace("someKey", "simpledsapp-1"))
    assert sent["stdout"]["status"] is True
    assert sent["stdout"]["compress"]["remoteServer"]["msg"] == "File written successfully!"
    assert sent["stdout"]["remoteCheck"]["response"]["data"]["isdir"] is False

    started = await pfurl(services.pman, RUN, *WRAPPED)
    assert started["status"] is True
    assert started["meta"]["container"]["target"]["image"] == "fnndsc/pl-simpledsapp"
    over = await finished(pfurl, services, "simpledsapp-1")
    assert over["status"] is True
    assert over["d_ret"]["l_status"] == ["finishedSuccessfully"]
    assert over["d_ret"]["l_logs"] == ["arguments: ['--prefix', 'test-', '--sleepLength', '0']\n"]
    assert over["d_ret"]["0.end"]["returncode"] == [0]

    target = tmp_path / "pulled"
    got = await pfurl(services.pfioh, pulled("simpledsapp-1", target))
    assert got["stdout"]["status"] is True
    assert contents(target) == {"test-a.txt": b"a" * 1000, "test-b.bin": bytes(range(256))}


@every_release
async def test_what_was_pushed_comes_back(services, pfurl, inputs, tmp_path):
    sent = await pfurl(services.pfioh, PUSH.replace("/home/data", str(inputs)))
    assert sent["stdout"]["compress"]["remoteServer"]["postop"]["status"] is False
    target = tmp_path / "pulled"
    got = await pfurl(services.pfioh, pulled("someKey", target))
    assert got["stdout"]["msg"] == "Multiple file move successful."
    assert contents(target) == contents(inputs)
    assert [path.name for path in (tmp_path / "client").iterdir()] == ["tmp"]


async def test_a_single_file_is_sent_packed_or_as_it_is(services, pfurl, inputs, tmp_path):
    await pfurl(services.pfioh, moved("pushPath", "one", inputs / "a.txt"))
    plain = moved("pushPath", "two", inputs / "a.txt")
    plain["meta"]["transport"]["compress"] = {"archive": "", "unpack": False, "cleanup": False}
    sent = await pfurl(services.pfioh, plain)
    assert sent["stdout"]["status"] is True
    for key in ("one", "two"):
        target = tmp_path / key
        await pfurl(services.pfioh, pulled(key, target))
        assert contents(target) == {"a.txt": b"a" * 1000}


async def test_special_handling_for_a_plugin(services, pfurl, inputs, tmp_path, image):
    special = {"op": "plugin", "cleanup": True}
    sent = await pfurl(services.pfioh, moved("pushPath", "special", inputs, specialHandling=special))
    postop = sent["stdout"]["compress"]["remoteServer"]["postop"]
    storebase = tmp_path / "storeBase"
    assert postop["op"] == "plugin"
    assert postop["status"] is True
    assert postop["shareDir"] == str(storebase / "key-special")
    assert postop["outgoingPath"] == str(storebase / "key-special" / "outgoing")
    assert contents(storebase / "key-special" / "incoming") == contents(inputs)

    run = {"cmd": "simpledsapp --prefix x- --sleepLength 0 /share/incoming /share/outgoing", "auid": "bob", "jid": "special"}
    run |= {"threaded": True, "number_of_workers": "1", "cpu_limit": "1000m", "memory_limit": "512Mi", "gpu_limit": "0"}
    manager = {"env": {"shareDir": postop["shareDir"], "meta-store": "key"}}
    run |= {"container": {"target": {"image": "fnndsc/pl-simpledsapp"}, "manager": manager}}
    assert (await pfurl(services.pman, {"action": "run", "meta": run}, *WRAPPED))["status"] is True
    await finished(pfurl, services, "special")

    target = tmp_path / "pulled"
    await pfurl(services.pfioh, pulled("special", target, specialHandling=special))
    assert contents(target) == {"x-a.txt": b"a" * 1000, "x-b.bin": bytes(range(256))}
    await eventually(lambda: not (storebase / "key-special").exists())
    gone = await pfurl(services.pfioh, pulled("special", target, specialHandling=special))
    assert gone["stdout"]["status"] is False


async def test_an_empty_output(services, pfurl, tmp_path):
    started = await pfurl(services.pman, RUN, *WRAPPED)
    assert started["status"] is True
    await finished(pfurl, services, "simpledsapp-1")
    target = tmp_path / "pulled"
    await pfurl(services.pfioh, pulled("simpledsapp-1", target, specialHandling={"op": "plugin"}))
    assert list(contents(target)) == ["computeCreatedNoFiles.json"]


async def test_a_bare_command_is_refused_with_a_reason(services, pfurl):
    answer = await pfurl(services.pman, BARE_RUN, *WRAPPED)
    assert answer["status"] is False
    assert "shell" in answer["msg"]
    assert (await pfurl(services.pman, asked("cal-job-1234"), *WRAPPED))["d_ret"]["l_status"] == []


@every_release
async def test_hello(services, pfurl):
    message = {"action": "hello", "meta": {"askAbout": "echoBack", "echoBack": "Hi there!", "service": "host"}}
    pfcon = await pfurl(services.pfcon, message, *WRAPPED)
    assert pfcon["status"] is True
    assert pfcon["d_ret"]["echoBack"] == {"msg": "Hi there!"}
    assert pfcon["d_remote"]["status"] is True
    pman = await pfurl(services.pman, message, *WRAPPED)
    assert pman["status"] is True
    assert pman["d_ret"]["name"] == "pman"
    pfioh = await pfurl(services.pfioh, message, verb="GET")
    assert pfioh["data"]["stdout"]["status"] is True
    assert pfioh["data"]["stdout"]["d_ret"]["name"] == "pfioh"


@pytest.mark.parametrize("pfurl", ["2.2.4.6"], indirect=True)
async def test_the_body_is_found_by_those_who_look_for_one(services, pfurl):
    message = {"action": "status", "meta": {"remote": {"key": "k"}}}
    answer = await pfurl(services.pfcon, message, "--httpResponseBodyParse", *WRAPPED)
    assert answer["jobOperationSummary"]["swiftPut"]["status"] == "not found"


CHARM = {
    "action": "coordinate",
    "threadAction": True,
    "meta-store": {"meta": "meta-compute", "key": "jid"},
    "meta-data": {
        "remote": {"key": "%meta-store"},
        "localSource": {"path": "home/bob/uploads"},
        "localTarget": {"path": "home/bob/feed_1", "createDir": True},
        "specialHandling": {"op": "plugin", "cleanup": True},
        "transport": {"mechanism": "compress", "compress": {"archive": "zip", "unpack": True, "cleanup": True}},
        "service": "pangea",
    },
    "meta-compute": {
        "comment": "ignored",
        "cmd": "simpledsapp --prefix c- --sleepLength 0 /share/incoming /share/outgoing --saveinputmeta --saveoutputmeta",
        "threaded": True,
        "auid": "bob",
        "jid": "chris-jid-7",
        "number_of_workers": "1",
        "cpu_limit": "1000",
        "memory_limit": "200",
        "gpu_limit": 0,
        "container": {
            "target": {"image": "fnndsc/pl-simpledsapp", "cmdParse": False, "comment": "ignored"},
            "manager": {
                "image": "fnndsc/swarm",
                "app": "swarm.py",
                "env": {"meta-store": "key", "serviceType": "docker", "shareDir": "%shareDir", "serviceName": "chris-jid-7"},
            },
        },
        "service": "pangea",
    },
}


@every_release
async def test_coordinate_and_status(serve, pfurl, inputs, tmp_path):
    source = tmp_path / "storeBase" / "home" / "bob" / "uploads"
    source.parent.mkdir(parents=True)
    inputs.rename(source)
    async with serve(PFMOC_SERVICE_NAMES="host,localhost,pangea") as daemon:
        services = Services(daemon)
        status = {"action": "status", "meta": {"remote": {"key": "chris-jid-7"}}}
        before = await pfurl(services.pfcon, status, *WRAPPED)
        assert before["status"] is False
        assert before["jobOperationSummary"]["pushPath"]["status"] == "not found"
        started = await pfurl(services.pfcon, CHARM, *WRAPPED)
        assert started["msg"] == "In do_POST"
        assert started["status"] is True
        assert started["formsize"] > 1000

        async def done():
            return (await daemon.coordination.trails.get("chris-jid-7")).step == "done"

        await eventually(done, what="the coordinate to end")
        over = await pfurl(services.pfcon, status, *WRAPPED)
    summary = over["jobOperationSummary"]
    assert summary["status"] is True
    assert summary["compute"]["submit"]["status"] is True
    assert summary["compute"]["return"]["l_status"] == ["finishedSuccessfully"]
    assert "'c-'" in summary["compute"]["return"]["l_logs"][0]
    assert over["jobOperation"]["info"]["swiftPut"]["d_swiftstore"]["filesPushed"] == 2
    assert sorted(contents(tmp_path / "storeBase" / "home" / "bob" / "feed_1")) == ["c-a.txt", "c-b.bin"]


async def test_the_token_is_asked_for(serve, pfurl, tmp_path, inputs):
    async with serve(PFMOC_LEGACY_TOKEN=TOKEN) as daemon:
        services = Services(daemon)
        hello = {"action": "hello", "meta": {"askAbout": "timestamp"}}
        assert (await pfurl(services.pfioh, hello))["msg"] == "Missing authorization header."
        assert (await pfurl(services.pfioh, hello, "--authToken", "wrong"))["msg"] == "Invalid authorization token."
        assert (await pfurl(services.pfioh, hello, "--authToken", TOKEN))["stdout"]["status"] is True
        assert (await pfurl(services.pfioh, hello, "--auth", f"chris:{TOKEN}"))["stdout"]["status"] is True
        sent = await pfurl(services.pfioh, moved("pushPath", "k", inputs), "--authToken", TOKEN)
        assert sent["stdout"]["status"] is True
        refused = await pfurl(services.pfioh, moved("pushPath", "k2", inputs))
        assert refused["stdout"]["status"] is False
        assert refused["stdout"]["msg"] == "Missing authorization header."
        assert not (tmp_path / "storeBase" / "key-k2").exists()


async def test_one_shot_stops_no_server(services, pfurl, inputs):
    sent = await pfurl(services.pfioh, moved("pushPath", "k", inputs), "--oneShot")
    assert sent["stdout"]["status"] is True
    assert sent["stdout"]["shutdown"]["status"] is False
    assert (await pfurl(services.pfioh, {"action": "ls", "meta": {"key": "k", "subdir": "incoming"}}))["status"] is True


async def test_a_wrong_action(services, pfurl):
    for url in (services.pfcon, services.pman, services.pfioh):
        answer = await pfurl(url, {"action": "makeCoffee", "meta": {}}, *WRAPPED)
        assert answer["status"] is False
        assert "'makeCoffee'" in answer["msg"]
