"""Which dialects are served where, and who may ask them."""

import base64

import pytest
from harness.daemon import running
from harness.http import client

from pfmoc.auth import SharedToken
from pfmoc.errors import StartError
from pfmoc.http import Refusal
from pfmoc.jobs.names import RESERVED
from pfmoc.listeners import Endpoint
from pfmoc.settings import SettingsError, load

TOKEN = "a-token-of-24-characters"
PRODUCTION = {"SECRET_KEY": "k" * 32, "PFCON_USER": "cube", "PFCON_PASSWORD": "12345678"}
INNETWORK = PRODUCTION | {"PFCON_INNETWORK": "true", "STORAGE_ENV": "fslink"}


# Settings


def listeners(text):
    return [(each.dialects, each.host, each.port) for each in load(PRODUCTION | {"PFMOC_LISTENERS": text}).listeners]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" , ", []),
        ("pman", [(("pman",), "127.0.0.1", 5010)]),
        ("cmd-pman", [(("cmd-pman",), "127.0.0.1", 5010)]),
        ("cmd-pfioh", [(("cmd-pfioh",), "127.0.0.1", 5055)]),
        ("pman + pfcon3", [(("pman", "pfcon3"), "127.0.0.1", 5010)]),
        ("pfcon3@5006", [(("pfcon3",), "127.0.0.1", 5006)]),
        ("pfcon3@:0", [(("pfcon3",), "127.0.0.1", 0)]),
        ("pman@localhost:1,pfcon4@[::1]:2", [(("pman",), "localhost", 1), (("pfcon4",), "::1", 2)]),
        ("pfcon4@0.0.0.0:2", [(("pfcon4",), "0.0.0.0", 2)]),  # noqa: S104 - the case itself
        ("pman@127.0.0.1:5010,cmd-pman@127.0.0.2:5010", [(("pman",), "127.0.0.1", 5010), (("cmd-pman",), "127.0.0.2", 5010)]),
    ],
)
def test_a_listener_is_dialects_and_an_address(text, expected):
    assert listeners(text) == expected


@pytest.mark.parametrize(
    ("variables", "variable", "says"),
    [
        ({"PFMOC_LISTENERS": "pfcon7@1"}, "PFMOC_LISTENERS", "'pfcon7' is no dialect; the dialects are pfcon6, "),
        ({"PFMOC_LISTENERS": "@5010"}, "PFMOC_LISTENERS", "'' is no dialect"),
        ({"PFMOC_LISTENERS": "pfcon3"}, "PFMOC_LISTENERS", "needs a port, such as pfcon3@5006"),
        ({"PFMOC_LISTENERS": "pman@x"}, "PFMOC_LISTENERS", "must end in @PORT or @HOST:PORT"),
        ({"PFMOC_LISTENERS": "pman@"}, "PFMOC_LISTENERS", "must end in @PORT"),
        ({"PFMOC_LISTENERS": "pman@65536"}, "PFMOC_LISTENERS", "must end in @PORT"),
        ({"PFMOC_LISTENERS": "pman@-1"}, "PFMOC_LISTENERS", "must end in @PORT"),
        ({"PFMOC_LISTENERS": "pman+pman"}, "PFMOC_LISTENERS", "pman is named twice for one port"),
        ({"PFMOC_DIALECTS": "pfcon6,pfcon6"}, "PFMOC_DIALECTS", "pfcon6 is named twice"),
        ({"PFMOC_LISTENERS": "cmd-pman+cmd-pfioh"}, "PFMOC_LISTENERS", "have the same URL; give each a listener of its own"),
        ({"PFMOC_LISTENERS": "pman,pfcon3@5010"}, "PFMOC_LISTENERS", "127.0.0.1:5010 is named 2 times"),
        ({"PFMOC_LISTENERS": "pman@5005"}, "PFMOC_LISTENERS", "127.0.0.1:5005 is named 2 times, the main port included"),
        ({"PFMOC_LISTENERS": "pman@0.0.0.0:5010"}, "PFMOC_LEGACY_TOKEN", "pman at 0.0.0.0:5010 can be reached by other machines"),
        ({"PFMOC_HOST": "::", "PFMOC_DIALECTS": "pfcon6,pfcon3,pman"}, "PFMOC_LEGACY_TOKEN", "pfcon3 and pman at :::5005"),
        ({"PFMOC_LISTENERS": "pman@example.org:5010"}, "PFMOC_LEGACY_TOKEN", "is required"),
        ({"PFMOC_LEGACY_TOKEN": "short"}, "PFMOC_LEGACY_TOKEN", "at least 16 characters"),
        (
            {"APPLICATION_MODE": "dev", "PFMOC_LISTENERS": "pfcon5@0.0.0.0:1"},
            "PFMOC_LISTENERS",
            "set APPLICATION_MODE=production",
        ),
        (INNETWORK | {"PFMOC_DIALECTS": "pfcon5,pfcon4"}, "PFMOC_DIALECTS", "pfcon4 brings its data as a zip"),
        (INNETWORK | {"PFMOC_LISTENERS": "pfcon3+pman@1"}, "PFMOC_LISTENERS", "pfcon3 brings its data as a zip"),
    ],
)
def test_what_cannot_be_served_is_told_at_start_with_what_to_do(variables, variable, says):
    with pytest.raises(SettingsError) as wrong:
        load(PRODUCTION | variables)
    (problem,) = wrong.value.problems
    assert problem.startswith(f"{variable}: ")
    assert says in problem


