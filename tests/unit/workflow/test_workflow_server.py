"""Requests that fail in ways that pass, and in ways that do not."""

from __future__ import annotations

import pytest
from aiohttp import web

from pfmoc.workflow.patience import Patience
from pfmoc.workflow.problems import LostContact, Refused
from pfmoc.workflow.server import Reply


def in_turn(*answers):
    """Answer each request with the next, and the last for good."""
    rest, last = iter(answers), answers[-1]
    return lambda request: next(rest, last)(request)  # noqa: PLW0108 - the answer is looked for at each request


def status(code, message="reason", **headers):
    return lambda _: web.json_response({"message": message}, status=code, headers=headers)


def drop(request):
    request.transport.abort()
    return web.Response()


async def test_passing_faults_are_tried_again(script, server):
    script.answer = in_turn(status(503), drop, status(429, **{"Retry-After": "0"}), status(502), status(500), status(200))
    assert (await server.call("GET", "x/")).status == 200
    assert len(script.requests) == 6
    assert script.tokens == 1


async def test_retry_after_is_obeyed(script, server):
    script.answer = in_turn(status(503, **{"Retry-After": "200"}), status(200))
    with pytest.raises(LostContact, match="status 503: reason"):
        await server.call("GET", "x/", patience=Patience(1))
    assert len(script.requests) == 1


async def test_a_refusal_is_not_tried_again(script, server):
    script.answer = status(400, {"image": "must be a reference", "jid": "is bad"})
    with pytest.raises(Refused, match="here refused POST /api/v1/x/: status 400: image: must be a reference; jid: is bad"):
        await server.call("POST", "x/", body=lambda: {"a": "b"})
    assert len(script.requests) == 1


async def test_a_server_that_always_fails_is_given_up(script, server):
    script.answer = status(500)
    with pytest.raises(LostContact, match="status 500"):
        await server.call("GET", "x/")
    assert len(script.requests) == 3


async def test_an_expired_token_is_renewed_once(script, server):
    await server.call("GET", "x/")
    script.accepted = {"t2"}
    await server.call("GET", "x/")
    assert script.tokens == 2
    script.accepted = set()
    with pytest.raises(Refused, match="does not accept the token"):
        await server.call("GET", "x/")
    assert script.tokens == 3


async def test_a_wrong_password_is_said_without_the_password(script, server):
    script.login = lambda: web.json_response({"message": "Unable to log in with provided credentials."}, status=400)
    with pytest.raises(Refused, match="does not accept user 'pfcon' with this password") as caught:
        await server.call("GET", "x/")
    assert "pfcon1234" not in str(caught.value)


async def test_a_throttled_login_waits(script, server):
    answers = iter([web.json_response({}, status=429, headers={"Retry-After": "0"}), None])
    script.login = lambda: next(answers)
    await server.call("GET", "x/")
    assert script.tokens == 1


async def test_redirects_are_not_followed_with_the_token(script, server):
    script.answer = lambda _: web.Response(status=308, headers={"Location": "http://elsewhere.invalid/"})
    with pytest.raises(Refused, match=r"redirects to .*; correct its url"):
        await server.call("GET", "x/")


async def test_what_is_known_after_a_broken_attempt_is_the_answer(script, server):
    """A POST whose answer was lost: the server has the job, and gets no second one."""
    script.answer = lambda request: drop(request) if request.method == "POST" else web.json_response({"found": True})

    async def known() -> Reply | None:
        return await server.call("GET", "job/")

    reply = await server.call("POST", "jobs/", body=lambda: {"a": "b"}, before_retry=known)
    assert reply.json() == {"found": True}
    assert script.log("POST") == ["jobs/"]


async def test_html_is_not_quoted(script, server):
    script.answer = lambda _: web.Response(status=404, text="<html>" + "x" * 5000, content_type="text/html")
    with pytest.raises(Refused, match="no reason given"):
        await server.call("GET", "x/")
