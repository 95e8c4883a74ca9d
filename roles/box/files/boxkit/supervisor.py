"""The supervisor: its configuration, and orders to it."""

from __future__ import annotations

import contextlib
import http.client
import shlex
import socket
import time
import xmlrpc.client
from collections.abc import Sequence
from typing import Any

from boxkit.layout import MARK, Layout
from boxkit.service import Service

START_S = 20.0
LOG_BYTES = 10 << 20
ALREADY = 60
"""supervisord's fault "already started", as an order may be late."""
NOT_RUNNING = 70
"""supervisord's fault of the same kind for an end."""

_WAIT = False
"""The orders return at once, so that many things happen together."""


class SupervisorError(Exception):
    """The supervisor does not do as it is told; the text is for people."""


def configuration(layout: Layout, user: int) -> str:
    """The configuration of the supervisor itself.

    :param user: who it runs as; naming root keeps supervisord from complaining about it
    """
    return f"""\
[unix_http_server]
file={_escaped(layout.socket)}
chmod=0700

[supervisord]
nodaemon=true
silent=true
user={user}
logfile={_escaped(layout.log / "supervisord.log")}
logfile_maxbytes={LOG_BYTES}
logfile_backups=1
pidfile={_escaped(layout.run / "supervisord.pid")}
childlogdir={_escaped(layout.log)}
identifier=box

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface

[include]
files={_escaped(layout.groups)}/*.conf
"""


def sections(layout: Layout, services: Sequence[Service], fingerprints: dict[str, str]) -> str:
    """The supervisor's configuration of services.

    It takes any start for a success (``startsecs``) and starts again at once: to start later each time is the wrapper's part.
    """
    return "\n".join(
        f"""\
[program:{service.name}]
command={_escaped(shlex.join([str(layout.python), "-ES", str(layout.programs / "enter.py"), str(layout.root), service.name]))}
environment={MARK}="{_escaped(layout.root)}",PFMOC_FINGERPRINT="{fingerprints[service.name]}"
directory={_escaped(layout.run)}
autorestart=true
startsecs=0
startretries=1000000
stopsignal={service.stop_signal}
stopwaitsecs={service.stop_seconds}
killasgroup=true
redirect_stderr=true
stdout_logfile={_escaped(layout.log_of(service.name))}
stdout_logfile_maxbytes={LOG_BYTES}
stdout_logfile_backups=2
"""
        for service in services
    )


def _escaped(value: object) -> str:
    return str(value).replace("%", "%%")


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket in the file system."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class _Transport(xmlrpc.client.Transport):
    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:  # noqa: ARG002 - the one host is the socket
        """Connect anew for each call; they are few."""
        return _Connection(self._path)


class Supervisor:
    """The running supervisor of a box."""

    def __init__(self, layout: Layout) -> None:
        self._rpc: Any = xmlrpc.client.ServerProxy("http://localhost", transport=_Transport(str(layout.socket))).supervisor
        self._layout = layout

    def answers(self) -> bool:
        """True if it runs and takes orders."""
        try:
            return bool(self._rpc.getState()["statename"] == "RUNNING")
        except (OSError, http.client.HTTPException, xmlrpc.client.Fault):
            return False

    def wait(self) -> None:
        """Return when it takes orders.

        :raises SupervisorError: it does not in time
        """
        deadline = time.monotonic() + START_S
        while not self.answers():
            if time.monotonic() > deadline:
                logs = f"{self._layout.root}/box.log and {self._layout.log}/supervisord.log"
                msg = f"the supervisor does not answer within {START_S:.0f} s; see {logs}"
                raise SupervisorError(msg)
            time.sleep(0.1)

    def take_up(self) -> tuple[set[str], set[str], set[str]]:
        """Make what runs match the configuration; return what was started, restarted and removed.

        :raises SupervisorError: it refuses the configuration
        """
        try:
            ((added, changed, removed),) = self._rpc.reloadConfig()
        except xmlrpc.client.Fault as fault:
            raise SupervisorError(fault.faultString) from fault
        self.stop([*changed, *removed])
        for name in [*changed, *removed]:
            self._layout.record(name).unlink(missing_ok=True)
            self._rpc.removeProcessGroup(name)
        for name in [*changed, *added]:
            self._rpc.addProcessGroup(name)
        return set(added), set(changed), set(removed)

    def start(self, names: Sequence[str]) -> set[str]:
        """Start those of the named that somebody stopped; return which."""
        idle = self._in_state("STOPPED", "EXITED", "FATAL") & set(names)
        for name in idle:
            self._layout.record(name).unlink(missing_ok=True)
            with _late(ALREADY):
                self._rpc.startProcess(name, _WAIT)
        return idle

    def stop(self, names: Sequence[str] | None = None) -> None:
        """Stop the named, or all, together; return when they have ended."""
        alive = ("STARTING", "RUNNING", "BACKOFF", "STOPPING")
        wanted = self._in_state(*alive) & set(names) if names is not None else self._in_state(*alive)
        for name in wanted:
            with _late(NOT_RUNNING):
                self._rpc.stopProcess(name, _WAIT)
        while wanted & self._in_state(*alive):
            time.sleep(0.05)

    def _in_state(self, *states: str) -> set[str]:
        return {each["name"] for each in self._rpc.getAllProcessInfo() if each["statename"] in states}


@contextlib.contextmanager
def _late(code: int) -> Any:
    """Do not mind that things are as ordered already."""
    try:
        yield
    except xmlrpc.client.Fault as fault:
        if fault.faultCode != code:
            raise
