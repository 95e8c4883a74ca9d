"""HAProxy's configuration on disk, and HAProxy taking it up."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from . import haproxy
from .routes import Served

RELOAD_S = 10.0
# Generations that are kept beside the current one, to find out what happened.
KEPT = 3


class RouterError(OSError):
    """HAProxy does not take the configuration, or does not answer."""


class Configuration:
    """HAProxy's configuration on disk: generations, each complete, and ``current``, a link to the one in force.

    :param directory: where they lie; HAProxy stands there, and takes orders at ``master.sock``
    :param program: path of haproxy
    """

    def __init__(self, directory: Path, program: Path, settings: haproxy.Settings) -> None:
        self._directory = directory
        self._program = program
        self._settings = settings

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Configuration:
        """As a settings file says: ``directory``, ``program`` and ``settings``."""
        return cls(Path(document["directory"]), Path(document["program"]), haproxy.Settings(**document["settings"]))

    @property
    def fits(self) -> bool:
        """True if there is a configuration that was made with these settings."""
        try:
            return bool(json.loads((self._directory / "current" / "settings.json").read_text()) == asdict(self._settings))
        except (OSError, ValueError):
            return False

    def put(self, routes: Sequence[Served]) -> bool:
        """Write the configuration for these routes and make it current; False if it is so already.

        :raises RouterError: HAProxy finds a mistake in it; the old one stays
        """
        # The files name each other by where they lie, and lie where their content says.
        content = json.dumps(haproxy.files(self._settings, routes, Path("/")), sort_keys=True)
        generation = self._directory / "generations" / hashlib.sha256(content.encode()).hexdigest()[:16]
        current = self._directory / "current"
        if current.is_symlink() and current.resolve() == generation.resolve() and generation.exists():
            return False
        draft = generation.with_name(f".{generation.name}")
        for leftover in (draft, generation):
            shutil.rmtree(leftover, ignore_errors=True)
        draft.parent.mkdir(parents=True, exist_ok=True)
        # With the keys of Routes in it.
        draft.mkdir(mode=0o700)
        texts = {**haproxy.files(self._settings, routes, generation), "settings.json": json.dumps(asdict(self._settings))}
        for name, text in texts.items():
            (draft / name).write_text(text, newline="")
            (draft / name).chmod(0o600)
        draft.rename(generation)
        self._check(generation)
        link = self._directory / ".current"
        link.unlink(missing_ok=True)
        link.symlink_to(generation.relative_to(self._directory))
        link.replace(current)
        self._prune()
        return True

    def _check(self, generation: Path) -> None:
        command = [str(self._program), "-c", "-C", str(self._directory), "-f", str(generation / "haproxy.cfg")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - no shell, our own words
        if done.returncode:
            raise RouterError(f"HAProxy refuses {generation}: {done.stderr.strip()}")

    def _prune(self) -> None:
        current = (self._directory / "current").resolve()
        generations = sorted((self._directory / "generations").iterdir(), key=lambda path: path.stat().st_mtime)
        for old in [generation for generation in generations if generation != current][:-KEPT]:
            shutil.rmtree(old, ignore_errors=True)

    def serve(self) -> NoReturn:
        """Become HAProxy, with the current configuration, or with one without Routes where there is none that fits.

        :raises OSError: it cannot be started
        """
        if not self.fits:
            self.put([])
        # Relative to its directory: a socket's path has a hundred characters at most.
        orders = ["-S", "unix@master.sock,mode,600"]
        argv = [str(self._program), "-W", "-C", str(self._directory), *orders, "-f", "current/haproxy.cfg"]
        os.execv(self._program, argv)  # noqa: S606 - its purpose

    def reload(self) -> None:
        """Have HAProxy take up what is current, while its old worker finishes its connections.

        :raises RouterError: it does not run, or not take it up in time
        """
        before = self._workers()
        self._command("reload")
        deadline = time.monotonic() + RELOAD_S
        while True:
            try:
                if self._workers() - before:
                    return
            except RouterError:  # it does not listen while it starts anew
                if time.monotonic() > deadline:
                    raise
            if time.monotonic() > deadline:
                raise RouterError(f"HAProxy did not reload within {RELOAD_S:g} s")
            time.sleep(0.02)

    def _workers(self) -> set[str]:
        """The process ids of the workers that serve."""
        lines = self._command("show proc").splitlines()
        rows = (line.split() for line in lines[: lines.index("# old workers") if "# old workers" in lines else None])
        return {row[0] for row in rows if len(row) > 1 and row[1] == "worker"}

    def _command(self, command: str) -> str:
        """Send HAProxy's master a command and return what it says."""
        # By the directory's descriptor: the path may be longer than a socket's address can be.
        descriptor = os.open(self._directory, os.O_PATH | os.O_DIRECTORY)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
                client.settimeout(RELOAD_S)
                client.connect(f"/proc/self/fd/{descriptor}/master.sock")
                client.sendall(f"{command}\n".encode())
                client.shutdown(socket.SHUT_WR)
                return b"".join(iter(lambda: client.recv(1 << 16), b"")).decode()
        except OSError as error:
            raise RouterError(f"HAProxy does not take orders: {error}") from error
        finally:
            os.close(descriptor)
