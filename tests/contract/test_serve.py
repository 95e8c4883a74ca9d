"""The daemon as a process: starting, draining, ending, and what it says of itself (faults 2, 20, 21)."""

import asyncio
import io
import os
import shutil
import signal
import time
import zipfile
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import jwt
import pytest
from harness.daemon import launched, serving, variables
from harness.http import PLUGIN, client, connection, head, raw
from harness.lab import install_tools
from harness.podman import IMAGE
from harness.waiting import eventually
from harness.zips import zipped

from pfmoc.settings import DEV_SECRET

SECRET = "a signing key nobody may see, of some length"
ZIP = zipped({"a": b"x" * 100_000})


async def run(home, *arguments, **overrides):
    async with launched(home, *arguments, **overrides) as served:
        code = await asyncio.wait_for(served.process.wait(), 30)
        return code, served.log.read_text()


async def test_help_names_the_commands_and_exit_codes(tmp_path):
    code, text = await run(tmp_path, "--help")
    assert code == 0
    assert "serve" in text
    assert "check" in text
    code, text = await run(tmp_path, "serve", "--help")
    assert (code, "--env-file FILE" in text, "--pid-file FILE" in text, "Exit status" in text) == (0, True, True, True)
    code, text = await run(tmp_path)
    assert code == 2


async def test_every_problem_with_the_settings_is_said_at_once_one_per_line(tmp_path):
    for command in ("serve", "check"):
        wrong = {"PORT": "99999", "STORAGE_ENV": "swift2", "IGNORE_LIMITS": "perhaps"}
        code, text = await run(tmp_path, command, **wrong)
        assert code == 2
        lines = text.splitlines()
        assert all(line.startswith("pfmoc: ") for line in lines)
        assert {line.split(": ")[1] for line in lines} == {"PORT", "STORAGE_ENV", "IGNORE_LIMITS"}
        assert "Traceback" not in text


async def test_check_accepts_good_settings_and_touches_nothing(tmp_path):
    file = tmp_path / "settings"
    file.write_text("PFMOC_DRAIN_S=7\n")
    assert (await run(tmp_path, "check", "--env-file", str(file)))[0] == 0
    assert not (tmp_path / "state").exists()
    assert (await run(tmp_path, "check", "--env-file", "/no/such/file"))[0] == 2


async def test_with_no_settings_at_all_it_is_embedded(tmp_path):
    environ = {"PORT": "0"}
    async with serving(tmp_path, environ=environ) as served, client(served.url) as api:
        assert served.url.startswith("http://127.0.0.1:")
        assert (await api.get("pluginjobs/")).json()["container_env"] == "process"
        assert (await api.get("/readyz")).status == 200
        assert await served.stop() == 0
    assert oct((tmp_path / ".cache" / "pfmoc" / "embedded").stat().st_mode)[-3:] == "700"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_with_exit_code_0(tmp_path, number):
    async with serving(tmp_path) as served:
        assert await served.stop(number) == 0
        assert [record["event"] for record in served.records()][-1] == "stopped"
        assert not [record for record in served.records() if record.get("level") in ("warning", "error") or "plain" in record]


async def test_draining(tmp_path):
    """Readiness goes off at once, uploads in flight finish, what comes anew gets a 503."""
    async with serving(tmp_path, PFMOC_DRAIN_S="30") as served, client(served.url) as api:
        half = asyncio.Event()
        body = aiohttp.FormData(default_to_multipart=True)
        for name, value in {**PLUGIN, "jid": "slow", "image": "nobody/nothing"}.items():
            for item in value if isinstance(value, list) else [value]:
                body.add_field(name, str(item))
        body.add_field("data_file", ZIP, filename="data_file")
        payload = body()

        async def slowly():
            whole = bytearray()

            class Sink:
                async def write(self, data):
                    whole.extend(data)

            await payload.write(Sink())
            yield bytes(whole[:50_000])
            await half.wait()
            yield bytes(whole[50_000:])

        upload = asyncio.create_task(api.send("POST", "pluginjobs/", data=slowly(), headers=payload.headers))
        await eventually(lambda: list((tmp_path / "storeBase").rglob("*.part")), what="the upload to begin")
        served.process.terminate()
        await eventually(lambda: served.event("draining"), what="the draining to begin")
        reply = await api.get("/readyz")
        assert (reply.status, reply.json()["reasons"]) == (503, {"daemon": "is draining"})
        assert (await api.get("/livez")).status == 200
        for method, path in (("GET", "pluginjobs/"), ("POST", "pluginjobs/"), ("GET", "health/")):
            reply = await api.send(method, path)
            assert (reply.status, reply.headers["Retry-After"]) == (503, "5")
            assert reply.message == "The server is draining."
        assert served.process.returncode is None
        half.set()
        assert (await upload).status == 404  # it was served to its end: there is no such image
        assert await asyncio.wait_for(served.process.wait(), 20) == 0
    assert not list((tmp_path / "storeBase").rglob("*.part"))


