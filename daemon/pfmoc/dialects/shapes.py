"""The answers of pfcon 6 and 5 as JSON Schema. ``render`` makes what these describe; schemathesis compares the two."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, get_args

from pfmoc.dialects.operations import Shape
from pfmoc.dialects.render import Spelling
from pfmoc.jobs.model import Status
from pfmoc.settings import ContainerEnv, StorageEnv


def _text(meaning: str, **more: Any) -> dict[str, Any]:
    return {"type": "string", "description": meaning, **more}


def _flag(meaning: str) -> dict[str, Any]:
    return {"type": "boolean", "description": meaning}


MESSAGE = Shape(
    name="Refusal",
    help="Why a request was refused.",
    keys={
        "message": {
            "description": "a sentence; or, where fields cannot be read, a text for each of them",
            "anyOf": [{"type": "string"}, {"type": "object", "additionalProperties": {"type": "string"}, "minProperties": 1}],
        }
    },
)
TOKEN = Shape(name="Token", help="A token.", keys={"token": _text("JWT, for 48 hours; at most 500 characters", maxLength=500)})
HEALTH = Shape(name="Health", help="The server answers.", keys={"health": {"const": "OK"}})
LISTING = Shape(
    name="Listing",
    help="The output of a job, in storage that server and client share.",
    keys={
        "job_output_path": _text("the directory that was asked for, without slashes around it"),
        "rel_file_paths": {"type": "array", "items": {"type": "string"}, "description": "its files, relative to it"},
    },
)

_SECONDS = {"type": ["number", "null"], "minimum": 0, "description": "seconds"}
STAGES = Shape(
    name="Stages",
    help="Where the time of a plugin job went.",
    keys={
        "jid": _text("id of the job"),
        "node": _text("where it ran; empty where there are no nodes, or none yet"),
        "pod": _text("its pod; empty where there are no pods, or none yet"),
        "waiting": {**_SECONDS, "description": "until its first container began: quota, scheduling, images"},
        "pull": {**_SECONDS, "description": "bringing the input"},
        "plugin": {**_SECONDS, "description": "the plugin itself"},
        "publish": {**_SECONDS, "description": "bringing the output to storage"},
    },
)

_SERVER = {
    "server_version": _text("the release of pfcon whose manners these are, and the version of pfmoc"),
    "pfcon_innetwork": _flag("the server shares storage with its clients, so that no data go through the API"),
    "storage_env": _text("how data travel", enum=list(get_args(StorageEnv))),
    "container_env": _text("where plugins run", enum=list(get_args(ContainerEnv))),
    "compute_volume_type": _text("how the compute environment reaches the storage"),
}
_DESCRIBED = {
    "swift_auth_url": _text("where to sign in to the Swift that holds the data"),
    "s3_endpoint_url": _text("the S3 that holds the data"),
}
_JOBS = {
    "requires_copy_job": _flag("a copy job must come before a plugin job"),
    "requires_upload_job": _flag("an upload job must come after a plugin job"),
}


def server_5(described: Iterable[str]) -> Shape:
    """The server info of pfcon 5.

    :param described: keys that the storage adds
    """
    return Shape(name="Server5", help="What this server is.", keys=_SERVER | {name: _DESCRIBED[name] for name in described})


def server_6(described: Iterable[str]) -> Shape:
    """The server info of pfcon 6.

    :param described: keys that the storage adds
    """
    keys = _SERVER | _JOBS | {name: _DESCRIBED[name] for name in described}
    return Shape(name="Server6", help="What this server is, and which jobs it needs.", keys=keys)


_STAGED = Shape(
    name="Staged",
    help="What became of the input that this request brought or named.",
    keys={
        "jid": _text("id of the job"),
        "nfiles": {"type": "integer", "minimum": 0, "description": "files of the input"},
        "timestamp": _text("when, UTC: `YYYY-MM-DD HH:MM:SS.ffffff`"),
        "path": _text("path of the input on the server"),
    },
)
_DATA = {"description": "empty where this request staged nothing", "anyOf": [_STAGED, {"type": "object", "maxProperties": 0}]}


def _compute(generation: int, spell: Spelling) -> Shape:
    return Shape(
        name=f"Compute{generation}",
        help="A job as it stands.",
        keys={
            "jid": _text("id of the job"),
            "image": _text("container image; empty where the server itself does the work"),
            "cmd": _text("command line, quoted as for a shell"),
            "status": _text("how far the job has come", enum=[spell(status) for status in Status]),
            "message": _text("the compute environment's word for it, or the reason"),
            "timestamp": _text("when the job ended, or else began: RFC 3339, UTC; empty before"),
            "logs": _text("the last lines of standard output and error; empty for a new job"),
        },
    )


class Answers:
    """The answers about jobs, which generations spell differently.

    :param generation: of pfcon
    """

    def __init__(self, generation: int, spell: Spelling) -> None:
        compute = _compute(generation, spell)
        self.job = Shape(name=f"Job{generation}", help="A job.", keys={"compute": compute})
        self.submitted = Shape(name=f"Submitted{generation}", help="A plugin job.", keys={"data": _DATA, "compute": compute})
