"""What is remembered of a key beside its jobs.

A push is on record as a copy job, a run as a plugin job. What these cannot tell is kept here, one small JSON file for each key
below the state directory: how far a ``coordinate`` has come, and when somebody fetched the output.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from pfmoc.durable import read_json, write_json
from pfmoc.errors import StorageUnavailable
from pfmoc.jobs.model import PluginSpec
from pfmoc.jobs.names import engine_name
from pfmoc.locks import KeyedLocks

P = ParamSpec("P")
T = TypeVar("T")


class Step(StrEnum):
    """How far a ``coordinate`` has come."""

    NONE = ""
    PUSH = "push"
    COMPUTE = "compute"
    PULL = "pull"
    DONE = "done"


class Errand(BaseModel):
    """What a ``coordinate`` asks for."""

    model_config = ConfigDict(frozen=True)

    key: str
    spec: PluginSpec
    source: str | None = None
    """Where the input is, relative to the storeBase; None for what was pushed under the key, if anything was."""
    target: str | None = None
    """Where the output is to go, relative to the storeBase; None leaves it for a pull."""
    make_target: bool = False
    """Make the target when it is not there."""
    cleanup: bool = False
    """Remove what is under the key once the output is in the target."""
    service: str = ""
    """Another compute resource, on which the job is to run; empty for this one."""


class Outcome(BaseModel):
    """How a job on another compute resource ended."""

    model_config = ConfigDict(frozen=True)

    status: str
    """In that resource's word."""
    message: str = ""
    log: str = ""


class Trail(BaseModel):
    """What is kept for a key."""

    model_config = ConfigDict(frozen=True)

    key: str
    step: Step = Step.NONE
    errand: Errand | None = None
    """While it goes on: a daemon that starts anew takes it up again."""
    failed: dict[Step, str] = {}
    """Where it came to nothing, and why."""
    outcome: Outcome | None = None
    """Of a job that ran elsewhere, and so is not on record here."""
    files: int | None = None
    """Files that were put into the target; None before that."""
    pulled: str = ""
    """When the output was fetched."""


class Trails:
    """The trails on disk.

    :param state_dir: the daemon's
    """

    def __init__(self, state_dir: Path) -> None:
        self._directory = state_dir / "trails"
        self._locks = KeyedLocks()

    async def get(self, key: str) -> Trail:
        """Return what is kept for a key; an empty trail when that is nothing."""
        return _trail(key, await _work(read_json, self._path(key)))

    async def put(self, trail: Trail) -> None:
        """Keep it, in place of what was kept before."""
        async with self._locks.hold(trail.key):
            await _work(self._write, trail)

    async def change(self, key: str, **values: object) -> None:
        """Change some of what is kept."""
        async with self._locks.hold(key):
            await _work(self._write, (await self.get(key)).model_copy(update=values))

    async def errands(self) -> list[Errand]:
        """Return every errand that was not brought to its end."""

        def read() -> list[Errand]:
            documents = []
            with suppress(FileNotFoundError):
                documents = [read_json(path) for path in sorted(self._directory.glob("[!.]*.json"))]
            return [errand for document in documents if (errand := _trail("", document).errand) is not None]

        return await _work(read)

    def _write(self, trail: Trail) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_json(self._path(trail.key), trail.model_dump(mode="json", exclude_defaults=True))

    def _path(self, key: str) -> Path:
        return self._directory / f"{engine_name(key)}.json"


def _trail(key: str, document: dict[str, Any] | None) -> Trail:
    """Read a trail; one that another version wrote, and this one cannot read, is as good as none."""
    with suppress(ValidationError):
        if document is not None:
            return Trail.model_validate(document)
    return Trail(key=key)


async def _work(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    try:
        return await asyncio.to_thread(function, *args, **kwargs)
    except (OSError, ValueError, TypeError) as error:
        raise StorageUnavailable("What is remembered of a key cannot be read or written.") from error