@asynccontextmanager
async def half_an_upload(served, api, home):
    """A request that has begun to send its zip; yields the file in the spool."""
    headers = {
        "Authorization": f"Bearer {api.token}",
        "Content-Type": "multipart/form-data; boundary=bbb",
        "Content-Length": 10**9,
    }
    start = b'--bbb\r\nContent-Disposition: form-data; name="data_file"; filename="x"\r\n\r\nPK'
    async with connection(served.url) as (_, writer):
        writer.write(head("POST", "/api/v1/pluginjobs/", headers.items()) + start)
        (part,) = await eventually(lambda: list((home / "storeBase").rglob("*.part")), what="the upload to begin")
        yield part


@pytest.mark.parametrize(("how", "seconds"), [("deadline", 0.3), ("second signal", 600)])
async def test_draining_does_not_last_for_ever(tmp_path, how, seconds):
    async with (
        serving(tmp_path, PFMOC_DRAIN_S=seconds) as served,
        client(served.url) as api,
        half_an_upload(served, api, tmp_path) as part,
    ):
        served.process.terminate()
        await eventually(lambda: served.event("draining"), what="the draining to begin")
        if how == "second signal":
            served.process.terminate()
        assert await asyncio.wait_for(served.process.wait(), 20) == 0
        assert not part.exists()


async def test_an_upload_that_outlasts_the_draining_is_told_to_come_again(tmp_path):
    headers = [("Content-Type", "multipart/form-data; boundary=bbb"), ("Content-Length", "1000000000")]
    start = b'--bbb\r\nContent-Disposition: form-data; name="data_file"; filename="x"\r\n\r\nPK'
    async with serving(tmp_path, PFMOC_DRAIN_S="1") as served, client(served.url) as api:
        async with connection(served.url) as (reader, writer):
            authorized = [("Authorization", f"Bearer {api.token}"), *headers]
            writer.write(head("POST", "/api/v1/pluginjobs/", authorized) + start)
            await eventually(lambda: list((tmp_path / "storeBase").rglob("*.part")), what="the upload to begin")
            served.process.terminate()
            answer = await asyncio.wait_for(reader.read(), 20)
        assert answer.startswith(b"HTTP/1.1 503 "), answer
        assert b"Retry-After: 5" in answer
        assert await asyncio.wait_for(served.process.wait(), 20) == 0
    assert not list((tmp_path / "storeBase").rglob("*.part"))


async def test_a_killed_daemons_uploads_are_removed_by_the_next(tmp_path):
    async with serving(tmp_path) as served, client(served.url) as api, half_an_upload(served, api, tmp_path) as part:
        assert part.stat().st_mode & 0o777 == 0o600
        await served.stop(signal.SIGKILL)
        token = api.token
    assert part.exists()
    async with serving(tmp_path) as served, client(served.url, log_in=False) as api:
        assert not part.exists()
        api.token = token  # a token outlives the daemon: CUBE keeps it in its database
        assert (await api.get("pluginjobs/")).status == 200
        assert served.event("listening")["abandoned_uploads"] == 1


async def test_a_taken_port_is_one_clear_line(tmp_path):
    async with serving(tmp_path / "first") as served:
        port = served.url.rpartition(":")[2]
        code, text = await run(tmp_path / "second", "serve", PORT=port)
        assert (code, text) == (1, f"pfmoc: PORT: cannot listen on 127.0.0.1:{port}: Address already in use\n")
        assert not (tmp_path / "second" / "state").exists()


@pytest.mark.parametrize("state", ["a file", "no database"])
async def test_a_state_directory_that_cannot_be_used_is_one_clear_line(tmp_path, state):
    path = tmp_path / "state"
    if state == "no database":
        path.mkdir()
        path /= "records.db"
    path.write_bytes(b"not a database" * 100)
    code, text = await run(tmp_path, "serve")
    assert (code, len(text.splitlines()), text.startswith("pfmoc: ")) == (1, 1, True), text
    assert "Not a directory" in text or "PFMOC_STATE_DIR" in text


async def test_the_pid_file(tmp_path):
    path = tmp_path / "run" / "pfmoc.pid"
    async with serving(tmp_path / "first", "--pid-file", str(path)) as served:
        assert path.read_text() == f"{served.process.pid}\n"
        code, text = await run(tmp_path / "second", "serve", "--pid-file", str(path))
        assert (code, text) == (1, f"pfmoc: --pid-file: {path} is held by a running daemon (pid {served.process.pid})\n")
        assert await served.stop() == 0
        assert not path.exists()


async def test_production_wants_credentials_and_uses_them(tmp_path):
    code, text = await run(tmp_path, "serve", APPLICATION_MODE="production")
    assert code == 2
    assert {line.split(": ")[1] for line in text.splitlines()} == {"SECRET_KEY", "PFCON_USER", "PFCON_PASSWORD"}


