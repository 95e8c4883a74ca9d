"""pfcon 6: copy, plugin, upload and delete jobs, each with a collection of its own (contract 2)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from aiohttp import web

from pfmoc import __version__
from pfmoc.dialects import files, progress, render, shapes
from pfmoc.dialects.base import PREFIX, Dialect
from pfmoc.dialects.fields import Field, FieldSet
from pfmoc.dialects.operations import Operation
from pfmoc.dialects.plugin import JID, PATHS, has_engine, plugin_fields, plugin_operation, plugin_spec, require, require_upload
from pfmoc.dialects.routes import Route
from pfmoc.errors import InvalidRequest, NoSuchJob
from pfmoc.http import json_response, no_content
from pfmoc.jobs.model import CopySpec, DeleteSpec, Kind, UploadSpec
from pfmoc.jobs.submission import Submission

SERVER_VERSION = f"6.0.6+pfmoc.{__version__}"
"""The release of pfcon whose manners these are, and ours."""

_OP_LIMITS = (
    Field(name="cpu_limit", type=int, default=1000, help="CPU limit in millicores", bounds={"minimum": 1}),
    Field(name="memory_limit", type=int, default=300, help="memory limit in MiB", bounds={"minimum": 1}),
)

COPY = FieldSet(
    name="copyjobs",
    fields=(
        JID,
        Field(name="input_dirs", many=True, help="input directories, relative to the storage's root"),
        Field(name="output_dir", required=True, help="output directory, relative to the storage's root"),
        *_OP_LIMITS,
    ),
)
PLUGIN = plugin_fields("pluginjobs", args_required=False)
UPLOAD = FieldSet(
    name="uploadjobs",
    fields=(JID, Field(name="job_output_path", required=True, help="where the output goes in storage"), *_OP_LIMITS),
)
DELETE = FieldSet(name="deletejobs", fields=(JID, *_OP_LIMITS))

_ANSWERS = shapes.Answers(6, render.new_spelling)
_SHOW = "How far it has come, and the tail of its log."
_REMOVE = "It is ended if it goes on, and forgotten; its data stay. Answered 204 whether it was there or not."
_HELP = {
    Kind.COPY: "Brings the input to where the plugin reads it. Where storage needs none, it succeeds at once: `copySkipped`.",
    Kind.UPLOAD: "Brings the output to where it is wanted. Where storage needs none, it succeeds at once: `uploadSkipped`.",
    Kind.DELETE: "Ends what goes on, and removes the job's data. Where there are none, it succeeds at once: `deleteSkipped`.",
}


class Pfcon6(Dialect):
    """The dialect of CUBE 7 and python-pfconclient 4."""

    tag = "pfcon 6"

    def routes(self) -> Sequence[Route]:
        """Five routes for each kind of job, and the files of plugin jobs."""
        posts: dict[Kind, tuple[FieldSet, Callable[[web.Request], Awaitable[web.StreamResponse]]]] = {
            Kind.PLUGIN: (PLUGIN, self.post_plugin),
            Kind.COPY: (COPY, self.post_copy),
            Kind.UPLOAD: (UPLOAD, self.post_upload),
            Kind.DELETE: (DELETE, self.post_delete),
        }
        routes = []
        info = Operation(
            help="The same at each of the collections. There is no listing of jobs.",
            shape=shapes.server_6(self.jobs.storage.described),
        )
        for kind, (form, post) in posts.items():
            path = f"{PREFIX}/{kind}jobs/"
            one = path + "{jid}/"
            get, delete = partial(self.get, kind), partial(self.delete, kind)
            engine = kind is Kind.PLUGIN and has_engine(self.jobs)
            show = Operation(help=_SHOW, shape=_ANSWERS.job, refusals=[404], engine=engine)
            remove = Operation(help=_REMOVE, status=204, refusals=[507], engine=engine)
            routes += [
                Route(method="GET", path=path, handler=self.server_info, summary="Describe the server", operation=info),
                Route(
                    method="POST",
                    path=path,
                    handler=post,
                    form=form,
                    summary=f"Submit a {kind} job",
                    operation=self._submission(kind),
                ),
                Route(method="GET", path=one, handler=get, summary=f"Show a {kind} job", operation=show),
                Route(method="DELETE", path=one, handler=delete, summary=f"Remove a {kind} job", operation=remove),
            ]
        file = f"{PREFIX}/pluginjobs/{{jid}}/file/"
        fetch = files.operation(self.jobs.storage)
        logs, stages = (f"{PREFIX}/pluginjobs/{{jid}}/{each}/" for each in ("logs", "stages"))
        return [
            *routes,
            Route(method="GET", path=file, handler=self.get_file, summary="Fetch a plugin job's output", operation=fetch),
            Route(method="GET", path=logs, handler=self.get_logs, summary="Read a plugin job's log", operation=progress.LOGS),
            Route(
                method="GET",
                path=stages,
                handler=self.get_stages,
                summary="Show where a plugin job's time went",
                operation=progress.STAGES,
            ),
        ]

    @property
    def _needed(self) -> Sequence[str]:
        """Fields of a plugin job that are mandatory where the storage is shared."""
        return ("output_dir",) if self.jobs.storage.requires_copy else ("input_dirs", "output_dir")

    def _submission(self, kind: Kind) -> Operation:
        if kind is Kind.PLUGIN:
            return plugin_operation(self.services.settings, self.jobs, shape=_ANSWERS.submitted, needed=self._needed)
        bounds = PATHS if kind is Kind.COPY and self.jobs.storage.requires_copy else {}
        return Operation(help=_HELP[kind], shape=_ANSWERS.job, status=201, bounds=bounds, refusals=[409, 507])

    async def server_info(self, _: web.Request) -> web.StreamResponse:
        """GET of a collection. There is no listing of jobs in any generation."""
        storage, compute = self.jobs.storage, self.jobs.compute
        return json_response(
            {
                "server_version": SERVER_VERSION,
                "pfcon_innetwork": storage.innetwork,
                "storage_env": storage.env,
                "requires_copy_job": storage.requires_copy,
                "requires_upload_job": storage.requires_upload,
                "container_env": compute.env,
                "compute_volume_type": compute.volume_type,
                **storage.described,
            }
        )

    async def post_copy(self, request: web.Request) -> web.StreamResponse:
        """POST /copyjobs/."""
        async with self.form(request, COPY) as form:
            _check_op_limits(form.values)
            spec = CopySpec(input_dirs=tuple(form.values["input_dirs"]), output_dir=form.values["output_dir"])
            return _accepted(await self.jobs.submit_copy(form.jid(), spec))

    async def post_plugin(self, request: web.Request) -> web.StreamResponse:
        """POST /pluginjobs/."""
        storage = self.jobs.storage
        async with self.form(request, PLUGIN, upload=not storage.innetwork) as form:
            jid = form.jid()
            if storage.innetwork:
                require(form.values, self._needed)
            else:
                require_upload(form.received)
            spec = plugin_spec(form.values)
            done = await self.jobs.submit_plugin(jid, spec, upload=form.received.upload, copied=storage.requires_copy)
            return _accepted(done, data=render.data(jid, done.staged))

    async def post_upload(self, request: web.Request) -> web.StreamResponse:
        """POST /uploadjobs/."""
        async with self.form(request, UPLOAD) as form:
            _check_op_limits(form.values)
            spec = UploadSpec(job_output_path=form.values["job_output_path"])
            return _accepted(await self.jobs.submit_upload(form.jid(), spec))

    async def post_delete(self, request: web.Request) -> web.StreamResponse:
        """POST /deletejobs/."""
        async with self.form(request, DELETE) as form:
            _check_op_limits(form.values)
            return _accepted(await self.jobs.submit_delete(form.jid(), DeleteSpec()))

    async def get(self, kind: Kind, request: web.Request) -> web.StreamResponse:
        """GET of one job."""
        job = await self.jobs.get(self.job_id(request), kind)
        return json_response({"compute": render.compute(job, await self.jobs.log(job), spell=render.new_spelling)})

    async def delete(self, kind: Kind, request: web.Request) -> web.StreamResponse:
        """DELETE of one job: 204 whether it was there, or could be, or not. Its data stay."""
        with suppress(NoSuchJob):
            await self.jobs.remove(self.job_id(request), kind)
        return no_content()

    async def get_file(self, request: web.Request) -> web.StreamResponse:
        """GET /pluginjobs/<id>/file/."""
        return await files.answer(request, self.jobs, self.job_id(request))

    async def get_logs(self, request: web.Request) -> web.StreamResponse:
        """GET /pluginjobs/<id>/logs/."""
        job = await self.jobs.get(self.job_id(request), Kind.PLUGIN)
        return await progress.logs(request, self.jobs, job, stop=self.services.draining)

    async def get_stages(self, request: web.Request) -> web.StreamResponse:
        """GET /pluginjobs/<id>/stages/."""
        return await progress.stages(self.jobs, await self.jobs.get(self.job_id(request), Kind.PLUGIN))


def _accepted(done: Submission, **more: Any) -> web.Response:
    compute = render.compute(done.job, done.log, spell=render.new_spelling)
    return json_response({**more, "compute": compute}, status=201)


def _check_op_limits(values: dict[str, Any]) -> None:
    """Refuse limits that nothing could run under. The work is done by the daemon itself, so they bind nothing else."""
    for field in _OP_LIMITS:
        if values[field.name] < 1:
            raise InvalidRequest(field.name, f"must be at least 1, got {values[field.name]}")
