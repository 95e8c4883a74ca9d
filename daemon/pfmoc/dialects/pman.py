"""pman 3 to 6: processes only. Its caller puts the input into the storeBase, and fetches the output from there (contract 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from aiohttp import web

from pfmoc import __version__
from pfmoc.dialects import forms, render
from pfmoc.dialects.base import BODY, NOT_JSON, Dialect, Form
from pfmoc.dialects.fields import MISSING_ANYWHERE, Field
from pfmoc.dialects.pfcon3 import ONE, ROOT
from pfmoc.dialects.plugin import on_own_data, plugin_fields, plugin_spec
from pfmoc.dialects.routes import Route
from pfmoc.dialects.strings import EitherFields, in_strings, string_fields, string_spec
from pfmoc.errors import InvalidRequest
from pfmoc.http import Refusal, json_response, no_content
from pfmoc.jobs.model import Kind, PluginSpec

SERVER_VERSION = f"6.3.1+pfmoc.{__version__}"
"""The release of pman whose manners these are, and ours."""

MISSING_IN_JSON = "Missing required parameter in the JSON body"

_PLACES = (
    Field(name="input_dir", help="input directory, relative to the storage's root; default: incoming of the job's own directory"),
    Field(
        name="output_dir", help="output directory, relative to the storage's root; default: outgoing of the job's own directory"
    ),
)
STRINGS = string_fields("pman3", missing=MISSING_ANYWHERE, units=True)
"""A job as pman 3 has it."""
EITHER = EitherFields(
    name="pman",
    fields=(
        *(field for field in plugin_fields("pman", args_required=True).fields if field.name not in ("input_dirs", "output_dir")),
        *_PLACES,
    ),
    missing=MISSING_IN_JSON,
    strings=STRINGS,
)
"""A job as pman 4 to 6 have it, or pman 3."""


class Pman(Dialect):
    """The dialect of pfcon 3 to 5.2, as it speaks to the service behind it."""

    def routes(self) -> Sequence[Route]:
        """The collection and its jobs."""
        return (
            Route(method="GET", path=ROOT, handler=self.server_info, legacy=True, summary="Describe the server"),
            Route(method="POST", path=ROOT, handler=self.post, form=EITHER, legacy=True, summary="Start a job"),
            Route(method="GET", path=ONE, handler=self.get, legacy=True, summary="Show a job"),
            Route(method="DELETE", path=ONE, handler=self.delete, legacy=True, summary="Remove a job"),
        )

    async def server_info(self, _: web.Request) -> web.StreamResponse:
        """GET /."""
        compute = self.jobs.compute
        return json_response(
            {"server_version": SERVER_VERSION, "container_env": compute.env, "storage_type": compute.volume_type}
        )

    async def post(self, request: web.Request) -> web.StreamResponse:
        """POST /. JSON describes a job either way, a form only as pman 3 did."""
        json = forms.is_json(request.content_type)
        form = await (self._from_json(request) if json else self._from_form(request))
        jid = form.jid()
        done = await self.jobs.submit_plugin(jid, _spec(jid, form.values), copied=False)
        return json_response(render.compute(done.job, done.log, spell=render.old_spelling), status=201)

    async def get(self, request: web.Request) -> web.StreamResponse:
        """GET /<id>/."""
        job = await self.jobs.get(self.job_id(request), Kind.PLUGIN)
        return json_response(render.compute(job, await self.jobs.log(job), spell=render.old_spelling))

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """DELETE /<id>/: the job; its data are the caller's."""
        if self.services.settings.remove_jobs:
            jid = self.job_id(request)
            await self.jobs.get(jid, Kind.PLUGIN)
            await self.jobs.remove(jid, Kind.PLUGIN)
        return no_content()

    async def _from_json(self, request: web.Request) -> Form:
        document = await forms.json_document(request[BODY], limit=self.services.settings.max_form_bytes)
        values = forms.json_values(document, EITHER.names)
        # Elsewhere one value is a list of one. Here a text in place of a list is most likely a command line.
        lists = [field.name for field in EITHER.fields if field.many and field.name in values]
        texts = {name: "must be a list of strings" for name in lists if not isinstance(document[name], list)}
        if texts:
            raise Refusal(400, texts)
        return Form(values=EITHER.parse(values), received=forms.Received())

    async def _from_form(self, request: web.Request) -> Form:
        limit = self.services.settings.max_form_bytes
        async with forms.received(request, request[BODY], STRINGS, max_form_bytes=limit) as received:
            if not in_strings(received.values):
                raise Refusal(415, NOT_JSON)
            return Form(values=STRINGS.parse(received.values), received=received)


def _spec(jid: str, values: dict[str, Any]) -> PluginSpec:
    """Translate the fields to what the job is asked to do, with the directories where the caller says that they are.

    :raises InvalidRequest: a command line that cannot be split
    :raises Refusal: pman puts the names of fields in quotes; or one of two directories is missing
    """
    if in_strings(values):
        return on_own_data(jid, string_spec(values))
    places = {field.name: values[field.name] for field in _PLACES}
    missing = [name for name, value in places.items() if value is None]
    if len(missing) == 1:
        raise Refusal(400, {missing[0]: MISSING_IN_JSON})
    try:
        spec = plugin_spec({**values, "input_dirs": [], "output_dir": None})
    except InvalidRequest as bad:
        raise Refusal(400, f'"{bad.field}"{bad.message.removeprefix(f"{bad.field}:")}') from bad
    if missing:
        return on_own_data(jid, spec)
    incoming, outgoing = places.values()
    return replace(spec, input_dirs=(incoming,), output_dir=outgoing, placed=True)
