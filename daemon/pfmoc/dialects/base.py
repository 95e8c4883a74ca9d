"""What dialects share: the services they speak to, reading a request, and the routes that every generation has."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

from aiohttp import web

from pfmoc import logs
from pfmoc.auth import Logins, Tokens
from pfmoc.body import Body
from pfmoc.coordination.coordination import Coordination
from pfmoc.dialects import forms, shapes
from pfmoc.dialects.fields import MISSING_ANYWHERE, Field, FieldSet
from pfmoc.dialects.operations import JSON, Operation
from pfmoc.dialects.routes import Route
from pfmoc.errors import InvalidRequest, NoSuchJob
from pfmoc.http import Refusal, json_response
from pfmoc.jobs.names import check_jid
from pfmoc.jobs.service import Jobs
from pfmoc.settings import Settings
from pfmoc.spool import Spool

PREFIX = "/api/v1"

BODY = web.RequestKey("body", Body)
"""The body of a request; put there before any handler runs."""

_LOGIN_BYTES = 64 << 10
NOT_JSON = "Did not attempt to load JSON data because the request Content-Type was not 'application/json'."

LOGIN = FieldSet(
    name="auth-token",
    fields=(
        Field(name="pfcon_user", required=True, help="user name"),
        Field(name="pfcon_password", required=True, help="password"),
    ),
    missing=MISSING_ANYWHERE,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Services:
    """What a dialect translates to."""

    settings: Settings
    jobs: Jobs
    tokens: Tokens
    logins: Logins
    spool: Spool
    coordination: Coordination
    draining: asyncio.Event
    """Set when the daemon takes no more work."""


class Dialect:
    """One generation of the API.

    :param services: what its requests are translated to
    """

    tag: ClassVar[str] = ""
    """Its name in the API's description; empty for one that is not described."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.jobs = services.jobs

    def routes(self) -> Sequence[Route]:
        """The routes of this generation."""
        raise NotImplementedError

    @asynccontextmanager
    async def form(self, request: web.Request, fields: FieldSet, *, upload: bool = False) -> AsyncIterator[Form]:
        """Read and check the body of a POST.

        :param upload: True where the request may bring a file that is wanted
        """
        spool = self.services.spool if upload else None
        limit = self.services.settings.max_form_bytes
        async with forms.received(request, request[BODY], fields, max_form_bytes=limit, spool=spool) as received:
            yield Form(values=fields.parse(received.values), received=received)

    def job_id(self, request: web.Request) -> str:
        """The job id in the path.

        :raises NoSuchJob: no job can have this id, so there is none
        """
        text = request.match_info["jid"]
        try:
            known = check_jid(text) == text
        except InvalidRequest:
            known = False
        if not known:
            raise NoSuchJob(f"No such job: {text}")
        logs.jid.set(text)
        return text


@dataclass(frozen=True, kw_only=True, slots=True)
class Form:
    """A body that was read and is well formed."""

    values: dict[str, Any]
    received: forms.Received

    def jid(self) -> str:
        """The job id of the request.

        :raises InvalidRequest: it is not fit to be one
        """
        jid = check_jid(self.values["jid"])
        logs.jid.set(jid)
        return jid


class Common(Dialect):
    """The open routes: they are the same in every generation that has them (contract 1.1)."""

    tag = "all"

    def routes(self) -> Sequence[Route]:
        """Login and health."""
        return (
            Route(
                method="POST",
                path=f"{PREFIX}/auth-token/",
                handler=self.log_in,
                summary="Exchange user and password for a token",
                form=LOGIN,
                open=True,
                operation=Operation(
                    help="For the header `Authorization: Bearer <token>`. A wrong pair is 400, too many of them 429.",
                    shape=shapes.TOKEN,
                    media=[JSON],
                    refusals=[429],
                ),
            ),
            Route(
                method="GET",
                path=f"{PREFIX}/health/",
                handler=self.health,
                summary="Say that the server answers",
                open=True,
                operation=Operation(help="Whether it can also take work is told by `/readyz`.", shape=shapes.HEALTH),
            ),
        )

    async def log_in(self, request: web.Request) -> web.StreamResponse:
        """POST /auth-token/. JSON only; the query string counts too once the content type says JSON."""
        if not forms.is_json(request.content_type):
            raise Refusal(415, NOT_JSON)
        document = await forms.json_document(request[BODY], limit=_LOGIN_BYTES)
        given = {name: request.query.getall(name) for name in LOGIN.names if name in request.query}
        if isinstance(document, dict):
            # Unlike elsewhere null is a value here, though never the right one (contract 1.1).
            given.update({name: [_printed(document[name])] for name in LOGIN.names if name in document})
        values = LOGIN.parse(given)
        token = self.services.logins.login(values["pfcon_user"], values["pfcon_password"], address=request.remote or "")
        return json_response({"token": token})

    async def health(self, _: web.Request) -> web.StreamResponse:
        """GET /health/."""
        return json_response({"health": "OK"})


def _printed(value: Any) -> str:
    return value if isinstance(value, str) else str(value)
