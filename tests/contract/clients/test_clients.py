"""python-pfconclient 4.0.0 and 3.3.0 as they come from PyPI, against a daemon over HTTP (contract 8.1, 8.2)."""

import asyncio
import sys

import pytest
from harness.clients import Client
from harness.daemon import PASSWORD, USER
from harness.trees import contents, install, plant

IMAGE = "fnndsc/pl-copy:1.0"
PROGRAM = f"""#!{sys.executable} -I
import pathlib, shutil, sys
incoming, outgoing = map(pathlib.Path, sys.argv[-2:])
print("arguments:", sys.argv[1:-2])
if "--fail" in sys.argv:
    sys.exit("failed as told")
for path in incoming.rglob("*"):
    if path.is_file():
        target = outgoing / "copy of" / path.relative_to(incoming)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
"""
JOB = {
    "args": ["--prefix", "le", "two words"],
    "args_path_flags": [],
    "auid": "bob",
    "number_of_workers": "1",
    "cpu_limit": 1000,
    "memory_limit": 512,
    "gpu_limit": 0,
    "image": IMAGE,
    "entrypoint": ["copyfiles"],
    "type": "ds",
    "env": ["CHRIS_JID=x"],
}


@pytest.fixture(scope="module")
def client4():
    return Client("4.0.0")


@pytest.fixture(scope="module")
def client3():
    return Client("3.3.0")


@pytest.fixture(autouse=True)
def image(tmp_path):
    install(tmp_path / "images", IMAGE, {"copyfiles": PROGRAM})


@pytest.fixture
def inputs(tmp_path):
    return plant(tmp_path / "input", {"a.txt": b"a" * 1000, "sub/b.bin": bytes(range(256))})


COPIED = {"copy of/a.txt": b"a" * 1000, "copy of/sub/b.bin": bytes(range(256))}

ZIP_4 = """
from pfconclient.client import Client, JobType
token = Client.get_auth_token(base + "auth-token/", user, password)
client = Client(base, token)
client.initial_wait = 0.05
info = client.get_server_info()
submitted = client.submit_job(JobType.PLUGIN, "j4", job, client.create_zip_file(inputs))
status = client.poll_job_status(JobType.PLUGIN, "j4")
logs = client.get_job_status(JobType.PLUGIN, "j4")["compute"]["logs"]
client.get_plugin_job_files("j4", outputs)
client.get_plugin_job_zip_file("j4", outputs + "-zip")
deletion = client.submit_job(JobType.DELETE, "j4", {})
client.poll_job_status(JobType.DELETE, "j4")
for kind in (JobType.PLUGIN, JobType.DELETE, JobType.COPY, JobType.UPLOAD):
    client.delete_job(kind, "j4")
result = {"info": info, "submitted": submitted, "status": status, "logs": logs, "deletion": deletion, "token": len(token)}
"""


async def test_client_4_over_a_zip(real, client4, inputs, tmp_path, storebase):
    async with real("zipfile") as daemon:
        result = await client4.script(
            ZIP_4,
            base=daemon.url + "/api/v1/",
            user=USER,
            password=PASSWORD,
            job=JOB,
            inputs=str(inputs),
            outputs=str(tmp_path / "outputs"),
        )
    assert result["info"]["pfcon_innetwork"] is False
    assert result["submitted"]["data"]["nfiles"] == 2
    assert result["status"] == "finishedSuccessfully"
    assert "arguments: ['--prefix', 'le', 'two words']" in result["logs"]
    assert result["token"] == 133
    assert contents(tmp_path / "outputs") == COPIED
    assert (tmp_path / "outputs-zip" / "j4.zip").exists()
    assert not (storebase / "key-j4").exists()


NETWORK_4 = """
from pfconclient.client import Client, JobType
client = Client(base, Client.get_auth_token(base + "auth-token/", user, password))
client.initial_wait = 0.05
info = client.get_server_info()
if info["requires_copy_job"]:
    client.submit_job(JobType.COPY, "j4", {"input_dirs": [inputs], "output_dir": outputs})
    assert client.poll_job_status(JobType.COPY, "j4") == "finishedSuccessfully"
client.submit_job(JobType.PLUGIN, "j4", {**job, "input_dirs": [inputs], "output_dir": outputs})
status = client.poll_job_status(JobType.PLUGIN, "j4")
document = client.get_plugin_job_json_data("j4", outputs)
client.submit_job(JobType.DELETE, "j4", {})
for kind in JobType:
    client.delete_job(kind, "j4")
result = {"status": status, "document": document}
"""


