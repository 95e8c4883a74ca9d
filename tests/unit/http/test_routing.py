import logging
import re

import pytest
from harness.http import PLUGIN, head, raw
from harness.zips import zipped

from pfmoc import errors, http

NOT_ALLOWED = {"message": "The method is not allowed for the requested URL."}


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_missing_slash_is_redirected_absolutely_with_its_query_before_auth(api, daemon, method):
    reply = await api.send(method, "pluginjobs?a=b%20c&d=%26", auth=False)
    reply.expect(308)
    assert reply.headers["Location"] == f"{daemon.url}/api/v1/pluginjobs/?a=b%20c&d=%26"


async def test_the_redirect_of_one_job_and_its_files(api, daemon):
    for path in ("jobs/a", "jobs/a/file", "deletejobs/a", "auth-token", "health"):
        reply = await api.send("POST" if path == "auth-token" else "GET", path, auth=False)
        assert (reply.status, reply.headers["Location"]) == (308, f"{daemon.url}/api/v1/{path}/")


async def test_the_redirect_follows_the_host_header_unless_that_is_no_host(daemon):
    answer = await raw(daemon.url, head("GET", "/api/v1/jobs", [("Connection", "close")]))
    assert b"Location: http://daemon.test/api/v1/jobs/\r\n" in answer
    answer = await raw(daemon.url, b'GET /api/v1/jobs HTTP/1.1\r\nHost: a b"<c>\r\nConnection: close\r\n\r\n')
    assert b"Location: /api/v1/jobs/\r\n" in answer


@pytest.mark.parametrize(
    "path", ["/", "/api", "/api/v1/nope/", "/api/v1/jobs/a/b/", "/api/v1/jobs//", "/api/v1/pluginjobs/../jobs/"]
)
async def test_an_unknown_path_is_an_html_404_without_auth(daemon, path):
    answer = await raw(daemon.url, head("GET", path, [("Connection", "close")]))
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b"Content-Type: text/html; charset=utf-8\r\n" in answer
    assert b"The requested URL was not found on the server." in answer


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("DELETE", "pluginjobs/", "GET, HEAD, OPTIONS, POST"),
        ("PUT", "jobs/", "GET, HEAD, OPTIONS, POST"),
        ("POST", "jobs/a/", "DELETE, GET, HEAD, OPTIONS"),
        ("POST", "pluginjobs/a/file/", "GET, HEAD, OPTIONS"),
        ("GET", "auth-token/", "OPTIONS, POST"),
        ("POST", "health/", "GET, HEAD, OPTIONS"),
        ("DELETE", "pluginjobs", "GET, HEAD, OPTIONS, POST"),
    ],
)
async def test_a_wrong_method_is_a_json_405_without_auth(api, method, path, allow):
    reply = await api.send(method, path, auth=False)
    assert (reply.status, reply.headers["Allow"], reply.json()) == (405, allow, NOT_ALLOWED)


async def test_head_and_options_ask_for_a_token_where_get_does(api):
    for path in ("pluginjobs/", "jobs/"):
        assert (await api.send("HEAD", path, auth=False)).status == 401
        assert (await api.send("OPTIONS", path, auth=False)).status == 401
        head_reply, got = await api.send("HEAD", path), await api.get(path)
        assert (head_reply.status, head_reply.body) == (200, b"")
        assert head_reply.headers["Content-Length"] == got.headers["Content-Length"]
        options = await api.send("OPTIONS", path)
        assert (options.status, options.headers["Allow"]) == (200, "GET, HEAD, OPTIONS, POST")
    assert (await api.send("OPTIONS", "auth-token/", auth=False)).status == 200
    assert (await api.send("OPTIONS", "health/", auth=False)).status == 200


async def test_health_is_open(api):
    reply = await api.get("health/", auth=False)
    assert (reply.status, reply.body) == (200, b'{"health": "OK"}\n')


async def test_json_is_ascii_with_blanks_and_a_newline(api):
    reply = await api.post("deletejobs/", {"jid": "a", "cpu_limit": "é"})
    assert reply.headers["Content-Type"] == "application/json"
    assert reply.body == b'{"message": {"cpu_limit": "invalid literal for int() with base 10: \'\\u00e9\'"}}\n'


async def test_a_204_is_labelled_json_and_has_no_length(api, daemon):
    request = head("DELETE", "/api/v1/pluginjobs/a/", [("Authorization", f"Bearer {api.token}"), ("Connection", "close")])
    answer = await raw(daemon.url, request)
    assert answer.startswith(b"HTTP/1.1 204 ")
    assert b"Content-Type: application/json\r\n" in answer
    assert b"content-length" not in answer.lower()
    assert answer.endswith(b"\r\n\r\n")


async def test_an_uncaught_exception_is_a_bare_500_and_logged_with_its_cause_and_request(api, daemon, monkeypatch, caplog):
    async def broken(*_):
        raise RuntimeError("a bug, with a detail nobody should see") from OSError("the cause")

    monkeypatch.setattr(daemon.jobs, "get", broken)
    reply = await api.get("jobs/a/", headers={"X-Request-ID": "mine-1"})
    assert (reply.status, reply.json()) == (500, {"message": "Internal Server Error"})
    assert reply.headers["X-Request-ID"] == "mine-1"
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], RuntimeError)
    assert isinstance(record.exc_info[1].__cause__, OSError)


