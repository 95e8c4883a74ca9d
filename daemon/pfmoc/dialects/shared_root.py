"""pfcon 3 and pman on one listener: they have the same URLs (contract 0)."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from pfmoc.dialects import render
from pfmoc.dialects.base import Dialect, Services
from pfmoc.dialects.pfcon3 import ONE, ROOT, Pfcon3
from pfmoc.dialects.pman import Pman
from pfmoc.dialects.routes import Route
from pfmoc.http import json_response
from pfmoc.jobs.model import Kind, PluginSpec


class Pfcon3AndPman(Dialect):
    """Sorts requests by what they carry, and jobs by whose data they work on."""

    def __init__(self, services: Services) -> None:
        super().__init__(services)
        self.pfcon = Pfcon3(services)
        self.pman = Pman(services)

    def routes(self) -> Sequence[Route]:
        """The routes of both."""
        return (
            Route(method="GET", path=ROOT, handler=self.pman.server_info, legacy=True, summary="Describe the server"),
            Route(method="POST", path=ROOT, handler=self.post, legacy=True, summary="Submit a job"),
            Route(method="GET", path=ONE, handler=self.get, legacy=True, summary="Show a job"),
            Route(method="DELETE", path=ONE, handler=self.delete, legacy=True, summary="Remove a job"),
            Route(method="GET", path=f"{ONE}file/", handler=self.pfcon.get_file, legacy=True, summary="Fetch a job's output"),
        )

    async def post(self, request: web.Request) -> web.StreamResponse:
        """POST /. Only pfcon is sent a zip, and a zip comes in a multipart body."""
        dialect = self.pfcon if request.content_type == "multipart/form-data" else self.pman
        return await dialect.post(request)

    async def get(self, request: web.Request) -> web.StreamResponse:
        """GET /<id>/: pman's flat object, and in it the ``compute`` of pfcon."""
        job = await self.jobs.get(self.job_id(request), Kind.PLUGIN)
        compute = render.compute(job, await self.jobs.log(job), spell=render.old_spelling)
        return json_response({**compute, "compute": compute})

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """DELETE /<id>/: pfcon's way, unless the data are the caller's."""
        job = await self.jobs.get(self.job_id(request), Kind.PLUGIN)
        placed = isinstance(job.spec, PluginSpec) and job.spec.placed
        return await (self.pman if placed else self.pfcon).delete(request)
