"""Statuses and texts of the contract, one row each, for both dialects."""

import json

import pytest
from harness.daemon import running, settings_for
from harness.http import PLUGIN, client
from harness.zips import zipped

from pfmoc.compute.registry import open_compute

MISSING = "Missing required parameter in the post body"
ANYWHERE = "Missing required parameter in the JSON body or the post body or the query string"
MALFORMED = "The browser (or proxy) sent a request that this server could not understand."
CREDENTIALS = "Unable to log in with provided credentials."
NOT_JSON = "Did not attempt to load JSON data because the request Content-Type was not 'application/json'."
STOCK = "The requested URL was not found on the server. If you entered the URL manually please check your spelling and try again."

JOB = {**PLUGIN, "jid": "j", "input_dirs": ["in"], "output_dir": "out"}
ZIP = zipped({"a.txt": b"x"})


def but(**changes):
    return {**JOB, **changes}


def without(*names):
    return {name: value for name, value in JOB.items() if name not in names}


@pytest.fixture
async def zip_api(serve):
    async with serve("zipfile") as daemon, client(daemon.url) as api:
        yield api


@pytest.fixture
async def fs_api(serve, storebase):
    (storebase / "in").mkdir()
    (storebase / "out").mkdir()
    async with serve("filesystem") as daemon, client(daemon.url) as api:
        yield api


# Login (contract 1.1)

USER, PASSWORD = "pfcon", "pfcon1234"


@pytest.mark.parametrize(
    ("kwargs", "status", "message"),
    [
        ({"json": {"pfcon_user": USER, "pfcon_password": "x"}}, 400, CREDENTIALS),
        ({"json": {"pfcon_user": "x", "pfcon_password": PASSWORD}}, 400, CREDENTIALS),
        ({"json": {"pfcon_user": None, "pfcon_password": None}}, 400, CREDENTIALS),
        ({"json": {"pfcon_user": {"a": 1}, "pfcon_password": [1]}}, 400, CREDENTIALS),
        ({"json": {"pfcon_user": USER}}, 400, {"pfcon_password": ANYWHERE}),
        ({"json": {}}, 400, {"pfcon_user": ANYWHERE, "pfcon_password": ANYWHERE}),
        ({"json": []}, 400, {"pfcon_user": ANYWHERE, "pfcon_password": ANYWHERE}),
        ({"data": b"{", "headers": {"Content-Type": "application/json"}}, 400, MALFORMED),
        ({"data": b"", "headers": {"Content-Type": "application/json"}}, 400, MALFORMED),
        ({"data": b"pfcon_user=a", "headers": {"Content-Type": "application/x-www-form-urlencoded"}}, 415, NOT_JSON),
        ({"data": b"", "headers": {"Content-Type": ""}}, 415, NOT_JSON),
        ({"params": {"pfcon_user": USER, "pfcon_password": PASSWORD}}, 415, NOT_JSON),
    ],
)
async def test_login_refused(zip_api, kwargs, status, message):
    reply = await zip_api.send("POST", "auth-token/", auth=False, **kwargs)
    assert (reply.status, reply.json()) == (status, {"message": message})


async def test_guessing_is_slowed_down(zip_api):
    for password in range(10):
        guess = {"pfcon_user": USER, "pfcon_password": str(password)}
        assert (await zip_api.send("POST", "auth-token/", auth=False, json=guess)).status == 400
    reply = await zip_api.send("POST", "auth-token/", auth=False, json={"pfcon_user": USER, "pfcon_password": "11"})
    assert (reply.status, reply.message) == (429, "Too many failed logins. Try again later.")
    assert 1 <= int(reply.headers["Retry-After"]) <= 6
    (await zip_api.get("pluginjobs/")).expect(200)  # whoever has a token is not concerned


