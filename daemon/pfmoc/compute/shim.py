"""The supervisor of one run in the ``process`` environment: ``python -m pfmoc.compute.shim <rundir>``.

The daemon starts one for each run, in a session of its own, so that the run outlives the daemon. It is to a process what conmon
is to a container: it starts the plugin with its limits, keeps its output, waits for it, kills whatever it left behind, and
writes down how it ended. Standard library only, so that it starts fast and stays small.

Descriptors, from the daemon: 0 the order, 1 the answers, 3 the run's lock. The talk at the start::

    shim:   ready            its pid is in the lock: from now on it can be found and killed
    daemon: {...}            the order (``Order``); the environment comes this way and is never on disk or in an argv
    shim:   started | refused <reason> | failed <reason>

SIGTERM kills the run. A daemon that dies midway leaves either no run or a whole one: an order cut short is not carried out.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn, TypedDict

from pfmoc import durable
from pfmoc.compute import proc, rundir
from pfmoc.compute.cgroup import MemoryCgroup

ORDER_FD: Final = 0
ANSWER_FD: Final = 1
LOCK_FD: Final = 3

LOG_BYTES: Final = 8 << 20
"""Size at which the log is turned over. Two parts are kept, so a plugin that prints without end cannot fill the disk."""

NOFILE_MAX: Final = 65536
NPROC_MAX: Final = 8192
"""The kernel counts all processes of the user, on the whole machine, so this stops a fork bomb and nothing finer."""

PR_SET_PDEATHSIG: Final = 1
PR_SET_CHILD_SUBREAPER: Final = 36
PR_SET_NO_NEW_PRIVS: Final = 38

_CHUNK: Final = 1 << 16


class Order(TypedDict):
    """What the daemon wants to be run."""

    program: str
    argv: list[str]
    env: dict[str, str]
    memory_bytes: int | None
    cpus: Sequence[int]
    """Empty: all."""
    uid: int | None
    gid: int | None
    cgroup: str | None
    """Name of the cgroup to try for; None wants rlimits."""


class Refused(Exception):
    """The plugin cannot be executed."""


class Supervisor:
    """The state of one supervisor: a process with signal handlers has one of them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._group: MemoryCgroup | None = None
        self._told_to_end = False
        self._reaped: dict[int, int] = {}
        # A signal between a look at its flag and the wait would be lost without this pipe.
        self._woken, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._end)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for ignored in (signal.SIGHUP, signal.SIGINT):
            signal.signal(ignored, signal.SIG_IGN)

    def run(self) -> int:
        """Carry out one run, from the order to ``ended.json``; returns the exit status."""
        os.set_inheritable(LOCK_FD, False)  # noqa: FBT003 - the name of the function says what it is
        _prctl(PR_SET_CHILD_SUBREAPER, 1)
        me = proc.process(os.getpid())
        os.pwrite(LOCK_FD, f"{os.getpid()} {me.start_time if me else 0}\n".encode(), 0)
        _answer("ready")
        order = _read_order()
        if order is None or self._told_to_end:
            return 1
        if order["cgroup"]:
            self._group = MemoryCgroup.create(order["cgroup"], limit=order["memory_bytes"])
        try:
            rundir.reserve_ended(self._directory)
            outcome = self._run(order)
            self._remove_group()
            rundir.write_ended(self._directory, {"ended": rundir.now(), **outcome})
        except Refused as refused:
            _answer(f"refused {refused}")
            return 1
        except OSError as error:
            _answer(f"failed {error.strerror}")
            return 1
        finally:
            self._kill_all()
            self._remove_group()
        return 0

    def _run(self, order: Order) -> dict[str, object]:
        plugin, output = self._execute(order)
        with contextlib.closing(_Log(self._directory)) as log:
            durable.write_json(
                self._directory / rundir.STARTED,
                {"started": rundir.now(), "plugin": plugin, "cgroup": str(self._group.path) if self._group else None},
            )
            _answer("started")
            self._wait(plugin, output=output, log=log)
            self._kill_all()
            _drain(output, log=log)
        os.close(output)
        status = os.waitstatus_to_exitcode(self._reaped[plugin])
        return {
            "exit_code": status if status >= 0 else None,
            "signal": -status if status < 0 else None,
            "out_of_memory": self._group is not None and self._group.out_of_memory(),
        }

    def _execute(self, order: Order) -> tuple[int, int]:
        """Start the plugin; returns its pid and the reading end of its output once it really executes."""
        # Both ends of ``word`` close on exec: silence means that the plugin is on its way.
        word_out, word_in = os.pipe2(os.O_CLOEXEC)
        output, output_in = os.pipe2(os.O_CLOEXEC)
        shim = os.getpid()
        plugin = os.fork()
        if plugin == 0:
            _become_plugin(order, directory=self._directory, group=self._group, output=output_in, word=word_in, shim=shim)
        os.close(word_in)
        os.close(output_in)
        with os.fdopen(word_out, "rb") as word:
            reason = word.read().decode(errors="replace")
        if reason:
            os.close(output)
            raise Refused(reason)
        os.set_blocking(output, False)
        return plugin, output

    def _wait(self, plugin: int, *, output: int, log: _Log) -> None:
        """Keep the plugin's output until it ends, or until we are told to end it. Orphans are reaped as they die."""
        poller = select.poll()
        poller.register(self._woken, select.POLLIN)
        poller.register(output, select.POLLIN)
        while plugin not in self._reaped and not self._told_to_end:
            for ready, events in poller.poll():
                if ready == self._woken:
                    os.read(self._woken, _CHUNK)
                    self._reap()
                elif not log.copy(output) and events & select.POLLHUP:
                    poller.unregister(output)  # the plugin has closed its output, and goes on

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while (child := os.waitpid(-1, os.WNOHANG))[0]:
                self._reaped[child[0]] = child[1]

    def _kill_all(self) -> None:
        """Kill every descendant. They all become our children in the end, since we are their subreaper."""
        with contextlib.suppress(ChildProcessError):
            while True:
                proc.kill(proc.descendants(os.getpid()))
                pid, status = os.waitpid(-1, 0)
                self._reaped[pid] = status
                self._reap()

    def _remove_group(self) -> None:
        if self._group is not None:
            self._group.remove()

    def _end(self, _signal: int, _frame: FrameType | None) -> None:
        self._told_to_end = True


