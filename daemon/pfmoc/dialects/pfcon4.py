"""pfcon 4.0: the routes of pfcon 5, with jobs described in strings (contract 3.2)."""

from __future__ import annotations

from aiohttp import web

from pfmoc import __version__
from pfmoc.dialects.pfcon5 import JOB, Pfcon5
from pfmoc.dialects.strings import EitherFields, string_fields
from pfmoc.http import json_response

SERVER_VERSION = f"4.0.2+pfmoc.{__version__}"
"""The release of pfcon whose manners these are, and ours."""

STRING_JOB = string_fields("jobs", units=False)


class Pfcon4(Pfcon5):
    """The dialect of CUBE 3.0.0.pre and python-pfconclient 3.0.0."""

    tag = ""
    fields = STRING_JOB

    async def server_info(self, _: web.Request) -> web.StreamResponse:
        """GET /jobs/."""
        storage = self.jobs.storage
        return json_response({"server_version": SERVER_VERSION, "pfcon_innetwork": storage.innetwork, "storage_env": storage.env})


class Pfcon5And4(Pfcon5):
    """Both on one listener: the fields of a job tell which is meant."""

    fields = EitherFields(name=JOB.name, fields=JOB.fields, strings=STRING_JOB)