async def test_request_ids_are_taken_over_when_they_are_sane(api):
    assert (await api.get("health/", headers={"X-Request-ID": "a.B-9_z"})).headers["X-Request-ID"] == "a.B-9_z"
    for odd in ("", "a b", "x" * 65, "é", '"'):
        given = (await api.get("health/", headers={"X-Request-ID": odd})).headers["X-Request-ID"]
        assert given != odd
        assert len(given) == 16


@pytest.mark.parametrize(
    "jid", ["..", "%2e%2e", "a%2Fb", "%2Fetc", "-a", ".a", "a%00b", "a%0Ab", "%C3%A9", "x" * 201, "jobs", "a%20b"]
)
async def test_an_id_that_no_job_can_have_is_a_404_and_touches_no_file(api, daemon, monkeypatch, jid):
    for name in ("find", "glance"):
        monkeypatch.setattr(daemon.jobs.board, name, None)
    monkeypatch.setattr(daemon.jobs.storage, "zip_root", None)
    for path in (f"jobs/{jid}/", f"pluginjobs/{jid}/", f"copyjobs/{jid}/", f"pluginjobs/{jid}/file/", f"jobs/{jid}/file/"):
        answer = await raw(
            daemon.url, head("GET", f"/api/v1/{path}", [("Authorization", f"Bearer {api.token}"), ("Connection", "close")])
        )
        assert answer.startswith(b"HTTP/1.1 404 "), answer
    for path, status in ((f"jobs/{jid}/", b"404"), (f"pluginjobs/{jid}/", b"204")):
        answer = await raw(
            daemon.url, head("DELETE", f"/api/v1/{path}", [("Authorization", f"Bearer {api.token}"), ("Connection", "close")])
        )
        assert answer.split()[1] == status, answer


@pytest.mark.parametrize(
    "jid", ["", "..", "../x", "a/b", "-a", ".a", "a\nb", "é", "a\u2024b", "x" * 201, "health", "a b", "a%2e", "//", "/../a"]
)
async def test_an_id_that_no_job_can_have_is_a_400_before_anything_is_staged(api, storebase, jid):
    for path, fields in (("jobs/", PLUGIN), ("pluginjobs/", PLUGIN), ("copyjobs/", {"output_dir": "a"}), ("deletejobs/", {})):
        reply = await api.post(path, {**fields, "jid": jid}, data_file=zipped({"a": b""}))
        assert reply.status == 400
        assert reply.message.startswith("jid: ")
    assert [path.name for path in storebase.iterdir()] in ([], [".pfmoc"])
    assert not list(storebase.rglob("*.part"))


async def test_leading_slashes_of_an_id_are_dropped_as_upstream_does(api):
    reply = await api.post("pluginjobs/", {**PLUGIN, "jid": "/a-1"}, data_file=zipped({"a": b""}))
    assert reply.expect(201).json()["compute"]["jid"] == "a-1"


async def test_errors_map_to_statuses():
    table = [
        (errors.InvalidRequest("f", "r"), 400, "f: r"),
        (errors.NoSuchJob("x"), 404, "x"),
        (errors.NoSuchData("x"), 404, "x"),
        (errors.Conflict("x"), 409, "x"),
        (errors.TooLarge("x"), 413, "x"),
        (errors.ComputeUnavailable("x"), 503, "x"),
        (errors.StorageUnavailable("x"), 503, "x"),
        (errors.StorageFull("x"), 507, "x"),
        (errors.ComputeRefused("x", engine_status=422), 422, "x"),
        (errors.ComputeRefused("x", engine_status=403), 403, "x"),
        (errors.ComputeRefused("x", engine_status=500), 503, "x"),
        (errors.ComputeRefused("x", engine_status=200), 500, "x"),
        (errors.PfmocError("x"), 500, "x"),
    ]
    for error, status, message in table:
        response = http.error_response(error)
        assert (response.status, response.body) == (status, f'{{"message": "{message}"}}\n'.encode())
    assert http.error_response(errors.Unavailable("x", retry_after=7)).headers["Retry-After"] == "7"


async def test_pipelined_requests_are_answered_in_order(daemon):
    pipeline = head("GET", "/api/v1/health/") + head("GET", "/api/v1/nope/") + head("GET", "/livez", [("Connection", "close")])
    answer = await raw(daemon.url, pipeline)
    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"200", b"404", b"200"]


async def test_metrics_show_routes_as_templates_and_no_ids(api):
    await api.get("jobs/secret-jid/")
    await api.get("jobs/secret-jid/?token=abc")
    await api.send("GET", "/nowhere/secret-path")
    page = (await api.get("/metrics", auth=False)).expect(200).body.decode()
    assert 'pfmoc_http_requests_total{method="GET",route="/api/v1/jobs/{jid}/",status="404"} 2.0' in page
    assert 'pfmoc_http_requests_total{method="GET",route="none",status="404"} 1.0' in page
    assert "pfmoc_event_loop_lag_seconds" in page
    assert "secret" not in page
    assert api.token not in page


async def test_login_failures_are_counted(api):
    await api.send("POST", "auth-token/", json={"pfcon_user": "a", "pfcon_password": "b"})
    assert 'pfmoc_login_failures_total{reason="credentials"} 1.0' in (await api.get("/metrics")).body.decode()
