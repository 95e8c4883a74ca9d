"""Plugin jobs as pfcon 5 and 6 describe them: a list of arguments, an entrypoint, limits (contract 2.3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pfmoc.compute.base import Limits
from pfmoc.compute.limits import MEMORY_MIB_MIN, REFERENCE_MAX, REFERENCE_PATTERN, bounds_of
from pfmoc.dialects.fields import Field, FieldSet
from pfmoc.dialects.forms import FILE_FIELD, Received
from pfmoc.dialects.operations import FORMS, MULTIPART, Operation, Shape
from pfmoc.errors import InvalidRequest
from pfmoc.http import malformed
from pfmoc.jobs.model import PluginSpec, PluginType
from pfmoc.jobs.names import JID_MAX, JID_PATTERN, RESERVED
from pfmoc.jobs.service import Jobs
from pfmoc.settings import Settings
from pfmoc.storage.paths import KEY_PREFIX

JID = Field(
    name="jid",
    required=True,
    help="id of the job, chosen by the client",
    bounds={"pattern": f"^{JID_PATTERN}$", "maxLength": JID_MAX, "not": {"enum": sorted(RESERVED)}, "examples": ["chris-jid-1"]},
)
_CPU = {"minimum": 1, "examples": [1000]}
_MEMORY = {"minimum": MEMORY_MIB_MIN, "examples": [200]}
_IMAGE = {
    "pattern": f"^{REFERENCE_PATTERN}$",
    "maxLength": REFERENCE_MAX,
    "not": {"pattern": r"/\.\.(/|$)"},
    "examples": ["fnndsc/pl-simpledsapp"],
}
_PATH = {"type": "string", "pattern": "^[^\\u0000]*[^\\u0000/.][^\\u0000]*$"}
PATHS: Mapping[str, Mapping[str, Any]] = {"input_dirs": {"items": _PATH}, "output_dir": _PATH}
"""Bounds of paths, where the storage is shared."""
_PAIR = {"items": {"type": "string", "pattern": "^[^\\u0000=]+=[^\\u0000]*$"}}


def plugin_fields(name: str, *, args_required: bool) -> FieldSet:
    """The fields of a plugin job.

    :param args_required: True before pfcon 6.0.5, where a plugin without arguments cannot be submitted
    """
    return FieldSet(
        name=name,
        fields=(
            JID,
            Field(name="args", many=True, required=args_required, help="arguments, one for each repetition"),
            Field(name="args_path_flags", many=True, help="flags whose value is replaced by the input directory"),
            Field(name="auid", required=True, help="the user on whose behalf the job runs"),
            Field(name="number_of_workers", type=int, required=True, help="parallel workers", bounds={"minimum": 1}),
            Field(name="cpu_limit", type=int, required=True, help="CPU limit in millicores", bounds=_CPU),
            Field(name="memory_limit", type=int, required=True, help="memory limit in MiB", bounds=_MEMORY),
            Field(name="gpu_limit", type=int, required=True, help="number of GPUs", bounds={"minimum": 0}),
            Field(name="gpu_product", help="which GPUs, where the site has several; without GPUs it means nothing"),
            Field(name="image", required=True, help="container image of the plugin", bounds=_IMAGE),
            Field(
                name="entrypoint",
                many=True,
                required=True,
                help="program of the plugin, and its first arguments",
                bounds={"minItems": 1, "examples": [["simpledsapp"]]},
            ),
            Field(name="type", required=True, choices=tuple(PluginType), help="type of the plugin"),
            Field(name="env", many=True, help="environment, KEY=value for each repetition", bounds=_PAIR),
            Field(name="input_dirs", many=True, help="input directories, relative to the storage's root"),
            Field(name="output_dir", help="output directory, relative to the storage's root"),
        ),
    )


def has_engine(jobs: Jobs) -> bool:
    """True where plugins are the work of a container engine, which has statuses of its own."""
    return jobs.compute.env != "process"


def plugin_operation(settings: Settings, jobs: Jobs, *, shape: Shape, needed: Sequence[str]) -> Operation:
    """The submission of a plugin job, for the API's description.

    :param shape: of the answer
    :param needed: fields that are mandatory where the storage is shared
    """
    zipped = not jobs.storage.innetwork
    return Operation(
        help="The same request again is answered with the job that is there, unless that has failed: then it is run anew.",
        shape=shape,
        status=201,
        media=[MULTIPART] if zipped else FORMS,
        upload=zipped,
        needed=() if zipped else needed,
        bounds={**_most(settings), **({} if zipped else PATHS)},
        refusals=[404, 409, 507],
        engine=has_engine(jobs),
    )


def _most(settings: Settings) -> Mapping[str, Mapping[str, Any]]:
    """What the four limits of every generation are at most, and which GPUs there are to choose among."""
    bounds = bounds_of(settings)
    return {
        "number_of_workers": {"maximum": bounds.workers},
        "cpu_limit": {"maximum": bounds.cpu_millicores},
        "memory_limit": {"maximum": bounds.memory_mib},
        "gpu_limit": {"maximum": bounds.gpus},
        "gpu_product": {"enum": ["", *bounds.gpu_products]},
    }


def plugin_spec(values: dict[str, Any]) -> PluginSpec:
    """Translate the fields to what the job is asked to do.

    :raises InvalidRequest: upstream's checks of the entrypoint and environment
    """
    if not values["entrypoint"]:
        raise InvalidRequest("entrypoint", "cannot be empty")
    # Upstream lets a pair without a name through, to fail in the engine.
    if not all(pair.find("=") > 0 for pair in values["env"]):
        raise InvalidRequest("env", 'must be a list of "key=value" strings')
    return PluginSpec(
        image=values["image"],
        entrypoint=tuple(values["entrypoint"]),
        type=PluginType(values["type"]),
        limits=limits_of(values),
        auid=values["auid"],
        args=tuple(values["args"]),
        args_path_flags=tuple(values["args_path_flags"]),
        env=tuple(values["env"]),
        input_dirs=tuple(values["input_dirs"]),
        output_dir=values["output_dir"],
    )


def limits_of(values: Mapping[str, Any]) -> Limits:
    """Translate the four fields that every generation has, and the one that only ours has."""
    return Limits(
        number_of_workers=values["number_of_workers"],
        cpu_millicores=values["cpu_limit"],
        memory_mib=values["memory_limit"],
        gpus=values["gpu_limit"],
        gpu_product=values.get("gpu_product") or None,
    )


def on_own_data(jid: str, spec: PluginSpec) -> PluginSpec:
    """The job, to work on the two directories below its ``key-<jid>``, which its client fills and empties."""
    own = f"{KEY_PREFIX}{jid}"
    return replace(spec, input_dirs=(f"{own}/incoming",), output_dir=f"{own}/outgoing", placed=True)


def require(values: dict[str, Any], names: Iterable[str]) -> None:
    """Check fields that only this server's storage makes mandatory.

    :raises InvalidRequest: for the first that is missing
    """
    for name in names:
        if values[name] in (None, []):
            raise InvalidRequest(name, "field is required")


def require_upload(received: Received) -> None:
    """Check that the zip came.

    :raises Refusal: with the general sentence: upstream meant to name the field, and never does (contract 2.3)
    """
    if received.upload is None:
        raise malformed(f"{FILE_FIELD} is missing")