@pytest.mark.parametrize("storage", ["filesystem", "fslink"])
async def test_client_4_in_the_network(real, client4, inputs, storebase, storage):
    place = storebase / "home" / "bob with blank"
    place.mkdir(parents=True)
    inputs.rename(place / "in")
    (place / "out").mkdir()
    async with real(storage) as daemon:
        result = await client4.script(
            NETWORK_4,
            base=daemon.url + "/api/v1/",
            user=USER,
            password=PASSWORD,
            job=JOB,
            inputs="home/bob with blank/in",
            outputs="home/bob with blank/out",
        )
    assert result["status"] == "finishedSuccessfully"
    assert result["document"]["job_output_path"] == "home/bob with blank/out"
    assert sorted(result["document"]["rel_file_paths"]) == sorted(COPIED)
    assert contents(place / "out") == COPIED


ERRORS_4 = """
from pfconclient.client import Client, JobType
from pfconclient.exceptions import PfconRequestException, PfconRequestInvalidTokenException
result = {}
def attempt(name, call):
    try:
        call()
    except PfconRequestException as error:
        result[name] = [type(error).__name__, error.code, str(error)]
big = b"x" * (40 << 20)
attempt("password", lambda: Client.get_auth_token(base + "auth-token/", user, "wrong"))
stranger = Client(base, "a.stale.token")
attempt("token", lambda: stranger.get_server_info())
attempt("token with a zip", lambda: stranger.submit_job(JobType.PLUGIN, "e", dict(job), big))
client = Client(base, Client.get_auth_token(base + "auth-token/", user, password))
attempt("zip", lambda: client.submit_job(JobType.PLUGIN, "e", dict(job), big))
attempt("field", lambda: client.submit_job(JobType.PLUGIN, "e", {**job, "type": "x"}, b""))
attempt("unknown", lambda: client.get_job_status(JobType.PLUGIN, "nobody"))
attempt("image", lambda: client.submit_job(JobType.PLUGIN, "e", {**job, "image": "nobody/nothing"}, zip_of()))
attempt("id", lambda: client.submit_job(JobType.PLUGIN, "../e", dict(job), zip_of()))
"""
ZIP_OF = """
import io, zipfile
def zip_of():
    buffer = io.BytesIO()
    zipfile.ZipFile(buffer, "w").close()
    return buffer.getvalue()
"""


async def test_client_4_understands_the_errors(real, client4, storebase):
    async with real("zipfile") as daemon:
        errors = await client4.script(ZIP_OF + ERRORS_4, base=daemon.url + "/api/v1/", user=USER, password=PASSWORD, job=JOB)
    kinds = {name: (kind, code) for name, (kind, code, _) in errors.items()}
    assert kinds == {
        "password": ("PfconRequestException", 400),
        "token": ("PfconRequestInvalidTokenException", 401),
        "token with a zip": ("PfconRequestInvalidTokenException", 401),
        "zip": ("PfconRequestException", 400),
        "field": ("PfconRequestException", 400),
        "unknown": ("PfconRequestException", 404),
        "image": ("PfconRequestException", 404),
        "id": ("PfconRequestException", 400),
    }
    assert '"type": "x is not a valid choice"' in errors["field"][2]
    assert [path.name for path in storebase.iterdir()] == [".pfmoc"]


LIMITS = [
    "--auid",
    "bob",
    "--number_of_workers",
    "1",
    "--cpu_limit",
    "1000",
    "--memory_limit",
    "512",
    "--gpu_limit",
    "0",
    "--type",
    "ds",
]


async def test_command_line_4(real, client4, inputs, storebase):
    """Its ``submit`` sends a four-byte ``data_file`` by mistake: ignored in the network, a bad zip out of it."""
    inputs.rename(storebase / "in")
    (storebase / "out").mkdir()
    plugin = [*f"--image {IMAGE} --entrypoint copyfiles --args a b --input_dirs in --output_dir out".split(), *LIMITS]
    async with real("filesystem") as daemon:
        login = await logged_in(client4, daemon)
        code, output = await client4.command(
            *login, *["submit", "--job_type", "copy", "--jid", "c", "--input_dirs", "in", "--output_dir", "out"]
        )
        assert (code, "copySkipped" in output) == (0, True), output
        code, output = await client4.command(*login, *["submit", "--job_type", "plugin", "--jid", "c"], *plugin)
        assert code == 0, output
        while "finished" not in output:
            code, output = await client4.command(*login, *["status", "--job_type", "plugin", "--jid", "c"])
            assert code == 0, output
        assert "finishedSuccessfully" in output
        code, output = await client4.command(*login, *["delete", "--job_type", "plugin", "--jid", "c"])
        assert (code, "Deleted job c" in output) == (0, True), output
    assert contents(storebase / "out") == COPIED


