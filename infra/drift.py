"""Whether the clouds are as the site file says: in step, drifted, or not to be told.

Three looks make the answer. The engine compares site file, state and clouds (``judged``). What the OpenStack provider never reads
back of Swift's accounts and containers is read by ``infra.drift_store``; what somebody has added beside the state's resources is
found by ``infra.drift_additions``. Nothing is changed, neither in the clouds nor in the state.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from infra.failures import EXIT_REFUSED, EXIT_UNKNOWN, explained
from infra.plan import Plan, Step

SEALED = "4dabf18193072939515e22adb298388d"
"""How the engine marks a secret in a state."""
HIDDEN = "(secret)"
MISSING = "(nothing)"
_QUOTED = re.compile(r'\["([^".]+)"\]')
"""How the engine writes a key that is no word, as in ``metadata["Quota-Bytes"]``."""


class Verdict(StrEnum):
    """What is known of a resource, or of all."""

    IN_STEP = "in step"
    DRIFTED = "drifted"
    UNKNOWN = "unknown"


EXIT = {Verdict.IN_STEP: 0, Verdict.DRIFTED: EXIT_REFUSED, Verdict.UNKNOWN: EXIT_UNKNOWN}
"""Exit status of the command, by verdict."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that is not in step, or of which nothing can be told.

    :param kind: last part of the resource's type
    :param name: its name in the program; with a field, where one is meant
    :param why: in what way
    :param wanted: what the site file wants
    :param found: what is there
    :param urn: of the resource, where a look is at one of the state's
    """

    verdict: Verdict
    kind: str
    name: str
    why: str
    field: str = ""
    wanted: str = ""
    found: str = ""
    urn: str = ""

    def document(self) -> dict[str, str]:
        """The finding for programs."""
        return {
            "verdict": str(self.verdict),
            "kind": self.kind,
            "name": self.name,
            "why": self.why,
            "field": self.field,
            "wanted": self.wanted,
            "found": self.found,
        }


def verdict(findings: Iterable[Finding]) -> Verdict:
    """What is known of all: drift that is seen outweighs what cannot be seen."""
    seen = {finding.verdict for finding in findings}
    return next((each for each in (Verdict.DRIFTED, Verdict.UNKNOWN) if each in seen), Verdict.IN_STEP)


def judged(plan: Plan) -> list[Finding]:
    """Judge the engine's look at the clouds."""
    return [*(finding for step in plan.changes() for finding in _judged(step, plan)), *_untold(plan)]


def beside(known: Iterable[Finding], more: Iterable[Finding]) -> list[Finding]:
    """What a further look adds to what is known already: the provider reads back some of it, some of the time."""
    told = {(finding.kind, finding.name, finding.field) for finding in known}
    return [finding for finding in more if (finding.kind, finding.name, finding.field) not in told]


def _judged(step: Step, plan: Plan) -> Iterator[Finding]:
    why = _why(step, plan)
    differences = step.differences() if step.op in ("update", "replace") else []
    for field, found, wanted in differences or [("", "", "")]:
        yield Finding(
            verdict=Verdict.DRIFTED,
            kind=step.kind,
            name=step.name,
            why=why,
            field=_QUOTED.sub(r".\1", field),
            wanted=_text(wanted) if field else "",
            found=_text(found) if field else "",
        )


def _why(step: Step, plan: Plan) -> str:
    before, now = plan.found.get(step.urn, (None, None))
    if before is not None and now is None:
        return "gone from the cloud"
    if step.op in ("create", "import"):
        return "not made yet"
    if step.op == "delete":
        return "no longer in the site file"
    if before is not None and now is not None and (before.outputs, before.inputs) != (now.outputs, now.inputs):
        return "changed in the cloud"
    return "not applied yet"


def _untold(plan: Plan) -> Iterator[Finding]:
    for urn, text in plan.errors:
        place = urn.split("::", 3)
        told = len(place) > 3 and "pulumi:pulumi:" not in place[2]
        yield Finding(
            verdict=Verdict.UNKNOWN,
            kind=place[2].rpartition(":")[2] if told else "",
            name=place[3] if told else "what was not looked at",
            why=str(explained(text)),
        )


def _text(value: Any) -> str:
    if value is None:
        return MISSING
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)


def unsealed(value: Any) -> Any:
    """A value of a state that was exported with its secrets, without their marks."""
    if isinstance(value, Mapping) and SEALED in value:
        return json.loads(value["plaintext"]) if "plaintext" in value else HIDDEN
    return value
