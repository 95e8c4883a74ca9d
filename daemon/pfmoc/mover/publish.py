"""Publish a plugin's output: every regular file, then the manifest that says what there is."""

from __future__ import annotations

import errno
import os
import secrets
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from pfmoc.mover.crew import Crew
from pfmoc.mover.depot import Depot, Sent
from pfmoc.mover.leftovers import Leftovers
from pfmoc.mover.report import Failed, Report, say
from pfmoc.mover.ticket import PublishTicket
from pfmoc.mover.wire import Broken, Missing, Patience, Wire
from pfmoc.storage import layout
from pfmoc.storage.paths import PATH_MAX
from pfmoc.storage.trees import DIRECTORY, LINK_SUFFIX, REGULAR, Level, open_directory, walk
from pfmoc.storage.workers import Stop

NAME_MAX = 1024
"""Bytes of an object's name, in Swift and in S3."""
LOOK_S = 5.0
"""Seconds between two looks for the ticket."""
_UNNAMEABLE = f"the store takes no name that is not UTF-8, or longer than {NAME_MAX} bytes"


class _File(NamedTuple):
    directory: str
    name: str

    @property
    def path(self) -> str:
        return f"{self.directory}/{self.name}" if self.directory else self.name


def publish(
    ticket: PublishTicket,
    outputs: Path,
    report: Report,
    *,
    index: int,
    until: float,
    stop: Stop,
    cancelled: Callable[[], None],
) -> None:
    """Publish everything that can be published.

    :param index: of this worker
    :param until: when to give up, on the monotonic clock
    :param cancelled: called, in another thread, when the job is cancelled meanwhile; does not return
    :raises Failed: something could not be published; what could be is there
    """
    # A refusal of the rights is waited for like silence: Swift that cannot look up the container's keys honours nothing.
    patience = Patience(patience_s=1e9, until=until, halt=stop, unauthorized_s=1e9)
    wire, own = (Wire(ticket.base, patience, expires=ticket.expires, authorities=ticket.authorities) for _ in range(2))
    places = layout.Places(ticket.jid)
    try:
        with _watched(own, ticket, cancelled):
            if not _wanted(wire, ticket):
                say("info", "the job was cancelled: nothing is published")
                return
            leftovers = Leftovers()
            publishing = _Publishing(Depot(wire, ticket, index=index), ticket, places.output(index), report, leftovers)
            with closing(_Tree(outputs, report, leftovers, stop)) as tree:
                tree.measure(ticket.max_bytes)
                publishing.announce(tree)
                publishing.run(tree, stop)
            if _wanted(wire, ticket):
                publishing.conclude(index)
    except Missing:
        raise Failed("the container is gone from the store") from None
    except OSError as error:
        raise Failed(f"the outputs cannot be read: {error.strerror}") from error
    finally:
        wire.close()


def _wanted(wire: Wire, ticket: PublishTicket) -> bool:
    """True while the job has its ticket in the store."""
    try:
        wire.call("HEAD", ticket.alive)
    except Missing:
        return False
    return True


@contextmanager
def _watched(wire: Wire, ticket: PublishTicket, cancelled: Callable[[], None]) -> Iterator[None]:
    """For the length of a block, look every few seconds whether the job still has its ticket.

    Kubernetes cannot tell: a kubelet that has begun to end a container does not hear of a shorter time (kubernetes#83916).

    :param wire: for this alone; it is closed afterwards
    """
    over = threading.Event()

    def watch() -> None:
        with closing(wire):
            while not over.wait(LOOK_S):
                with suppress(Broken), wire.request("HEAD", ticket.alive, {}) as response:
                    # Any other answer tells of the store, and not of the job.
                    if response.status == 404 and not over.is_set():
                        cancelled()

    threading.Thread(target=watch, name="mover-watch", daemon=True).start()
    try:
        yield
    finally:
        over.set()


