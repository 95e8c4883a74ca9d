"""A compute environment on its own, with directories and an image for its runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

from harness.podman import IMAGE, TOOLS
from harness.waiting import eventually
from pfmoc.compute.base import INCOMING, OUTGOING, Compute, Limits, Observation, Run
from pfmoc.data import Mounts
from pfmoc.settings import Settings, load

Environment = Callable[[], AbstractAsyncContextManager[Compute]]


@dataclass(kw_only=True)
class Lab:
    """An environment, and directories for its runs.

    :param open: a daemon's hold on the environment; to be opened again and again, as daemons come and go
    """

    storebase: Path
    open: Environment

    @property
    def incoming(self) -> Path:
        return self.storebase / "in"

    @property
    def outgoing(self) -> Path:
        return self.storebase / "out"

    def run(self, script: str = "true", *, name: str = "job", **changes: object) -> Run:
        """A run of a shell script, to which $1 is the input directory and $2 the output directory."""
        run: dict[str, object] = {
            "name": name,
            "jid": name,
            "image": IMAGE,
            "argv": ["sh", "-c", script, "sh", INCOMING, OUTGOING],
            "data": Mounts(incoming=self.incoming, outgoing=self.outgoing),
            "limits": Limits(cpu_millicores=1000, memory_mib=64),
        }
        return Run(**(run | changes))  # type: ignore[arg-type]  # the dictionary has the types of the fields

    async def clear(self) -> None:
        """Remove every run."""
        async with self.open() as compute:
            for seen in await compute.runs():
                await compute.remove(seen.name)


def settings_for(storebase: Path, **environ: str) -> Settings:
    """Settings of a daemon whose whole world is below ``storebase``."""
    return load(
        {
            "APPLICATION_MODE": "development",
            "STOREBASE_MOUNT": str(storebase),
            "PFMOC_STATE_DIR": str(storebase / "state"),
            "PFMOC_ENGINE_DEADLINE_S": "20",
            **environ,
        }
    )


def make_directories(storebase: Path) -> Path:
    for name in ("in", "out", "state"):
        (storebase / name).mkdir()
    return storebase


def install_tools(images: Path, tools: Sequence[str] = TOOLS) -> None:
    """Make the process environment's image of the same tools that the container image has."""
    programs = images / "localhost/test/tools/1/bin"
    programs.mkdir(parents=True)
    for tool in tools:
        found = shutil.which(tool)
        assert found is not None
        (programs / tool).symlink_to(found)


async def ended(compute: Compute, name: str = "job") -> Observation:
    """Wait until a run has ended, and return what is observed of it."""

    async def ask() -> Observation | None:
        seen = await compute.inspect(name)
        assert seen is not None
        return seen if seen.state.ended else None

    seen = await eventually(ask)
    assert seen is not None
    return seen
