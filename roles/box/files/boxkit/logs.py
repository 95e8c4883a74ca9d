"""The logs of services, one after the other, or as they grow."""
# ruff: noqa: T201 - printing is what it is for

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from boxkit.apply import tail
from boxkit.layout import Layout
from boxkit.service import by_name

PAUSE_S = 0.3


class UnknownServiceError(Exception):
    """Nothing is called so; the text lists what there is."""


def choose(layout: Layout, wanted: str) -> dict[str, Path]:
    """The logs of the service of that name, of the group, or of the services whose names begin so; all for the empty word.

    :raises UnknownServiceError: there is none
    """
    services = by_name(layout)
    names = [name for name in services if name == wanted]
    names = names or [name for name, service in services.items() if service.group == wanted]
    names = names or [name for name in services if name.startswith(wanted)]
    if wanted == "supervisord":
        return {wanted: layout.log / "supervisord.log"}
    if not names:
        groups = sorted({service.group for service in services.values()})
        msg = (
            f"there is no service {wanted!r}. There are: {', '.join(sorted([*services, 'supervisord']))}; "
            f"and the groups {', '.join(groups)}"
            if services
            else "there are no services: `make box` makes them"
        )
        raise UnknownServiceError(msg)
    return {name: layout.log_of(name) for name in names}


def show(logs: Mapping[str, Path], lines: int) -> None:
    """Print the end of each log."""
    for name, path in logs.items():
        _print(name, tail(path, lines), several=len(logs) > 1)


def follow(logs: Mapping[str, Path]) -> None:
    """Print what is added, until interrupted."""
    places = {name: Place(path) for name, path in logs.items()}
    while True:
        for name, place in places.items():
            _print(name, place.added(), several=len(logs) > 1)
        time.sleep(PAUSE_S)


class Place:
    """How far a log has been read. A rotated one is begun anew."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file, self._offset = self._look()

    def _look(self) -> tuple[int, int]:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return 0, 0
        return status.st_ino, status.st_size

    def added(self) -> str:
        """Whole lines that came since the last call."""
        file, size = self._look()
        if not file:
            return ""
        if file != self._file or size < self._offset:
            self._file, self._offset = file, 0
        with self._path.open("rb") as log:
            log.seek(self._offset)
            data = log.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        return whole.decode(errors="replace")


def _print(name: str, text: str, *, several: bool) -> None:
    for line in text.splitlines():
        print(f"{name} | {line}" if several else line, flush=True)