async def test_login(zip_api):
    credentials = {"pfcon_user": USER, "pfcon_password": PASSWORD}
    reply = await zip_api.send("POST", "auth-token/", json=credentials, auth=False)
    assert reply.status == 200
    assert set(reply.json()) == {"token"}
    reply = await zip_api.send("POST", "auth-token/", json={}, params=credentials, auth=False)
    assert reply.status == 200


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (None, "Missing authorization header."),
        ("", "Missing authorization header."),
        ("bearer abc", "Invalid authorization header."),
        ("Token abc", "Invalid authorization header."),
        ("Bearer abc", "Invalid authorization token."),
    ],
)
async def test_every_protected_route_wants_a_token(zip_api, header, message):
    headers = {} if header is None else {"Authorization": header}
    for kind in ("pluginjobs", "copyjobs", "uploadjobs", "deletejobs", "jobs"):
        for method, path in (("GET", ""), ("POST", ""), ("OPTIONS", ""), ("GET", "a/"), ("DELETE", "a/"), ("HEAD", "a/")):
            reply = await zip_api.send(method, f"{kind}/{path}", headers=headers, auth=False)
            assert reply.status == 401
            assert method == "HEAD" or reply.json() == {"message": message}
    for path in ("pluginjobs/a/file/", "jobs/a/file/"):
        assert (await zip_api.send("GET", path, headers=headers, auth=False)).json() == {"message": message}


# Server info (contract 2.1, 3.1)


@pytest.mark.parametrize(
    ("storage", "innetwork", "requires_copy"), [("zipfile", False, False), ("filesystem", True, False), ("fslink", True, True)]
)
async def test_server_info(serve, storage, innetwork, requires_copy):
    async with serve(storage) as daemon, client(daemon.url) as api:
        for kind in ("pluginjobs", "copyjobs", "uploadjobs", "deletejobs"):
            info = (await api.get(f"{kind}/")).expect(200).json()
            assert isinstance(info.pop("server_version"), str)
            assert info == {
                "pfcon_innetwork": innetwork,
                "storage_env": storage,
                "requires_copy_job": requires_copy,
                "requires_upload_job": False,
                "container_env": "docker",
                "compute_volume_type": "host",
            }
        info = (await api.get("jobs/")).expect(200).json()
        assert info["server_version"].startswith("5.")
        assert {"pfcon_innetwork", "storage_env", "container_env", "compute_volume_type", "server_version"} == set(info)


# Parser errors (contract 1, 2.3)

REQUIRED = dict.fromkeys(
    ("auid", "number_of_workers", "cpu_limit", "memory_limit", "gpu_limit", "image", "entrypoint", "type"), MISSING
)


@pytest.mark.parametrize(
    ("path", "fields", "message"),
    [
        ("pluginjobs/", {}, {"jid": MISSING, **REQUIRED}),
        ("jobs/", {}, {"jid": MISSING, "args": MISSING, **REQUIRED}),
        ("copyjobs/", {}, {"jid": MISSING, "output_dir": MISSING}),
        ("uploadjobs/", {}, {"jid": MISSING, "job_output_path": MISSING}),
        ("deletejobs/", {}, {"jid": MISSING}),
        ("pluginjobs/", but(cpu_limit="abc"), {"cpu_limit": "invalid literal for int() with base 10: 'abc'"}),
        ("pluginjobs/", but(cpu_limit="1.5"), {"cpu_limit": "invalid literal for int() with base 10: '1.5'"}),
        ("pluginjobs/", but(memory_limit="NaN"), {"memory_limit": "invalid literal for int() with base 10: 'NaN'"}),
        (
            "jobs/",
            but(type="zz", gpu_limit=""),
            {"gpu_limit": "invalid literal for int() with base 10: ''", "type": "zz is not a valid choice"},
        ),
        ("jobs/", without("args"), {"args": MISSING}),
        (
            "copyjobs/",
            {"jid": "../x", "output_dir": "o", "cpu_limit": "x"},
            {"cpu_limit": "invalid literal for int() with base 10: 'x'"},
        ),
    ],
)
async def test_parser_errors_come_first_and_all_at_once(fs_api, path, fields, message):
    for body in ({"fields": fields}, {"fields": fields, "data_file": b"1000"}, {"json": fields}):
        reply = await fs_api.post(path, **body)
        assert reply.status == 400
        assert json.dumps(reply.message) == json.dumps(message)  # order counts


