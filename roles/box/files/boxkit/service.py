"""A service of the box as a role hands it over."""

from __future__ import annotations

import hashlib
import json
import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from boxkit.layout import SANDBOX, Layout, read_json

NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
HEALTH = ({"url"}, {"url", "ca"}, {"url", "ca", "cert", "key"}, {"tcp"}, {"argv"}, set[str]())
"""The kinds of health checks, by their keys."""

OF_THE_PROCESS = ("argv", "environment", "directory", "inside", "stop_signal", "stop_seconds")
"""What cannot change without a restart."""


class SpecificationError(Exception):
    """A role handed over something that is no service; the text is for people."""


@dataclass(frozen=True, kw_only=True)
class Service:
    """One program that is kept running.

    :param name: unique in the box
    :param group: who handed it over
    :param argv: the program and its arguments; no secrets
    :param environment: more than PATH, HOME and LANG; no secrets
    :param directory: where it stands; default: the box's directory for run-time state
    :param inside: whether it enters the sandbox's namespaces
    :param after: the services that must be healthy before it starts
    :param endpoint: its address, for people
    :param health: how to see that it works: ``url`` (with ``ca``, ``cert``, ``key`` for TLS), ``tcp`` (HOST:PORT), ``argv``, or
        nothing, which is that its process is alive
    :param version: of the program, for people
    :param files: the service restarts when their content changes
    :param stop_signal: how it is asked to end
    :param stop_seconds: how long it may take to end before it is killed
    """

    name: str
    group: str
    argv: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    directory: str = ""
    inside: bool = False
    after: Sequence[str] = ()
    endpoint: str = ""
    health: Mapping[str, Any] = field(default_factory=dict)
    version: str = ""
    files: Sequence[str] = ()
    stop_signal: str = "TERM"
    stop_seconds: int = 10

    def __post_init__(self) -> None:
        """Refuse what could never run.

        :raises SpecificationError: naming what is wrong
        """
        sentence = next((text for wrong, text in self._mistakes() if wrong), "")
        if sentence:
            msg = f"service {self.name!r} of group {self.group}: {sentence}"
            raise SpecificationError(msg)

    def _mistakes(self) -> list[tuple[bool, str]]:
        health = set(self.health)
        return [
            (not NAME.fullmatch(self.name), "a name is made of a-z, 0-9 and -"),
            (not self.argv or not str(self.argv[0]).startswith("/"), "argv begins with an absolute path"),
            (bool(self.directory) and not self.directory.startswith("/"), "directory is an absolute path"),
            (health not in HEALTH, f"health has the keys of url, tcp or argv, and not {sorted(health)}"),
            (
                str(self.health.get("url", "")).startswith("https:") and "ca" not in health,
                "a health check over https needs ca",
            ),
            (f"SIG{self.stop_signal}" not in signal.Signals.__members__, f"there is no signal {self.stop_signal}"),
            (self.name == SANDBOX and self.inside, "the sandbox cannot be inside of itself"),
        ]

    @property
    def waits_for(self) -> list[str]:
        """The services that must be healthy first; for one inside, the sandbox above all."""
        return [*([SANDBOX] if self.inside else []), *(name for name in self.after if name != SANDBOX or not self.inside)]

    def fingerprint(self) -> str:
        """One word that differs if the running process would.

        :raises SpecificationError: a file that the service names is not there
        """
        words = {name: getattr(self, name) for name in OF_THE_PROCESS}
        digest = hashlib.sha256(json.dumps(words, sort_keys=True, default=list).encode())
        for name in self.files:
            try:
                digest.update(Path(name).read_bytes())
            except OSError as error:
                msg = f"service {self.name!r} of group {self.group}: file {name}: {error.strerror}"
                raise SpecificationError(msg) from error
        return digest.hexdigest()[:16]


def parse(document: Any, group: str) -> Service:
    """A service from what a role wrote.

    :raises SpecificationError: it is not one
    """
    if not isinstance(document, dict) or "name" not in document or "argv" not in document:
        msg = f"group {group}: a service needs name and argv: {document}"
        raise SpecificationError(msg)
    known = {each.name for each in fields(Service)} - {"group"}
    if unknown := document.keys() - known:
        msg = f"service {document['name']!r} of group {group}: unknown {sorted(unknown)}; known are {sorted(known)}"
        raise SpecificationError(msg)
    given = {key: value for key, value in document.items() if value is not None}
    for name in ("argv", "after", "files"):
        if not isinstance(given.get(name, []), list):
            msg = f"service {document['name']!r} of group {group}: {name} is a list"
            raise SpecificationError(msg)
    given["argv"] = [str(word) for word in given["argv"]]
    given["environment"] = {str(name): str(value) for name, value in (given.get("environment") or {}).items()}
    given["version"] = str(given.get("version", ""))
    given["stop_seconds"] = int(given.get("stop_seconds", 10))
    return Service(group=group, **given)


def stored(layout: Layout) -> dict[str, list[Service]]:
    """The services that the supervisor was given, by group."""
    return {
        path.stem: [_restored(document) for document in read_json(path) or []]
        for path in sorted(layout.groups.glob("*.json"), key=lambda path: (path.stat().st_ctime_ns, path.stem))
    }


def _restored(document: Mapping[str, Any]) -> Service:
    """A service that was written down, perhaps by another version of this program."""
    known = {each.name for each in fields(Service)}
    return Service(**{key: value for key, value in document.items() if key in known})


def by_name(layout: Layout) -> dict[str, Service]:
    """All services of the box."""
    return {service.name: service for services in stored(layout).values() for service in services}


def as_json(services: Sequence[Service]) -> str:
    """The text that ``stored`` reads."""
    return json.dumps([asdict(service) for service in services], indent=1, sort_keys=True) + "\n"