class _Tree:
    """The output directory. What a plugin has closed to others, which may be all but its owner, is left out and noted."""

    def __init__(self, root: Path, report: Report, leftovers: Leftovers, stop: Stop) -> None:
        self._path = root
        self._report = report
        self._leftovers = leftovers
        self._stop = stop
        self.root = open_directory(root)

    def close(self) -> None:
        os.close(self.root)

    def measure(self, limit: int) -> None:
        """Look over all of it, before anything is sent.

        :raises Failed: it is more than the limit, as a sparse file easily is
        """
        size = 0
        for level in walk(self._path, stop=self._stop, prune=True):
            self._report.skipped += level.others
            self._note_closed(level)
            for name in level.files:
                if name.endswith(LINK_SUFFIX):
                    self._report.dropped_links += 1
                    continue
                try:
                    found = os.stat(name, dir_fd=level.fd, follow_symlinks=False)
                except OSError:
                    continue  # whoever sends it will note it
                size += found.st_size
                self._report.allocated += found.st_blocks * 512
        if size > limit:
            raise Failed(
                f"the outputs have {size} bytes, and the limit is {limit}; they occupy {self._report.allocated}"
                + (": there are sparse files" if self._report.allocated < size // 2 else "")
            )

    def files(self) -> Iterator[_File]:
        for level in walk(self._path, stop=self._stop, prune=True):
            for name in level.files:
                if not name.endswith(LINK_SUFFIX):
                    yield _File(level.path, name)

    def _note_closed(self, level: Level) -> None:
        """Note the directories that the walk leaves out."""
        with os.scandir(level.fd) as entries:
            names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        for name in names:
            path = level.join(name)
            if len(os.fsencode(path)) > PATH_MAX:
                self._leftovers.add(f"{path}/", _UNNAMEABLE)
                continue
            try:
                os.close(os.open(name, DIRECTORY, dir_fd=level.fd))
            except OSError as error:
                self._leftovers.add(f"{path}/", _unreadable(error))


class _Publishing:
    def __init__(self, depot: Depot, ticket: PublishTicket, manifest: str, report: Report, leftovers: Leftovers) -> None:
        self._depot = depot
        self._ticket = ticket
        self._manifest = manifest
        self._report = report
        self._leftovers = leftovers
        self._parts = layout.Parts()
        self._attempt = secrets.token_hex(4)
        self._large = 0
        self._turn = threading.Lock()

    def announce(self, tree: _Tree) -> None:
        """Write down what is about to be sent, beside the manifest.

        A pod that is evicted publishes half a tree, or less, and another one runs the plugin again. By this the daemon can find
        what only the first has sent, even where it was killed over it.
        """
        journal, parts = f"{self._manifest}/{self._attempt}", layout.Parts()
        for file in tree.files():
            if _acceptable(self._ticket.root + file.path) and (filled := parts.add({"path": file.path})):
                self._depot.write(layout.part(journal, parts.count - 1), filled)
        if rest := parts.rest():
            self._depot.write(layout.part(journal, parts.count - 1), rest)

    def run(self, tree: _Tree, stop: Stop) -> None:
        def send(file: _File) -> None:
            self._send(tree.root, file)

        Crew(self._ticket.connections, send, stop=stop).run(tree.files())

    def conclude(self, index: int) -> None:
        """Write the manifest, its head last.

        :raises Failed: something cannot be published; all else is
        """
        if rest := self._parts.rest():
            self._write_part(self._parts.count - 1, rest)
        self._write_head(index)
        self._leftovers.check()

    def _send(self, root: int, file: _File) -> None:
        name = self._ticket.root + file.path
        if not _acceptable(name):
            self._leftovers.add(file.path, _UNNAMEABLE)
            return
        try:
            sent = self._sent(root, file, name)
        except OSError as error:
            self._leftovers.add(file.path, _unreadable(error))
        else:
            self._record(file.path, sent)

    def _sent(self, root: int, file: _File, name: str) -> Sent:
        directory = open_directory(root, file.directory)
        try:
            source = os.open(file.name, REGULAR, dir_fd=directory)
        finally:
            os.close(directory)
        try:
            found = os.fstat(source)
            if not stat.S_ISREG(found.st_mode):
                raise OSError(errno.ESTALE, "it is no regular file any more")
            return self._depot.send(source, found.st_size, name)
        finally:
            os.close(source)

    def _record(self, path: str, sent: Sent) -> None:
        line: dict[str, Any] = {"path": path, "size": sent.size, "md5": sent.md5, "sha256": sent.sha256}
        if sent.segments:
            line["segments"] = [segment._asdict() for segment in sent.segments]
        with self._turn:
            self._large += bool(sent.segments)
            self._report.files += 1
            self._report.bytes += sent.size
            filled, number = self._parts.add(line), self._parts.count - 1
        if filled:
            self._write_part(number, filled)

    def _write_part(self, number: int, content: bytes) -> None:
        self._depot.write(layout.part(self._manifest, number), content)

    def _write_head(self, index: int) -> None:
        head = {
            "version": layout.VERSION,
            "index": index,
            "root": self._ticket.root,
            "files": self._report.files,
            "bytes": self._report.bytes,
            "allocated": self._report.allocated,
            "dropped_links": self._report.dropped_links,
            "skipped": self._report.skipped,
            "large": self._large,
            "attempt": self._attempt,
            "refused": self._leftovers.count,
            "parts": self._parts.count,
            "published": time.time(),
        }
        self._depot.write(layout.head(self._manifest), layout.document(head))


def _unreadable(error: OSError) -> str:
    return f"cannot be read: {error.strerror}"


def _acceptable(name: str) -> bool:
    try:
        return len(name.encode()) <= NAME_MAX
    except UnicodeEncodeError:
        return False