# Custom checks (contract 2.3, faults 15, 27)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (but(input_dirs=[], output_dir=None, env=["x"]), "input_dirs: field is required"),
        (but(output_dir=None, env=["x"]), "output_dir: field is required"),
        (but(env=["A=b", "x"]), 'env: must be a list of "key=value" strings'),
        (but(env=["=b"]), 'env: must be a list of "key=value" strings'),
        (but(jid="../x", env=["x"]), "jid: must begin with a letter or digit and hold only letters, digits, '_', '.' and '-'"),
        (but(number_of_workers=2), "Compute environment only supports number_of_workers=1, got number_of_workers=2"),
    ],
)
async def test_custom_checks_come_one_at_a_time(fs_api, fields, message):
    for path in ("pluginjobs/", "jobs/"):
        reply = await fs_api.post(path, fields)
        assert (reply.status, reply.json()) == (400, {"message": message})


async def test_an_empty_entrypoint(fs_api):
    for path in ("pluginjobs/", "jobs/"):
        reply = await fs_api.post(path, json=but(entrypoint=[]))
        assert (reply.status, reply.message) == (400, "entrypoint: cannot be empty")
        (await fs_api.post(path, but(jid=path.strip("/") + "-1", entrypoint=[""]))).expect(201)


@pytest.mark.parametrize("field", ["cpu_limit", "memory_limit", "gpu_limit", "number_of_workers"])
@pytest.mark.parametrize("value", ["-1", str(10**18), "0"])
async def test_limits_out_of_bounds_name_the_field(fs_api, storebase, compute, field, value):
    if (field, value) == ("gpu_limit", "0"):
        return
    for path in ("pluginjobs/", "jobs/"):
        reply = await fs_api.post(path, but(**{field: value}))
        assert reply.status == 400
        assert field in reply.message
    assert not compute.started
    assert sorted(path.name for path in storebase.iterdir()) == ["in", "out"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"cpu_limit": 2001}, "cpu_limit: must be between 1 and 2000 millicores, got 2001"),
        ({"memory_limit": 513}, "memory_limit: must be between 6 and 512 MiB, got 513"),
        ({"gpu_limit": 2}, "gpu_limit: must be between 0 and 1, got 2: this compute environment has 1"),
    ],
)
async def test_limits_beyond_those_of_the_site_name_field_and_bound(tmp_path, fields, message):
    site = {"STORAGE_ENV": "filesystem", "PFMOC_MAX_CPU_M": 2000, "PFMOC_MAX_MEMORY_MIB": 512, "PFMOC_GPUS": 1}
    compute = open_compute(settings_for(tmp_path, **site))
    for name in ("in", "out"):
        (tmp_path / "storeBase" / name).mkdir()
    async with running(tmp_path, compute=compute, **site) as daemon, client(daemon.url) as api:
        for path in ("pluginjobs/", "jobs/"):
            reply = await api.post(path, but(**fields))
            assert (reply.status, reply.message) == (400, message)
        # What fits is not refused for its limits: there is no such image here.
        reply = await api.post("pluginjobs/", but(cpu_limit=2000, memory_limit=512, gpu_limit=1))
        assert reply.status == 404


@pytest.mark.parametrize("field", ["cpu_limit", "memory_limit"])
@pytest.mark.parametrize("value", ["-1", "0"])
async def test_limits_of_the_other_kinds_are_checked_too(fs_api, field, value):
    for path, fields in (("copyjobs/", {"output_dir": "out"}), ("uploadjobs/", {"job_output_path": "out"}), ("deletejobs/", {})):
        reply = await fs_api.post(path, {"jid": "j", **fields, field: value})
        assert (reply.status, reply.message) == (400, f"{field}: must be at least 1, got {value}")


@pytest.mark.parametrize(
    "bad", ["../x", "/", "", "a/../..", "key-other/incoming", "key-other", ".pfmoc/spool", "nowhere", "a\0b", "\u2024\u2024/x"]
)
async def test_paths_out_of_bounds_name_the_field(fs_api, compute, bad):
    for field, path in (
        ("input_dirs", "pluginjobs/"),
        ("output_dir", "pluginjobs/"),
        ("input_dirs", "jobs/"),
        ("output_dir", "jobs/"),
    ):
        reply = await fs_api.post(path, json=but(**{field: [bad] if field == "input_dirs" else bad}))
        assert reply.status == 400, (field, bad)
        assert field in reply.message
    reply = await fs_api.get("pluginjobs/j/file/", params={"job_output_path": bad})
    assert reply.status in (400, 404)
    assert not compute.started