async def test_nothing_secret_gets_into_logs_metrics_or_answers(tmp_path):
    secrets = {"SECRET_KEY": SECRET, "PFCON_USER": "cube", "PFCON_PASSWORD": "correct horse battery"}
    user_token = "0123456789abcdef0123456789abcdef01234567"
    async with serving(tmp_path, APPLICATION_MODE="production", **secrets) as served, client(served.url, log_in=False) as api:
        answers = []
        credentials = {"pfcon_user": "cube", "pfcon_password": "correct horse battery"}
        answers.append(await api.send("POST", "auth-token/", json={**credentials, "pfcon_password": "guess-guess"}))
        api.token = (await api.send("POST", "auth-token/", json=credentials)).json()["token"]
        job = {**PLUGIN, "jid": "s", "env": [f"CHRIS_USER_TOKEN={user_token}", "PLAIN"]}
        answers.append(await api.post("pluginjobs/", job, data_file=ZIP))
        job["env"] = job["env"][:1]
        answers += [await api.post("pluginjobs/", {**job, "image": "nobody/nothing"}, data_file=ZIP)]
        answers += [await api.get(f"jobs/{api.token}/"), await api.get(f"/nope?token={api.token}"), await api.get("/metrics")]
        answers.append(await api.get("jobs/", headers={"Authorization": f"Bearer {api.token}x"}))
        answers.append(await api.get("jobs/", headers={"Authorization": f"Basic {user_token}"}))
        assert await served.stop() == 0
        log = served.log.read_text()
    everything = log + "".join(answer.body.decode() for answer in answers if api.token not in answer.body.decode())
    for secret in (SECRET, "correct horse battery", "guess-guess", user_token, api.token):
        assert secret not in everything
    assert all(set(record) >= {"time", "level", "event", "logger"} for record in served.records())


async def test_hostile_text_makes_one_inert_record_each(tmp_path):
    evil = 'x\r\n{"event": "forged"}\x1b[31m'
    async with serving(tmp_path) as served, client(served.url) as api:
        await api.post("pluginjobs/", {**PLUGIN, "jid": evil}, data_file=ZIP)
        await api.post("pluginjobs/", {**PLUGIN, "jid": "e", "image": evil, "args": [evil]}, data_file=ZIP)
        await raw(
            served.url, head("GET", "/api/v1/jobs/a%0d%0a%1b[31m/", [("X-Request-ID", "a\x1b[31m"), ("Connection", "close")])
        )
        await raw(served.url, b"GET /\x1b[31m HTTP/1.1\r\n\r\n")
        assert await served.stop() == 0
        text = served.log.read_text()
    assert not {"\x1b", "\r"} & set(text)
    assert "forged" not in {record.get("event") for record in served.records()}
    assert not [record for record in served.records() if "plain" in record]
    requests = [record for record in served.records() if record["event"] == "request"]
    assert len(requests) == 5  # with the login
    assert all(record["request_id"] for record in requests[:4])


async def test_each_request_is_one_record_with_its_ids(tmp_path):
    async with serving(tmp_path) as served, client(served.url) as api:
        await api.get("jobs/nobody/?secret=1", headers={"X-Request-ID": "mine"})
        assert await served.stop() == 0
    (record,) = [record for record in served.records() if record.get("request_id") == "mine"]
    assert record["event"] == "request"
    assert (record["method"], record["path"], record["status"], record["jid"]) == ("GET", "/api/v1/jobs/nobody/", 404, "nobody")
    assert record["bytes"] > 0
    assert record["ms"] >= 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run plugins as another user")
async def test_a_process_of_another_user_reads_its_input_and_writes_its_output():
    """With the umask and the closed directories that the daemon really has."""
    home = Path("/var/tmp") / f"pfmoc-test-{os.getpid()}"  # pytest's own directories are closed to others
    home.mkdir(mode=0o755)
    try:
        install_tools(home / "images")
        async with serving(home, CONTAINER_USER="12345:54321") as served, client(served.url) as api:
            script = 'id -u; cat "$1/a" > "$2/b"'
            job = {**PLUGIN, "jid": "j", "image": IMAGE, "entrypoint": ["sh", "-c", script], "args": ["sh"]}
            (await api.post("pluginjobs/", job, data_file=zipped({"a": b"data"}))).expect(201)

            async def ended():
                compute = (await api.get("pluginjobs/j/")).json()["compute"]
                return compute if compute["status"].startswith("finished") else None

            compute = await eventually(ended, what="the job to end")
            assert (compute["status"], compute["logs"]) == ("finishedSuccessfully", "12345\n")
            with zipfile.ZipFile(io.BytesIO((await api.get("pluginjobs/j/file/")).body)) as archive:
                assert archive.read("b") == b"data"
    finally:
        shutil.rmtree(home)


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo"])
async def test_another_time_zone_changes_no_token(tmp_path, zone):
    async with serving(tmp_path, environ=variables(tmp_path) | {"TZ": zone}) as served, client(served.url) as api:
        claims = jwt.decode(api.token, DEV_SECRET, algorithms=["HS256"])
        assert abs(claims["exp"] - (time.time() + 48 * 3600)) < 60
        assert (await api.get("pluginjobs/")).status == 200
        listening = served.event("listening")
        assert listening is not None
        assert listening["time"].endswith("Z")
