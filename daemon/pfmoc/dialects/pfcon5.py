"""pfcon 4.1 and 5: plugin jobs only, whose POST brings the data itself (contract 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from aiohttp import web

from pfmoc import __version__
from pfmoc.dialects import files, progress, render, shapes
from pfmoc.dialects.base import PREFIX, Dialect
from pfmoc.dialects.fields import FieldSet
from pfmoc.dialects.operations import Operation
from pfmoc.dialects.plugin import has_engine, plugin_fields, plugin_operation, require
from pfmoc.dialects.routes import Route
from pfmoc.dialects.strings import require_zip, spec_of
from pfmoc.http import json_response, no_content
from pfmoc.jobs.model import Kind

SERVER_VERSION = f"5.3.1+pfmoc.{__version__}"
"""The release of pfcon whose manners these are, and ours."""

JOB = plugin_fields("jobs", args_required=True)
NEEDED = ("input_dirs", "output_dir")
"""Fields that are mandatory where the storage is shared."""

_ANSWERS = shapes.Answers(5, render.old_spelling)
_SHOW = Operation(help="How far it has come, and the tail of its log.", shape=_ANSWERS.job, refusals=[404])
_REMOVE = Operation(
    help="It is ended if it goes on. Of an unknown job the data are removed all the same.",
    status=204,
    refusals=[404, 507],
)


class Pfcon5(Dialect):
    """The dialect of CUBE 3 to 6 and python-pfconclient 3.

    Unlike upstream's, its POST may be repeated: CUBE repeats it blindly after any error (contract 11.5).
    """

    tag = "pfcon 5"
    fields: FieldSet = JOB
    """What a POST holds."""

    def routes(self) -> Sequence[Route]:
        """One collection, its jobs, and their files."""
        path = f"{PREFIX}/jobs/"
        one = path + "{jid}/"
        post = plugin_operation(self.services.settings, self.jobs, shape=_ANSWERS.submitted, needed=NEEDED)
        show, remove = (replace(each, engine=has_engine(self.jobs)) for each in (_SHOW, _REMOVE))
        fetch = files.operation(self.jobs.storage)
        info = Operation(help="There is no listing of jobs.", shape=shapes.server_5(self.jobs.storage.described))
        return (
            Route(method="GET", path=path, handler=self.server_info, summary="Describe the server", operation=info),
            Route(method="POST", path=path, handler=self.post, form=self.fields, summary="Submit a job", operation=post),
            Route(method="GET", path=one, handler=self.get, summary="Show a job", operation=show),
            Route(method="DELETE", path=one, handler=self.delete, summary="Remove a job and its data", operation=remove),
            Route(method="GET", path=one + "file/", handler=self.get_file, summary="Fetch a job's output", operation=fetch),
            Route(method="GET", path=one + "logs/", handler=self.get_logs, summary="Read a job's log", operation=progress.LOGS),
        )

    async def server_info(self, _: web.Request) -> web.StreamResponse:
        """GET /jobs/."""
        storage, compute = self.jobs.storage, self.jobs.compute
        return json_response(
            {
                "server_version": SERVER_VERSION,
                "pfcon_innetwork": storage.innetwork,
                "storage_env": storage.env,
                "container_env": compute.env,
                "compute_volume_type": compute.volume_type,
                **storage.described,
            }
        )

    async def post(self, request: web.Request) -> web.StreamResponse:
        """POST /jobs/."""
        innetwork = self.jobs.storage.innetwork
        async with self.form(request, self.fields, upload=not innetwork) as form:
            jid = form.jid()
            if innetwork:
                require(form.values, NEEDED)
            else:
                require_zip(form.values, form.received)
            done = await self.jobs.submit_plugin(jid, spec_of(form.values), upload=form.received.upload, copied=False)
            compute = render.compute(done.job, done.log, spell=render.old_spelling)
            return json_response({"data": render.data(jid, done.staged), "compute": compute}, status=201)

    async def get(self, request: web.Request) -> web.StreamResponse:
        """GET /jobs/<id>/."""
        job = await self.jobs.get(self.job_id(request), Kind.PLUGIN)
        return json_response({"compute": render.compute(job, await self.jobs.log(job), spell=render.old_spelling)})

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """DELETE /jobs/<id>/: the data and the job. CUBE relies on 404 for one that is unknown."""
        await self.jobs.purge(self.job_id(request))
        return no_content()

    async def get_file(self, request: web.Request) -> web.StreamResponse:
        """GET /jobs/<id>/file/. Out of an object store it also brings the output to where the client wants it (contract 3.1)."""
        return await files.answer(request, self.jobs, self.job_id(request), brings=True)

    async def get_logs(self, request: web.Request) -> web.StreamResponse:
        """GET /jobs/<id>/logs/."""
        job = await self.jobs.get(self.job_id(request), Kind.PLUGIN)
        return await progress.logs(request, self.jobs, job, stop=self.services.draining)