def test_with_a_token_a_dialect_without_login_may_be_anywhere():
    settings = load(PRODUCTION | {"PFMOC_LISTENERS": "pman@0.0.0.0:5010", "PFMOC_LEGACY_TOKEN": TOKEN})
    assert settings.endpoints[1] == Endpoint(dialects=("pman",), host="0.0.0.0", port=5010)  # noqa: S104 - the case itself
    assert TOKEN not in repr(settings)


def test_dialects_without_login_are_off_by_default():
    assert not any(endpoint.without_login for endpoint in load({}).endpoints)


def test_naming_listeners_leaves_the_daemon_embedded():
    assert load({"PFMOC_LISTENERS": "pman"}).container_env == "process"


# The shared token


def basic(text):
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "header",
    [
        f"Bearer {TOKEN}",
        f"bearer {TOKEN}",
        f"BEARER  {TOKEN} ",
        basic(f"anybody:{TOKEN}"),
        basic(f":{TOKEN}").lower()[:6] + basic(f":{TOKEN}")[6:],
    ],
)
def test_ways_to_send_the_shared_token(header):
    SharedToken(TOKEN).admit({"Authorization": header, "Origin": "http://somewhere"})


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({}, "Missing authorization header."),
        ({"Authorization": ""}, "Missing authorization header."),
        ({"Authorization": TOKEN}, "Invalid authorization header."),
        ({"Authorization": "Basic !"}, "Invalid authorization header."),
        ({"Authorization": "Basic /w=="}, "Invalid authorization header."),
        ({"Authorization": f"Digest {TOKEN}"}, "Invalid authorization header."),
        ({"Authorization": f"Bearer {TOKEN}x"}, "Invalid authorization token."),
        ({"Authorization": "Bearer "}, "Invalid authorization token."),
        ({"Authorization": basic(TOKEN)}, "Invalid authorization token."),
        ({"Authorization": basic(f"{TOKEN}:")}, "Invalid authorization token."),
    ],
)
def test_what_is_not_the_shared_token(headers, message):
    with pytest.raises(Refusal) as refused:
        SharedToken(TOKEN).admit(headers)
    assert (refused.value.status, refused.value.message) == (401, message)


def test_without_a_token_programs_are_admitted_and_web_pages_are_not():
    open_to_all = SharedToken("")
    open_to_all.admit({})
    open_to_all.admit({"Authorization": basic("chris:chris1234")})  # python-pfconclient 2 may send it: ignored
    for headers in ({"Origin": "null"}, {"sec-fetch-site": "cross-site"}):
        with pytest.raises(Refusal) as refused:
            open_to_all.admit(headers)
        assert refused.value.status == 403


# Served