async def logged_in(client, daemon):
    """The arguments with which every command begins."""
    base = daemon.url + "/api/v1/"
    code, output = await client.command(base, "auth", "--pfcon_user", USER, "--pfcon_password", PASSWORD)
    assert code == 0, output
    return base, "-a", output.split("token:")[1].strip()


async def test_command_line_4_out_of_the_network(real, client4):
    async with real("zipfile") as daemon:
        login = await logged_in(client4, daemon)
        plugin = [*f"--image {IMAGE} --entrypoint copyfiles".split(), *LIMITS]
        code, output = await client4.command(*login, *["submit", "--job_type", "plugin", "--jid", "c"], *plugin)
    assert code != 0
    assert "data_file: Bad zip file" in output


ZIP_3 = """
from pfconclient.client import Client
client = Client(base, Client.get_auth_token(base + "auth-token/", user, password))
client.initial_wait = 0.05
info = client.get_server_info()
status = client.run_job("j3", job, inputs, outputs)
failed = client.run_job("f3", {**job, "args": ["--fail"]}, inputs, outputs + "-failed")
from pfconclient.exceptions import PfconRequestException
try:
    client.delete_job("j3")
except PfconRequestException as error:
    code = error.code
result = {"info": info, "status": status, "failed": failed, "code": code}
"""


async def test_client_3_runs_a_job(real, client3, inputs, tmp_path, storebase):
    async with real("zipfile") as daemon:
        result = await client3.script(
            ZIP_3,
            base=daemon.url + "/api/v1/",
            user=USER,
            password=PASSWORD,
            job=JOB,
            inputs=str(inputs),
            outputs=str(tmp_path / "outputs"),
        )
    assert (result["status"], result["failed"], result["code"]) == ("finishedSuccessfully", "finishedWithError", 404)
    assert contents(tmp_path / "outputs") == COPIED
    assert [path.name for path in storebase.iterdir()] == [".pfmoc"]


async def test_command_line_3(real, client3, inputs, tmp_path):
    program = f"--execshell copyfiles --selfpath /usr/local/bin --selfexec x --image {IMAGE}".split()
    async with real("zipfile") as daemon:
        login = await logged_in(client3, daemon)
        code, output = await client3.command(*login, "submit", inputs, "--jid", "c", *program, "--args", "a b", *LIMITS)
        assert code == 0, output
        while "finished" not in output:
            code, output = await client3.command(*login, "status", "--jid", "c")
            assert code == 0, output
        code, output = await client3.command(*login, "download", "--jid", "c", tmp_path / "outputs")
        assert code == 0, output
        code, output = await client3.command(*login, "delete", "--jid", "c")
        assert code == 0, output
    assert contents(tmp_path / "outputs") == COPIED


NETWORK_3 = """
from pfconclient.client import Client
client = Client(base, Client.get_auth_token(base + "auth-token/", user, password))
client.initial_wait = 0.05
client.submit_job("j3", {**job, "input_dirs": ["in"], "output_dir": "out"})
status = client.poll_job_status("j3")
document = client.get_job_json_data("j3", "out")
client.delete_job("j3")
result = {"status": status, "document": document}
"""


@pytest.mark.parametrize("storage", ["filesystem", "fslink"])
async def test_client_3_in_the_network(real, client3, inputs, storebase, storage):
    inputs.rename(storebase / "in")
    (storebase / "out").mkdir()
    async with real(storage) as daemon:
        result = await client3.script(NETWORK_3, base=daemon.url + "/api/v1/", user=USER, password=PASSWORD, job=JOB)
    assert result["status"] == "finishedSuccessfully"
    assert result["document"]["job_output_path"] == "out"
    assert sorted(result["document"]["rel_file_paths"]) == sorted(COPIED)
    assert contents(storebase / "out") == COPIED


async def test_both_clients_at_once_on_one_daemon(real, client3, client4, inputs, tmp_path):
    async with real("zipfile") as daemon:
        common = {"base": daemon.url + "/api/v1/", "user": USER, "password": PASSWORD, "job": JOB, "inputs": str(inputs)}
        four, three = await asyncio.gather(
            client4.script(ZIP_4, **common, outputs=str(tmp_path / "four")),
            client3.script(ZIP_3, **common, outputs=str(tmp_path / "three")),
        )
    assert (four["status"], three["status"]) == ("finishedSuccessfully", "finishedSuccessfully")
    assert contents(tmp_path / "four") == contents(tmp_path / "three") == COPIED
