"""What the engine means to do, read from its events."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from infra.failures import diagnostics

Event = Mapping[str, Any]

CREATES = frozenset({"create", "import"})
DELETES = frozenset({"delete", "delete-replaced", "replace"})
"""Operations after which a resource, or the one of today, is gone."""
CHANGES = frozenset({*CREATES, *DELETES, "update", "create-replacement", "import-replacement"})
NO_RESOURCES = ("pulumi:pulumi:", "pulumi:providers:", "pfmoc:")
"""Types that stand for nothing in a cloud."""


@dataclass(frozen=True, kw_only=True)
class State:
    """A resource as the engine knows it."""

    id: str = ""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    outputs: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, document: Mapping[str, Any] | None) -> State | None:
        """Read it from an event, or from the state."""
        if document is None:
            return None
        return cls(id=document.get("id") or "", inputs=document.get("inputs") or {}, outputs=document.get("outputs") or {})


@dataclass(frozen=True, kw_only=True)
class Step:
    """What is meant to happen to a resource.

    :param op: the engine's word for it
    :param old: the resource as the state has it, or as it was found; None when it is new
    :param new: as it is to be; None when it goes
    :param paths: fields that change, as the provider tells them
    """

    op: str
    urn: str
    old: State | None
    new: State | None
    paths: tuple[str, ...] = ()

    @property
    def type(self) -> str:
        """The resource's type, without those of its parents."""
        return self.urn.split("::")[2].rpartition("$")[2]

    @property
    def kind(self) -> str:
        """The last part of the type: Project, QuotaSetV2."""
        return self.type.rpartition(":")[2]

    @property
    def name(self) -> str:
        """The name in the program."""
        return self.urn.split("::", 3)[3]

    @property
    def real(self) -> bool:
        """True when it stands for something in a cloud."""
        return not self.type.startswith(NO_RESOURCES)

    @property
    def state(self) -> State:
        """The resource as it is today; as it is to be when it is new."""
        return self.old or self.new or State()

    def differences(self) -> list[tuple[str, Any, Any]]:
        """Fields that change: the path, what is there, what is wanted."""
        if self.old is None or self.new is None:
            return []
        paths = self.paths or tuple(
            key for key in sorted(self.new.inputs) if self.new.inputs[key] != self._present((key,)) and not key.startswith("__")
        )
        found = []
        for path in paths:
            keys = tuple(parts(path))
            found.append((path, self._present(keys), _at(self.new.inputs, keys)))
        return found

    def _present(self, keys: tuple[str, ...]) -> Any:
        if self.old is None:
            return None
        read = _at(self.old.outputs, keys)
        return read if read is not None else _at(self.old.inputs, keys)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All of it.

    :param steps: in order, each resource with each of its operations
    :param found: what a look at the clouds found, by URN: before, and now (None: gone)
    :param errors: what could not be told: a URN or nothing, and why
    """

    steps: tuple[Step, ...]
    found: Mapping[str, tuple[State | None, State | None]]
    errors: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, events: Iterable[Event]) -> Plan:
        """Read the events of a preview."""
        all_of_them = list(events)
        return cls(
            steps=tuple(_steps(all_of_them)),
            found={urn: states for urn, states in _found(all_of_them) if states[0] is not None},
            errors=tuple(diagnostics(all_of_them)),
        )

    @property
    def looked_at(self) -> int:
        """How many resources of the clouds were looked at."""
        return sum(not urn.split("::")[2].rpartition("$")[2].startswith(NO_RESOURCES) for urn in self.found)

    def moved(self, kind: str) -> bool:
        """True when a look at the clouds found a resource of a type otherwise than the state has it, its address for one."""
        return any(
            before is None or now is None or before.outputs != now.outputs
            for urn, (before, now) in self.found.items()
            if urn.split("::")[2].rpartition("$")[2] == kind
        )

    def changes(self) -> Iterator[Step]:
        """What happens to a cloud, each resource once: a replacement is one change and not three."""
        seen: set[str] = set()
        for step in self.steps:
            if step.real and step.op in CHANGES and step.urn not in seen:
                seen.add(step.urn)
                replaced = step.op in ("create-replacement", "delete-replaced", "replace")
                yield Step(op="replace", urn=step.urn, old=step.old, new=step.new, paths=step.paths) if replaced else step


def _steps(events: Iterable[Event]) -> Iterator[Step]:
    for event in events:
        metadata = event.get("resourcePreEvent", {}).get("metadata")
        if metadata and metadata["op"] != "refresh":
            yield Step(
                op=metadata["op"],
                urn=metadata["urn"],
                old=State.of(metadata.get("old")),
                new=State.of(metadata.get("new")),
                paths=tuple(metadata.get("detailedDiff") or metadata.get("diffs") or ()),
            )


def _found(events: Iterable[Event]) -> Iterator[tuple[str, tuple[State | None, State | None]]]:
    for event in events:
        metadata = event.get("resOutputsEvent", {}).get("metadata")
        if metadata and metadata["op"] == "refresh":
            yield metadata["urn"], (State.of(metadata.get("old")), State.of(metadata.get("new")))


_PART = re.compile(r'\["((?:[^"\\]|\\.)*)"\]|\[(\d+)\]|\.?([^.\[\]]+)')


def parts(path: str) -> Iterator[str]:
    """The keys of a path in the engine's notation: ``spec.hard["limits.cpu"]``, ``rules[0].verbs``."""
    for quoted, index, plain in _PART.findall(path):
        yield quoted or index or plain


def _at(value: Any, keys: Iterable[str]) -> Any:
    for key in keys:
        if isinstance(value, Mapping):
            value = value.get(key)
        elif isinstance(value, list) and key.isdigit() and int(key) < len(value):
            value = value[int(key)]
        else:
            return None
    return value