@pytest.mark.parametrize("data_file", [b"1000", b"", b"PK\x03\x04", ZIP[:-10]])
async def test_a_bad_zip(zip_api, storebase, data_file):
    for path in ("pluginjobs/", "jobs/"):
        reply = await zip_api.post(path, JOB, data_file=data_file)
        assert (reply.status, reply.message) == (400, "data_file: Bad zip file")
    assert [path.name for path in storebase.iterdir()] == [".pfmoc"]


async def test_a_missing_zip_gets_the_general_sentence(zip_api):
    for path in ("pluginjobs/", "jobs/"):
        reply = await zip_api.post(path, JOB)
        assert (reply.status, reply.message) == (400, MALFORMED)


# Unknown jobs (contract 2.5, 3.1)


async def test_unknown_jobs(zip_api):
    for kind in ("pluginjobs", "copyjobs", "uploadjobs", "deletejobs", "jobs"):
        reply = await zip_api.get(f"{kind}/nobody/")
        assert reply.status == 404
        assert isinstance(reply.message, str)
        assert (await zip_api.delete(f"{kind}/nobody/")).status == (404 if kind == "jobs" else 204)
    for kind in ("pluginjobs", "jobs"):
        reply = await zip_api.get(f"{kind}/nobody/file/")
        assert (reply.status, reply.message) == (404, STOCK)


async def test_jobs_are_kept_when_the_operator_wants_to_look_at_them(serve):
    async with serve("zipfile", REMOVE_JOBS="no") as daemon, client(daemon.url) as api:
        (await api.post("pluginjobs/", JOB, data_file=ZIP)).expect(201)
        (await api.delete("pluginjobs/j/")).expect(204)
        (await api.get("pluginjobs/j/")).expect(200)
        assert (await api.delete("jobs/nobody/")).status == 204


# Preconditions (contract 2.4)


async def test_preconditions_of_a_plugin_job(serve, storebase):
    (storebase / "in").mkdir()
    (storebase / "in" / "bad.chrislink").write_bytes(b"")
    (storebase / "out").mkdir()
    async with serve("fslink") as daemon, client(daemon.url) as api:
        reply = await api.post("pluginjobs/", JOB)
        assert (reply.status, reply.message) == (
            409,
            "No copy job found. A copy job must complete successfully before scheduling a plugin job.",
        )


@pytest.mark.parametrize("mode", ["refuse", "terminate"])
async def test_a_delete_while_the_plugin_runs(serve, compute, mode):
    async with serve("zipfile", PFMOC_DELETE_ACTIVE=mode) as daemon, client(daemon.url) as api:
        (await api.post("pluginjobs/", JOB, data_file=ZIP)).expect(201)
        reply = await api.post("deletejobs/", {"jid": "j"})
        if mode == "refuse":
            assert (reply.status, reply.message) == (
                409,
                "The plugin job is still active (status: started). All jobs must finish before scheduling a delete job.",
            )
        else:
            assert reply.expect(201).json()["compute"]["status"] in ("notStarted", "started", "finishedSuccessfully")


async def test_the_engines_refusals_and_outages(zip_api, compute):
    for engine, status in ((422, 422), (403, 403), (409, 409), (500, 503)):
        compute.refuses = engine
        reply = await zip_api.post("pluginjobs/", JOB, data_file=ZIP)
        assert (reply.status, reply.message) == (status, "fnndsc/pl-simpledsapp: refused by the fake")
    compute.refuses = None
    compute.unavailable = True
    reply = await zip_api.post("pluginjobs/", JOB, data_file=ZIP)
    assert reply.status == 503
    assert int(reply.headers["Retry-After"]) > 0
    compute.unavailable = False
    (await zip_api.post("pluginjobs/", JOB, data_file=ZIP)).expect(201)


async def test_the_query_of_the_file_route(fs_api, storebase):
    for query in ("", "?job_output_path=", "?job_output_path=/", "?x=y"):
        reply = await fs_api.get(f"pluginjobs/j/file/{query}")
        assert (reply.status, reply.message) == (400, "job_output_path: query parameter is required")
    reply = await fs_api.get("pluginjobs/j/file/?job_output_path=no/where")
    assert (reply.status, reply.message) == (404, STOCK)
