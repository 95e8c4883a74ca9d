"""pfcon 3.1 to 3.4: one collection at the root of the API, and no login (contract 3.3)."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from pfmoc import __version__
from pfmoc.dialects import files
from pfmoc.dialects.base import PREFIX
from pfmoc.dialects.pfcon4 import Pfcon4
from pfmoc.dialects.routes import ROOT_JOB, Route
from pfmoc.dialects.strings import string_fields
from pfmoc.http import json_response

SERVER_VERSION = f"3.4.1+pfmoc.{__version__}"
"""The release of pfcon whose manners these are, and ours."""

ROOT = f"{PREFIX}/"
ONE = f"{PREFIX}/{ROOT_JOB}/"


class Pfcon3(Pfcon4):
    """The dialect of CUBE 2 and python-pfconclient 2.

    Limits may carry units, as in 3.0; in all else these are the manners of 3.1 and later.
    """

    fields = string_fields("pfcon3", units=True)

    def routes(self) -> Sequence[Route]:
        """The collection, its jobs, and their files."""
        return (
            Route(method="GET", path=ROOT, handler=self.server_info, legacy=True, summary="Describe the server"),
            Route(method="POST", path=ROOT, handler=self.post, form=self.fields, legacy=True, summary="Submit a job"),
            Route(method="GET", path=ONE, handler=self.get, legacy=True, summary="Show a job"),
            Route(method="DELETE", path=ONE, handler=self.delete, legacy=True, summary="Remove a job and its data"),
            Route(method="GET", path=f"{ONE}file/", handler=self.get_file, legacy=True, summary="Fetch a job's output"),
        )

    async def server_info(self, _: web.Request) -> web.StreamResponse:
        """GET /."""
        return json_response({"server_version": SERVER_VERSION})

    async def get_file(self, request: web.Request) -> web.StreamResponse:
        """GET /<id>/file/: the zip, under no name."""
        return await files.answer(request, self.jobs, self.job_id(request), named=False)