class _Log:
    """The run's log: two parts of bounded size. A disk that is full loses output, not the run."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._size = 0
        self._file = self._open()

    def copy(self, source: int) -> bool:
        """Move one chunk from a descriptor; False at its end, or when there is nothing more for now."""
        try:
            chunk = os.read(source, _CHUNK)
        except BlockingIOError:
            return False
        with contextlib.suppress(OSError):
            if self._size + len(chunk) > LOG_BYTES:
                self.close()
                (self._directory / rundir.LOG).replace(self._directory / rundir.OLDER_LOG)
                self._file = self._open()
                self._size = 0
            self._size += os.write(self._file, chunk)
        return bool(chunk)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _open(self) -> int:
        return os.open(self._directory / rundir.LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)


def _drain(output: int, *, log: _Log) -> None:
    while log.copy(output):
        pass


def _read_order() -> Order | None:
    """Read the order to its end; None when the daemon died before it had written all of it."""
    with os.fdopen(ORDER_FD, "rb", closefd=False) as pipe:
        text = pipe.read()
    try:
        order: Order = json.loads(text)
    except ValueError:
        return None
    return order


def _answer(text: str) -> None:
    """Tell the daemon, should it still be there."""
    with contextlib.suppress(OSError):
        os.write(ANSWER_FD, text.replace("\n", " ").encode(errors="replace") + b"\n")


def _become_plugin(order: Order, *, directory: Path, group: MemoryCgroup | None, output: int, word: int, shim: int) -> NoReturn:
    """Turn the child that ``fork`` has made into the plugin, or say which step failed. Each step needs the ones before it."""
    uid, gid, memory, cpus = order["uid"], order["gid"], order["memory_bytes"], order["cpus"]
    steps: Sequence[tuple[str, Callable[[], object]]] = (
        ("begin a session", os.setsid),
        ("join its cgroup", group.join if group else _nothing),
        ("take its cpus", (lambda: os.sched_setaffinity(0, cpus)) if cpus else _nothing),
        ("take its limits", _limit_counts),
        ("take its user", lambda: _take_user(uid=uid, gid=gid)),
        ("give up privileges", lambda: _prctl(PR_SET_NO_NEW_PRIVS, 1)),
        # After the change of user, which would undo it.
        ("be bound to its supervisor", lambda: _die_with(shim)),
        ("enter its working directory", lambda: os.chdir(directory / rundir.TMP)),
        ("take its descriptors", lambda: _take_descriptors(output)),
        ("take its memory limit", (lambda: _limit_memory(memory)) if memory and not group else _nothing),
        ("execute", lambda: os.execve(order["program"], order["argv"], order["env"])),  # noqa: S606 - no shell is the point
    )
    try:
        for name, step in steps:
            try:
                step()
            except OSError as error:
                os.write(word, f"cannot {name}: {error.strerror}".encode())
                break
    except BaseException as error:  # noqa: BLE001 - whatever it is, this copy of the supervisor must not live on
        os.write(word, f"cannot be started: {type(error).__name__}".encode())
    finally:
        os._exit(127)


def _nothing() -> None:
    """A step that is not needed."""


def _limit_counts() -> None:
    """Bound core files, descriptors and processes; never above what we ourselves may have."""
    wanted = [(resource.RLIMIT_CORE, 0), (resource.RLIMIT_NOFILE, NOFILE_MAX), (resource.RLIMIT_NPROC, NPROC_MAX)]
    for which, most in wanted:
        _limit(which, most)


def _limit_memory(memory: int) -> None:
    """Bound private writable memory. Not the address space: numpy and threads reserve far more of that than they ever use."""
    _limit(resource.RLIMIT_DATA, memory)


def _limit(which: int, most: int) -> None:
    hard = resource.getrlimit(which)[1]
    bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(which, (bound, bound))


def _take_user(*, uid: int | None, gid: int | None) -> None:
    """Become the user. One without a group gets that of its own number, never root's."""
    if uid is None and gid is None:
        return
    group = gid if gid is not None else uid
    if group is not None:
        os.setgroups([group])
        os.setgid(group)
    if uid is not None:
        os.setuid(uid)


def _die_with(shim: int) -> None:
    """Have the kernel kill us when the supervisor dies; if it already has, die now."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != shim:
        os._exit(127)


def _take_descriptors(output: int) -> None:
    """Standard input from nowhere, output into the log; default signals. All other descriptors close on exec."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(nothing)
    os.umask(0o022)
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    # Whatever the daemon's libraries left open must not reach the plugin.
    os.closerange(LOCK_FD + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    sys.exit(Supervisor(Path(sys.argv[1])).run())
