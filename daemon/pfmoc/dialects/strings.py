"""Plugin jobs as pfcon 3, pfcon 4.0 and pman 3 describe them: the command line as one text, a shell, a path (contract 3.2)."""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from pfmoc.dialects.fields import MISSING_IN_FORM, Field, FieldSet, Values, whole_number
from pfmoc.dialects.forms import FILE_FIELD, Received
from pfmoc.dialects.plugin import JID, limits_of, plugin_spec, require_upload
from pfmoc.errors import InvalidRequest
from pfmoc.http import Refusal
from pfmoc.jobs.model import PluginSpec, PluginType

TELLTALES = frozenset({"cmd_args", "selfexec"})
"""Fields by which a job described in strings is known."""

_AMOUNT = re.compile(r"\s*([0-9]+)([A-Za-z]*)\s*")
_MEBI = Fraction(1 << 20)
_MEMORY_UNITS = {"": Fraction(1), "Mi": Fraction(1), "Gi": Fraction(1024), "M": 10**6 / _MEBI, "G": 10**9 / _MEBI}
_CPU_UNITS = {"": Fraction(1), "m": Fraction(1)}
_MISSING_FILE = "Missing required parameter in an uploaded file"


@dataclass(frozen=True, kw_only=True, slots=True)
class Quantity(Field):
    """A whole number that may carry a unit: limits were plain text once, and scripts still say ``4000Mi`` or ``2000m``."""

    type: type[str] | type[int] = int
    units: Mapping[str, Fraction]
    """What one of each unit is, in the field's own. Fractions are cut off."""

    def _one(self, value: Any) -> int:
        match = _AMOUNT.fullmatch(value) if isinstance(value, str) else None
        if match is None or match[2] not in self.units:
            return int(whole_number(value))
        return int(int(match[1]) * self.units[match[2]])


def string_fields(name: str, *, missing: str = MISSING_IN_FORM, units: bool) -> FieldSet:
    """The fields of a plugin job that is described in strings.

    :param missing: what is said of a field that is not there
    :param units: True where limits may carry one, as in the first releases of pfcon 3 and pman 3
    """
    return FieldSet(
        name=name,
        missing=missing,
        fields=(
            JID,
            Field(name="cmd_args", required=True, help="arguments, quoted as for a shell, in one text"),
            Field(name="cmd_path_flags", default="", help="flags whose value is replaced by the input directory, with commas"),
            Field(name="auid", required=True, help="the user on whose behalf the job runs"),
            Field(name="number_of_workers", type=int, required=True, help="parallel workers"),
            Quantity(name="cpu_limit", required=True, help="CPU limit in millicores", units=_CPU_UNITS if units else {}),
            Quantity(name="memory_limit", required=True, help="memory limit in MiB", units=_MEMORY_UNITS if units else {}),
            Field(name="gpu_limit", type=int, required=True, help="number of GPUs"),
            Field(name="image", required=True, help="container image of the plugin"),
            Field(name="selfexec", required=True, help="program of the plugin"),
            Field(name="selfpath", required=True, help="directory of the program"),
            Field(name="execshell", required=True, help="what executes the program, such as python3"),
            Field(name="type", required=True, choices=tuple(PluginType), help="type of the plugin"),
        ),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class EitherFields(FieldSet):
    """A form that may be filled in with lists or with strings; what is there tells which."""

    strings: FieldSet

    @property
    def names(self) -> frozenset[str]:
        """The names of both."""
        return frozenset(field.name for field in (*self.fields, *self.strings.fields))

    def parse(self, values: Values) -> dict[str, Any]:
        """Return a value for every field of the one that was meant.

        :raises Refusal: as ``FieldSet.parse`` does
        """
        meant = self.strings if in_strings(values) else FieldSet(name=self.name, fields=self.fields, missing=self.missing)
        return meant.parse(values)


def in_strings(values: Mapping[str, Any]) -> bool:
    """True for a job that is described in strings."""
    return bool(TELLTALES & values.keys()) and "entrypoint" not in values


def string_spec(values: Mapping[str, Any]) -> PluginSpec:
    """Translate the fields to what the job is asked to do: ``execshell selfpath/selfexec cmd_args``.

    :raises InvalidRequest: a quotation does not end, or there is no program
    """
    program = posixpath.join(values["selfpath"], values["selfexec"])
    if not values["selfexec"]:
        raise InvalidRequest("selfexec", "cannot be empty")
    return PluginSpec(
        image=values["image"],
        entrypoint=(*_split("execshell", values["execshell"]), program),
        type=PluginType(values["type"]),
        limits=limits_of(values),
        auid=values["auid"],
        args=_split("cmd_args", values["cmd_args"]),
        args_path_flags=tuple(filter(None, (flag.strip() for flag in values["cmd_path_flags"].split(",")))),
    )


def spec_of(values: dict[str, Any]) -> PluginSpec:
    """Translate the fields of either description.

    :raises InvalidRequest: see ``string_spec`` and ``plugin_spec``
    """
    return string_spec(values) if in_strings(values) else plugin_spec(values)


def require_zip(values: Mapping[str, Any], received: Received) -> None:
    """Check that the zip came. Only the older generations manage to name the field.

    :raises Refusal: 400
    """
    if in_strings(values) and received.upload is None:
        raise Refusal(400, {FILE_FIELD: _MISSING_FILE})
    require_upload(received)


def _split(field: str, text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise InvalidRequest(field, f"{error}".lower()) from None
