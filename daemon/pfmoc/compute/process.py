"""Plugins as processes: for machines with no container engine at all.

A run is an argv in a session of its own under a small supervisor (``shim``), which outlives the daemon; never a shell. What the
two tell each other is in the run's directory (``rundir``). Nothing is polled: the end of a run is the end of its supervisor, for
which the kernel has a descriptor (pidfd).

What a container gives and this does not: a root file system (the plugin sees this machine's), a network of its own, and a
read-only input directory. Use it for your own plugins, not for strangers'. Where the daemon may make a memory cgroup, the memory
limit holds for the run as a whole and exceeding it is told as ``OOMKilled``; elsewhere it holds for each process (RLIMIT_DATA),
which sees its allocation fail. CPUs are handed out whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import secrets
import shlex
import signal
import stat
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from pfmoc import durable
from pfmoc.compute import rundir, shim
from pfmoc.compute.base import INCOMING, OUTGOING, Compute, Limits, Observation, Run
from pfmoc.compute.images import ProcessImage, find_image
from pfmoc.compute.limits import bounds_of, check_limits
from pfmoc.compute.process_status import SUPERVISOR_KILLED, observe
from pfmoc.compute.supervisor import MARK, TERM_GRACE_S, NotStarted, Supervisor, kill_leftovers, look_for, reap
from pfmoc.compute.tasks import to_the_end
from pfmoc.compute.text import LOG_BYTES, Tail
from pfmoc.errors import ComputeRefused, ComputeUnavailable
from pfmoc.locks import KeyedLocks
from pfmoc.settings import MIB, Settings, SettingsError

_log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(slots=True)
class _Live:
    """A run whose supervisor is alive."""

    pidfd: int
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    removing: bool = False


class ProcessCompute(Compute):
    """See the module.

    :param settings: the daemon's
    :param cgroups: False does without cgroups even where they can be had
    :raises SettingsError: CONTAINER_USER asks for another user, which only root can become
    """

    env = "process"
    volume_type = "host"

    def __init__(self, settings: Settings, *, cgroups: bool = True) -> None:
        user = settings.container_user
        self._other_users = bool(user.uid or user.gid)
        if self._other_users and os.geteuid() != 0:
            raise SettingsError(
                ["CONTAINER_USER: only root can start processes as another user; run the daemon as root, or unset it"]
            )
        self._settings = settings
        self._cgroups = cgroups
        self._runs = settings.state_dir / "runs"
        self._bounds = bounds_of(settings)
        self._live: dict[str, _Live] = {}
        self._cpus_of: dict[str, Sequence[int]] = {}
        self._gpus_of: dict[str, Sequence[int]] = {}
        self._locks = KeyedLocks()
        self._tasks: set[asyncio.Task[None]] = set()
        self._watchers: set[asyncio.Queue[Observation | None]] = set()

    async def __aenter__(self) -> Self:
        for name in await self._work(self._sweep):
            await self._find(name)
            if await self._observe(name) is None:
                await self._work(rundir.discard, self._directory(name))
            elif name not in self._live:
                self._spawn(self._after_end(name))
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for live in self._live.values():
            asyncio.get_running_loop().remove_reader(live.pidfd)
            os.close(live.pidfd)
        self._live.clear()
        for watcher in self._watchers:
            watcher.put_nowait(None)
        if self._tasks:
            await asyncio.wait(self._tasks)

    def check(self, image: str, limits: Limits) -> None:
        """Reject limits out of bounds, and images that are not there: none can be fetched."""
        check_limits(limits, self._bounds)
        find_image(self._settings.process_images, image)

    async def probe(self) -> None:
        """Prove that a run's documents could be written."""
        await self._work(durable.write_json, self._runs / ".probe", {"probed": rundir.now()})

    async def start(self, run: Run) -> Observation:
        """Start a run; returns once the plugin really executes."""
        return await to_the_end(self._start(run))

    async def _start(self, run: Run) -> Observation:
        self.check(run.image, run.limits)
        image = find_image(self._settings.process_images, run.image)
        program = image.program(run.argv)
        async with self._locks.hold(run.name):
            await self._find(run.name)
            if seen := await self._observe(run.name):
                return seen
            self._claim(run)
            try:
                pidfd = await self._work(self._launch, run, image, program)
            except BaseException:
                self._release(run.name)
                raise
            self._follow(run.name, pidfd)
            seen = await self._observe(run.name)
            if seen is None:
                raise ComputeUnavailable(f"the directory of run {run.name} has vanished")
            self._publish(seen)
            return seen

    async def inspect(self, name: str) -> Observation | None:
        """Observe one run, from its directory."""
        return await self._observe(name)

    async def runs(self) -> Sequence[Observation]:
        """Observe every run that has a directory."""
        return await self._work(lambda: [seen for name in self._names() if (seen := observe(self._runs / name))])

    async def logs(self, name: str, *, tail: int) -> str:
        """Return the end of a run's log."""
        return await self._work(_read_logs, self._directory(name), tail)

    async def remove(self, name: str) -> None:
        """Kill a run with all its descendants, and remove its directory."""
        directory = self._directory(name)
        async with self._locks.hold(name):
            await self._find(name)
            await self._end(name)
            await self._work(kill_leftovers, directory, self._settings.engine_deadline_s)
            await self._work(rundir.discard, directory)
            self._release(name)

    async def watch(self) -> AsyncIterator[Observation]:
        """Yield every run as it is, and then what changes."""
        watcher: asyncio.Queue[Observation | None] = asyncio.Queue()
        self._watchers.add(watcher)
        try:
            for seen in await self.runs():
                yield seen
            while (change := await watcher.get()) is not None:
                yield change
        finally:
            self._watchers.discard(watcher)

    # Following runs to their end.

    async def _find(self, name: str) -> None:
        """Follow a run that an earlier daemon has started."""
        if name in self._live:
            return
        found = await self._work(look_for, self._directory(name), self._settings.engine_deadline_s)
        if found is not None:
            pidfd, document = found
            self._cpus_of[name], self._gpus_of[name] = document["cpus"], document["gpus"]
            self._follow(name, pidfd)

    def _follow(self, name: str, pidfd: int) -> None:
        self._live[name] = _Live(pidfd)
        asyncio.get_running_loop().add_reader(pidfd, self._on_end, name)

    def _on_end(self, name: str) -> None:
        live = self._live.pop(name)
        asyncio.get_running_loop().remove_reader(live.pidfd)
        reap(live.pidfd)
        live.ended.set()
        self._release(name)
        if not live.removing:
            self._spawn(self._after_end(name))

    async def _after_end(self, name: str) -> None:
        """Kill what a killed supervisor has left behind, and tell the watchers."""
        seen = await self._observe(name)
        if seen is None:
            return
        if seen.message == SUPERVISOR_KILLED:
            await self._work(kill_leftovers, self._directory(name), self._settings.engine_deadline_s)
        self._publish(seen)

    async def _end(self, name: str) -> None:
        """End a run: ask its supervisor, then kill it."""
        live = self._live.get(name)
        if live is None:
            return
        live.removing = True
        for grace, signals in (
            # A supervisor that someone has stopped acts on nothing before it is continued.
            (TERM_GRACE_S, (signal.SIGTERM, signal.SIGCONT)),
            (self._settings.engine_deadline_s, (signal.SIGKILL,)),
        ):
            for number in signals:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(live.pidfd, number)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace):
                    await live.ended.wait()
                return
        live.removing = False
        raise ComputeUnavailable(f"run {name} cannot be killed: the kernel holds a process of it")

    def _publish(self, seen: Observation) -> None:
        for watcher in self._watchers:
            watcher.put_nowait(seen)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("the end of a run could not be dealt with", exc_info=error)

    # What a run gets of the machine.

    def _claim(self, run: Run) -> None:
        cpus = sorted(os.sched_getaffinity(0))
        wanted = 0 if self._settings.ignore_limits else -(-run.limits.cpu_millicores // 1000)
        self._cpus_of[run.name] = _least_used(cpus, self._cpus_of.values(), wanted)
        self._gpus_of[run.name] = _least_used(range(self._bounds.gpus), self._gpus_of.values(), run.limits.gpus)

    def _release(self, name: str) -> None:
        self._cpus_of.pop(name, None)
        self._gpus_of.pop(name, None)

    # Work off the event loop.

    async def _work(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await asyncio.to_thread(function, *args, **kwargs)
        except OSError as error:
            raise ComputeUnavailable(f"the directory of runs cannot be used: {error.strerror}") from error

    async def _observe(self, name: str) -> Observation | None:
        return await self._work(observe, self._directory(name))

    def _directory(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not an engine name")
        return self._runs / name

    def _names(self) -> list[str]:
        return sorted(path.name for path in self._runs.iterdir() if _NAME.fullmatch(path.name))

    def _sweep(self) -> list[str]:
        """Remove what a daemon that was killed has left half-removed; returns the names of runs that did not end in order."""
        self._runs.mkdir(parents=True, exist_ok=True)
        self._runs.chmod(0o711 if self._other_users else 0o700)
        if self._other_users:
            self._runs.parent.chmod(stat.S_IMODE(self._runs.parent.stat().st_mode) | 0o011)
        for path in self._runs.iterdir():
            if not _NAME.fullmatch(path.name):
                rundir.remove_tree(path) if path.is_dir() else path.unlink()
        return [name for name in self._names() if not (self._runs / name / rundir.ENDED).exists()]

    def _launch(self, run: Run, image: ProcessImage, program: Path) -> int:
        """Make the run's directory and start its supervisor; returns the descriptor that stands for it.

        :raises ComputeRefused: the plugin cannot be executed
        """
        directory = self._directory(run.name)
        uid, gid = self._settings.container_user.draw()
        rundir.discard(directory)
        try:
            self._make_directory(directory, run, uid=uid, gid=gid)
            with contextlib.closing(Supervisor.spawn(directory, deadline=self._settings.engine_deadline_s)) as supervisor:
                supervisor.order(self._order(run, image, program, uid=uid, gid=gid))
                return supervisor.detach()
        except NotStarted as refused:
            rundir.discard(directory)
            raise ComputeRefused(f"{run.image}: {run.argv[0]}: {refused}", engine_status=400) from None
        except BaseException:
            kill_leftovers(directory, self._settings.engine_deadline_s)
            rundir.discard(directory)
            raise

    def _make_directory(self, directory: Path, run: Run, *, uid: int | None, gid: int | None) -> None:
        # Another user must be able to pass through to ``tmp``, and cannot read or list anything on the way.
        directory.mkdir(mode=0o700)
        if self._other_users:
            directory.chmod(0o711)  # not left to mkdir: the daemon's umask is stricter
        tmp = directory / rundir.TMP
        tmp.mkdir(mode=0o700)
        if self._other_users:
            os.chown(tmp, -1 if uid is None else uid, -1 if gid is None else gid)
        durable.write_json(
            directory / rundir.RUN,
            {
                "jid": run.jid,
                "image": run.image,
                "cmd": shlex.join(run.argv),
                "labels": dict(self._settings.job_labels),
                "created": rundir.now(),
                "mark": secrets.token_hex(16),
                "cpus": self._cpus_of[run.name],
                "gpus": self._gpus_of[run.name],
            },
        )

    def _order(self, run: Run, image: ProcessImage, program: Path, *, uid: int | None, gid: int | None) -> shim.Order:
        directory = self._directory(run.name)
        mark = (rundir.read_document(directory / rundir.RUN) or {})["mark"]
        limited = not self._settings.ignore_limits
        return {
            "program": str(program),
            "argv": [str(program), *real_arguments(run)],
            "env": self._environment(run, image, tmp=directory / rundir.TMP, mark=mark),
            "memory_bytes": run.limits.memory_mib * MIB if limited else None,
            "cpus": self._cpus_of[run.name],
            "uid": uid,
            "gid": gid,
            "cgroup": mark if self._cgroups else None,
        }

    def _environment(self, run: Run, image: ProcessImage, *, tmp: Path, mark: str) -> dict[str, str]:
        """All that the plugin sees; nothing of the daemon's own environment, which holds its secrets."""
        env = {"PATH": f"{image.bin}:{SYSTEM_PATH}", "HOME": str(tmp), "TMPDIR": str(tmp), "LANG": "C.UTF-8"}
        if self._bounds.gpus:
            env["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, self._gpus_of[run.name]))
        env |= run.env
        if self._settings.home_workaround:
            env["HOME"] = "/tmp"  # noqa: S108 - what the setting says
        env[MARK] = mark
        return env


def real_arguments(run: Run) -> list[str]:
    """The arguments after the program, with the real directories in place of the two that the plugin is told of.

    They are replaced where an argument is such a path, lies below it, or is ``--flag=`` and such a path; nowhere within text.
    """
    return [_real(argument, run) for argument in run.argv[1:]]


def _real(argument: str, run: Run) -> str:
    flag, equals, value = argument.partition("=") if argument.startswith("-") else ("", "", argument)
    for told, real in ((INCOMING, run.mounts.incoming), (OUTGOING, run.mounts.outgoing)):
        if value == told or value.startswith(f"{told}/"):
            return f"{flag}{equals}{real}{value.removeprefix(told)}"
    return argument


def _least_used(items: Iterable[int], used: Iterable[Sequence[int]], count: int) -> list[int]:
    """``count`` of the items, or all when there are fewer: those that others use least."""
    uses = Counter(item for group in used for item in group)
    return sorted(sorted(items, key=lambda item: (uses[item], item))[:count])


def _read_logs(directory: Path, tail: int) -> str:
    kept = Tail()
    # The older part first, and of both only as much as can be shown.
    for name in (rundir.OLDER_LOG, rundir.LOG):
        with contextlib.suppress(FileNotFoundError), (directory / name).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_BYTES))
            kept.feed(file.read(LOG_BYTES))
    return kept.lines(tail)
