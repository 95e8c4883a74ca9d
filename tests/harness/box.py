"""The box of this machine, made by `make box`, as tests use it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.locks import locked
from harness.waiting import until

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("PFMOC_CACHE") or Path.home() / ".cache" / "pfmoc")
PORT_BASE = int(os.environ.get("PORT_BASE") or 27350)
MAKE_S = 3600
"""The toolchain may have to be built first."""
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "gw0")
"""Of xdist, this process."""
BACK_S = 120.0
"""For a service that was killed, on a machine that has other work too."""
_MAKING = frozenset({"box", "images", "up"})
"""Targets that make what the workers' boxes share: one after the other."""
_PORTS = 100
"""From the first port of one worker's box to that of the next."""


@dataclass(frozen=True, kw_only=True)
class Box:
    """One instance.

    :param cache: what the kit makes lies below it
    :param port_base: the first of its ports on 127.0.0.1
    :param profile: `full`, or `openstack`, which needs no root
    """

    cache: Path
    port_base: int
    profile: str

    @property
    def directory(self) -> Path:
        return self.cache / "box"

    @property
    def toolchain(self) -> Path:
        return self.cache / "toolchain"

    @property
    def clouds_yaml(self) -> Path:
        return self.directory / "clouds.yaml"

    @property
    def kubeconfig(self) -> Path:
        """Of the administrator. Asking for it skips a test where the box has no Kubernetes."""
        if self.profile != "full":
            pytest.skip("the box of this machine is OpenStack alone: Kubernetes needs root")
        return self.directory / "kubeconfig"

    @property
    def environment(self) -> dict[str, str]:
        """What env.sh sets, for clients, beside what this process has."""
        lines = subprocess.run(
            ["bash", "-c", f". '{self.directory}/env.sh' && env -0"], env=self.own, capture_output=True, text=True, check=True
        ).stdout
        return dict(line.split("=", 1) for line in lines.split("\0") if line)

    @property
    def own(self) -> dict[str, str]:
        """The environment in which `make` means this box; nothing of a `make` that runs the tests."""
        outer = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "ANSIBLE_", "MFLAGS"))}
        outer.setdefault("UV_CACHE_DIR", str(CACHE / "uv-cache"))
        return outer | {"PFMOC_CACHE": str(self.cache), "PORT_BASE": str(self.port_base), "PROFILE": self.profile}

    def port(self, offset: int) -> int:
        """A port on the host, by its place: 0 Keystone ... 9 objects, 10 Kubernetes, 11 and 12 routes."""
        return self.port_base + offset

    @property
    def is_extra(self) -> bool:
        """True for one that only a worker of xdist has, and that goes with it."""
        return self.cache != CACHE

    def prepare(self) -> None:
        """Give an extra box what it shares with the first."""
        self.cache.mkdir(parents=True, exist_ok=True)
        for name in ("toolchain", "openstack", "plugins"):
            (CACHE / name).mkdir(exist_ok=True)
            with suppress(FileExistsError):
                (self.cache / name).symlink_to(CACHE / name)

    def remove(self) -> None:
        """`make box-clean`, and nothing is left of its cache."""
        self.make("box-clean")
        shutil.rmtree(self.cache)

    def make(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run `make`, silently but for what the target prints."""
        with locked(CACHE / ".making") if words[0] in _MAKING else nullcontext():
            return subprocess.run(
                ["make", "-s", *words], cwd=ROOT, env=self.own | more, capture_output=True, text=True, timeout=MAKE_S, check=False
            )

    def up(self) -> str:
        """`make box`; return what it printed."""
        made = self.make("box")
        assert made.returncode == 0, made.stdout + made.stderr
        return made.stdout

    def down(self) -> str:
        """`make box-down`; return what it printed."""
        ended = self.make("box-down")
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    def images(self) -> None:
        """`make images`: the runtime of its cluster has the images of the daemon and of the plugins."""
        made = self.make("images", "SITE=box")
        assert made.returncode == 0, made.stdout + made.stderr

    def status(self) -> Mapping[str, Mapping[str, Any]]:
        """The rows of `make box-status JSON=1`, by service."""
        return {row["service"]: row for row in json.loads(self.make("box-status", "JSON=1").stdout or "[]")}

    def pid(self, service: str) -> int:
        """The process of a service; 0 while there is none."""
        return int(self.status()[service]["pid"] or 0)

    def living(self, service: str) -> int:
        """The process of a service, once there is one: a signal to 0 is one to the tests themselves."""
        return until(lambda: self.pid(service), what=f"a process of {service}", deadline_s=BACK_S)

    def kill(self, service: str) -> None:
        """End a service as a crash would, and wait until it is back, as another process, and healthy."""
        before = self.living(service)
        os.kill(before, signal.SIGKILL)

        def back() -> bool:
            row = self.status()[service]
            return row["pid"] not in (None, 0, before) and row["health"] == "healthy"

        until(back, what=f"{service} to come back", deadline_s=BACK_S)

    @contextmanager
    def frozen(self, service: str, process: int = 0) -> Iterator[None]:
        """Have a service do nothing for the length of a block, as if its machine hung.

        :param process: its own, where that was looked for before: it takes longer than a short job
        """
        process = process or self.living(service)
        os.kill(process, signal.SIGSTOP)
        try:
            yield
        finally:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)

    def unhealthy(self) -> list[str]:
        """What is not as it should be, in words; a box without services is not either."""
        rows = self.status()
        return (
            [f"{name} {row['health']}" for name, row in rows.items() if row["health"] != "healthy"] if rows else ["no services"]
        )


def own_box() -> Box:
    """The one that the environment names, in the profile that this user can have. Each further worker of xdist has another.

    Its cache lies in the first one's, of which it takes what is content-addressed: toolchain, OpenStack's environment, layers.
    """
    number = int(WORKER.removeprefix("gw"))
    return Box(
        cache=CACHE / WORKER if number else CACHE,
        port_base=PORT_BASE + number * _PORTS,
        profile=os.environ.get("PROFILE") or ("full" if os.getuid() == 0 else "openstack"),
    )
