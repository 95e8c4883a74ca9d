"""The clients of the generations before pfcon 5, unmodified (contract 3.2, 3.3)."""

import sys

import pytest
from harness.clients import Client
from harness.daemon import PASSWORD, USER
from harness.http import PLUGIN, STRINGS
from harness.trees import contents, plant
from harness.zips import unzipped

TOKEN = "a-token-of-24-characters"
PROGRAM = """
import pathlib, shutil, sys
*arguments, incoming, outgoing = sys.argv[1:]
print("arguments:", arguments)
shutil.copytree(incoming, pathlib.Path(outgoing, "copy of"))
sys.exit("failed as told" if "--fail" in arguments else 0)
"""
LISTS = {**PLUGIN, "env": ["CHRIS_JID=x"]}
FLAT = ["jid", "image", "cmd", "status", "message", "timestamp", "logs"]
FILES = {"a.txt": b"a" * 1000, "sub/b.bin": bytes(range(256))}
COPIED = {f"copy of/{name}": data for name, data in FILES.items()}


@pytest.fixture
def job(tmp_path):
    """A job in strings whose program really runs, in the process environment."""
    bin_ = tmp_path / "images" / "fnndsc" / "pl-copy" / "latest" / "bin"
    bin_.mkdir(parents=True)
    (bin_ / "python3").symlink_to(sys.executable)
    (bin_ / "copyfiles").write_text(PROGRAM)
    return {**STRINGS, "selfpath": str(bin_)}


CLIENT_2 = """
from pfconclient.client import Client
from pfconclient.exceptions import PfconRequestException
client = Client(base, user, password)
client.initial_wait = 0.05
status = client.run_job("j2", dict(job), inputs, outputs)
submitted = client.submit_job("f2", {**job, "cmd_args": "--fail"}, client.create_zip_file(inputs).getvalue())
failed = client.poll_job_status("f2")
logs = client.get_job_status("f2")["compute"]["logs"]
client.get_job_zip_file("f2", outputs + "-zip")
client.delete_job("f2")
errors = []
for call in (
    lambda: client.get_job_status("f2"),
    lambda: client.delete_job("f2"),
    lambda: client.submit_job("n2", dict(job), None),
    lambda: client.submit_job("health", dict(job), b"no zip"),
    lambda: client.submit_job("n2", {**job, "cpu_limit": "much"}, b"no zip"),
    lambda: Client(base, user, "wrong").get_job_status("f2"),
):
    try:
        call()
    except PfconRequestException as error:
        errors.append(str(error).strip())
result = {"status": status, "submitted": submitted, "failed": failed, "logs": logs, "errors": errors}
"""


@pytest.mark.parametrize("token", ["", TOKEN])
async def test_client_2_against_pfcon_3(real, job, tmp_path, token):
    """It knows no bearer token, but sends a user and a password: ignored on loopback, and the shared token elsewhere."""
    inputs, outputs = plant(tmp_path / "in", FILES), tmp_path / "out"
    async with real(PFMOC_LISTENERS="pfcon3@0", PFMOC_LEGACY_TOKEN=token) as daemon:
        result = await Client("2.2.0").script(
            CLIENT_2,
            base=daemon.urls[1] + "/api/v1/",
            user="chris",
            password=token,
            job=job,
            inputs=str(inputs),
            outputs=str(outputs),
        )
    assert result["status"] == "finishedSuccessfully"
    assert contents(outputs) == COPIED
    assert list(result["submitted"]) == ["data", "compute"]
    assert list(result["submitted"]["data"]) == ["jid", "nfiles", "timestamp", "path"]
    assert list(result["submitted"]["compute"]) == FLAT
    assert (result["failed"], result["submitted"]["data"]["nfiles"]) == ("finishedWithError", 2)
    assert "arguments: ['--fail']" in result["logs"]
    assert unzipped((tmp_path / "out-zip" / "f2.zip").read_bytes()) == COPIED
    unknown, gone, no_zip, reserved, limit, stranger = result["errors"]
    assert unknown == gone == '{"message": "No such job: f2 (plugin)"}'
    assert no_zip == '{"message": {"data_file": "Missing required parameter in an uploaded file"}}'
    assert reserved == """{"message": "jid: 'health' is the name of a route and cannot be a job id"}"""
    assert limit == """{"message": {"cpu_limit": "invalid literal for int() with base 10: 'much'"}}"""
    assert stranger == ('{"message": "Invalid authorization token."}' if token else unknown)
    assert [path.name for path in (tmp_path / "storeBase").iterdir()] == [".pfmoc"]


async def test_command_line_2(real, job, tmp_path):
    inputs, outputs = plant(tmp_path / "in", FILES), tmp_path / "out"
    options = [word for name, value in job.items() if name != "cmd_path_flags" for word in (f"--{name}={value}",)]
    async with real(PFMOC_LISTENERS="pfcon3@0") as daemon:
        pfconclient = Client("2.2.0")
        at = (daemon.urls[1] + "/api/v1/", "c2")
        code, output = await pfconclient.command(*at, "submit", inputs, *options)
        assert code == 0, output
        while "finished" not in output:
            code, output = await pfconclient.command(*at, "status")
            assert code == 0, output
        code, output = await pfconclient.command(*at, "download", outputs)
        assert code == 0, output
        code, output = await pfconclient.command(*at, "delete")
        assert (code, "Deleted job c2" in output) == (0, True), output
    assert contents(outputs) == COPIED


CLIENT_30 = """
from pfconclient.client import Client
client = Client(base, Client.get_auth_token(base + "auth-token/", user, password))
client.initial_wait = 0.05
ran = client.run_job("j30", dict(job), inputs, outputs)
failed = client.run_job("f30", {**job, "cmd_args": "--fail"}, inputs, outputs)
result = [ran, failed]
"""
CLIENT_33 = CLIENT_30.replace('"cmd_args": "--fail"', '"args": ["--fail"]').replace("30", "33")


async def test_client_3_0_against_pfcon_4_beside_client_3_3_against_pfcon_5(real, job, tmp_path):
    inputs = plant(tmp_path / "in", FILES)
    lists = {
        **LISTS,
        "args": ["--quick"],
        "image": job["image"],
        "entrypoint": ["python3", f"{job['selfpath']}/copyfiles"],
        "memory_limit": 512,
    }
    async with real(PFMOC_DIALECTS="pfcon5,pfcon4") as daemon:
        common = {"base": daemon.url + "/api/v1/", "user": USER, "password": PASSWORD, "inputs": str(inputs)}
        old = await Client("3.0.0").script(CLIENT_30, **common, job=job, outputs=str(tmp_path / "30"))
        new = await Client("3.3.0").script(CLIENT_33, **common, job=lists, outputs=str(tmp_path / "33"))
    assert old == new == ["finishedSuccessfully", "finishedWithError"]
    assert contents(tmp_path / "30") == contents(tmp_path / "33") == COPIED