async def test_each_listener_serves_its_own_dialects(tmp_path):
    async with running(tmp_path, PFMOC_DIALECTS="pfcon5", PFMOC_LISTENERS="pman@0,pfcon3@0,pfcon6@0") as daemon:
        answers = {}
        for url in daemon.urls:
            async with client(url, log_in=False) as api:
                answers[url] = [
                    (await api.get(path, auth=False)).status
                    for path in ("", "jobs/", "pluginjobs/", "a/file/", "health/", "/livez", "/metrics")
                ]
        assert list(answers.values()) == [
            [404, 401, 404, 404, 200, 200, 200],
            [200, 404, 404, 404, 404, 404, 404],
            [200, 404, 404, 404, 404, 404, 404],
            [404, 404, 401, 404, 200, 404, 404],
        ]
        assert daemon.url == daemon.urls[0]
        async with client(daemon.urls[3]) as api:
            (await api.get("pluginjobs/")).expect(200)


async def test_a_token_from_one_listener_counts_on_another(tmp_path):
    async with running(tmp_path, PFMOC_LISTENERS="pfcon5@0") as daemon, client(daemon.url) as api:
        assert (await api.send("GET", "jobs/")).status == 200
        api.url = daemon.urls[1]
        assert (await api.send("GET", "jobs/")).status == 200


async def test_the_token_is_asked_for_on_every_route_of_a_dialect_without_login(tmp_path):
    variables = {"PFMOC_LISTENERS": "pman+pfcon3@0", "PFMOC_LEGACY_TOKEN": TOKEN}
    async with running(tmp_path, **variables) as daemon, client(daemon.urls[1], log_in=False) as api:
        requests = [("GET", ""), ("OPTIONS", ""), ("HEAD", ""), ("POST", ""), ("GET", "a/"), ("DELETE", "a/"), ("GET", "a/file/")]
        refused = [(await api.send(method, path)).status for method, path in requests]
        assert refused == [401] * len(requests)
        headers = {"Authorization": f"bearer {TOKEN}"}
        admitted = [(await api.send(method, path, headers=headers)).status for method, path in requests]
        assert admitted == [200, 200, 200, 415, 404, 404, 404]
        assert (await api.send("PUT", "")).status == 405  # routing misses come before authorization everywhere


async def test_a_login_opens_no_dialect_that_asks_for_the_shared_token(tmp_path):
    variables = {"PFMOC_DIALECTS": "pfcon6,pman", "PFMOC_LEGACY_TOKEN": TOKEN}
    async with running(tmp_path, **variables) as daemon, client(daemon.url) as api:
        assert (await api.get("")).status == 401
        assert (await api.get("", headers={"Authorization": f"Bearer {TOKEN}"})).status == 200
        assert (await api.get("pluginjobs/", headers={"Authorization": f"Bearer {TOKEN}"})).status == 401


@pytest.mark.parametrize("name", sorted(RESERVED))
async def test_names_of_routes_are_no_job_ids_at_the_root(tmp_path, name):
    async with running(tmp_path, PFMOC_DIALECTS="pfcon6,pfcon5,pman,pfcon3") as daemon, client(daemon.url) as api:
        shown = (await api.get(f"{name}/")).status
        assert shown in ((404,) if name in ("cmd", "openapi.json") else (405,) if name == "auth-token" else (200,))
        assert (await api.get("other/")).json()["message"] == "No such job: other (plugin)"
        (await api.get(f"{name}x/")).expect(404)
        bare = await api.get(f"{name}x", allow_redirects=False)
        assert (bare.status, bare.headers["Location"]) == (308, f"{daemon.url}/api/v1/{name}x/")


async def test_the_bare_root_is_redirected(tmp_path):
    async with running(tmp_path, PFMOC_LISTENERS="pman@0") as daemon, client(daemon.urls[1], log_in=False) as api:
        reply = await api.send("POST", "/api/v1")
        assert (reply.status, reply.headers["Location"]) == (308, f"{daemon.urls[1]}/api/v1/")


async def test_a_port_that_is_taken_stops_the_start_and_frees_the_others(tmp_path):
    async with running(tmp_path / "one") as daemon:
        port = daemon.url.rpartition(":")[2]
        with pytest.raises(StartError, match=port):
            async with running(tmp_path / "two", PFMOC_LISTENERS=f"pman@{port}"):
                pass


async def test_the_log_says_where_each_dialect_is(tmp_path, caplog):
    caplog.set_level("INFO")
    async with running(tmp_path, PFMOC_LISTENERS="pman@0") as daemon:
        (record,) = [record for record in caplog.records if record.message == "listening"]
        assert record.listeners == {daemon.urls[1]: ("pman",)}
