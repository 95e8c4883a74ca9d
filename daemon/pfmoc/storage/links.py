"""``.chrislink`` files: what one says, and what a tree looks like when all of them are expanded (contract 6.1, 6.2).

A link is a small text file that names a file or directory, relative to the root of the storage. A directory takes its place,
named after the target with ``_`` for ``/``, that holds what was fetched for the target; for a file it is named after the file's
directory, and holds what was fetched below that. Links within are expanded in the same way.

This module touches no disk. It differs from upstream where upstream loses data or reads what it must not: paths are compared
component by component; nothing of the input itself is ever removed; two different files are never given one name in silence; and
a link that leads nowhere is an error that names it.

A link to a directory that is already being expanded, or that the link itself stands in, is a cycle and is left out: all that it
could bring is there already, further up.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from pfmoc.errors import TooLarge
from pfmoc.storage.paths import NAME_MAX, PATH_MAX, BadPath, components, is_below
from pfmoc.storage.workers import Stop

CONTENT_MAX = 64 << 10
"""Bytes of a link file. A path has 4095 at most; more is something else under the name of a link."""
CHAIN_MAX = 512
"""Links that lead on to links. Each adds a directory to the path, which ends at 4095 bytes anyway."""
_PLACED_MAX = PATH_MAX - 511
"""Bytes of a path in the result; the rest is for the directories that it is placed and mounted below."""


class BadLink(Exception):
    """A link that cannot be followed.

    :param path: the link file, relative to the root of the storage
    :param reason: reads on after the path
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"link {ascii(path)[1:-1]} {reason}")
        self.path = path
        self.reason = reason


def parse(path: str, content: bytes) -> str:
    """Return the target as it is written, without the blanks around it.

    :param path: the link file's own, for the error
    :raises BadLink: too large, not UTF-8, empty, absolute, with ``..``, or otherwise no relative path
    """
    if len(content) > CONTENT_MAX:
        raise BadLink(path, f"is larger than {CONTENT_MAX} bytes")
    try:
        target = content.decode().strip()
    except UnicodeDecodeError:
        raise BadLink(path, "is not UTF-8 text") from None
    try:
        components(target)
    except BadPath as bad:
        raise BadLink(path, f"has a target that {bad.reason}") from None
    return target


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """A link whose target was found."""

    name: str
    """Of the directory that takes the link's place; ``""`` for a file at the root, which takes the place itself."""
    top: str
    """Path of the directory whose content goes there."""
    file: str | None = None
    """Path of the file, when the target is one."""


def to_directory(target: str, found: str) -> Link:
    """A link to a directory.

    :param target: as written, which gives the name: ``home/bob/`` becomes ``home_bob_``
    :param found: where it is
    """
    return Link(name=target.replace("/", "_"), top=found)


def to_file(target: str, found: str) -> Link:
    """A link to a file."""
    directory = target.rpartition("/")[0]
    return Link(name="" if directory == "." else directory.replace("/", "_"), top=found.rpartition("/")[0], file=found)


class Files:
    """All that was fetched, sorted, so that what lies below a directory is one slice of it."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._paths = sorted(paths)

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def below(self, top: str) -> Iterator[str]:
        """Yield the files below a directory; all of them for ``""``."""
        if not top:
            return iter(self._paths)
        # "0" follows "/" in Unicode: between the two lies everything that begins with the directory and a slash.
        first, last = bisect_left(self._paths, f"{top}/"), bisect_left(self._paths, f"{top}0")
        return (self._paths[index] for index in range(first, last))


class _Frame(NamedTuple):
    """One step on the way from the input to where the expansion is."""

    goal: str
    """What is being expanded there."""
    left_at: str
    """The directory of the link by which the way went on."""
    before: _Frame | None
    depth: int


class _Work(NamedTuple):
    place: str
    """Directory of the result that it goes to."""
    top: str
    """What goes there: everything below this directory ..."""
    file: str | None
    """... or this one file."""
    goal: str
    """Path that tells this expansion from others, to know a cycle by."""
    frame: _Frame | None = None
    """How it was reached; None for the input itself."""


class Expansion:
    """The tree with all links expanded, as a table: which file goes where.

    :param limit: of files and of links followed; links that lead to each other multiply
    """

    def __init__(self, *, files: Files, links: Mapping[str, Link], limit: int, stop: Stop) -> None:
        self.placed: dict[str, str] = {}
        """Source of each file of the result; both are relative paths."""
        self._files = files
        self._links = links
        self._limit = limit
        self._stop = stop
        self._followed = 0
        self._of_input: set[str] = set()
        self._directories: set[str] = set()

    def add_directory(self, top: str) -> None:
        """Place an input directory's content at the root of the result. Of equal names in several inputs the last one stays."""
        self._expand(_Work(place="", top=top, file=None, goal=top))

    def add_file(self, path: str) -> None:
        """Place an input that is a file at the root of the result."""
        self._expand(_Work(place="", top="", file=path, goal=path))

    def keep(self, path: str) -> None:
        """Place a file where it is."""
        self._expand(_Work(place=path.rpartition("/")[0], top="", file=path, goal=""))

    def _expand(self, first: _Work) -> None:
        pending = [first]
        while pending:
            work = pending.pop()
            if work.file is None:
                sources, cut = self._files.below(work.top), len(work.top)
            else:
                sources, cut = iter((work.file,)), len(work.file.rpartition("/")[0])
            for source in sources:
                self._stop.check()
                place = _join(work.place, source[cut:].lstrip("/"))
                link = self._links.get(source)
                if link is None:
                    self._put(place, source, of_input=work.frame is None)
                elif (onward := self._follow(link, source, place, work)) is not None:
                    pending.append(onward)

    def _follow(self, link: Link, source: str, place: str, work: _Work) -> _Work | None:
        """Return what takes the link's place; None for a cycle."""
        # A file at the root has no directory to be held by: it is itself what is expanded.
        alone = link.file if not link.top else None
        goal = link.top if alone is None else alone
        depth = work.frame.depth + 1 if work.frame else 1
        frame = _Frame(goal=work.goal, left_at=source.rpartition("/")[0], before=work.frame, depth=depth)
        back: _Frame | None = frame
        while back is not None:
            if goal == back.goal or (is_below(goal, back.goal) and is_below(back.left_at, goal)):
                return None
            back = back.before
        self._followed += 1
        if self._followed > self._limit:
            raise TooLarge(f"The input follows more than {self._limit} links, the limit")
        if depth > CHAIN_MAX:
            raise BadLink(source, f"is the end of a chain of more than {CHAIN_MAX} links")
        if len(link.name.encode()) > NAME_MAX:
            raise BadLink(source, "has a target that is too long for the name of a directory")
        place = _join(place.rpartition("/")[0], link.name)
        return _Work(place=place, top=link.top, file=alone, goal=goal, frame=frame)

    def _put(self, place: str, source: str, *, of_input: bool) -> None:
        if len(place.encode(errors="surrogateescape")) > _PLACED_MAX:
            raise BadLink(source, "leads to a path that is too long")
        there = self.placed.get(place)
        if there is not None and there != source and not (of_input and place in self._of_input):
            raise BadLink(source, f"and {ascii(there)[1:-1]} would both become {ascii(place)[1:-1]}")
        if place in self._directories:
            raise BadLink(source, f"would become {ascii(place)[1:-1]}, which is a directory")
        self.placed[place] = source
        if of_input:
            self._of_input.add(place)
        if len(self.placed) > self._limit:
            raise TooLarge(f"The input has more than {self._limit} files, the limit")
        above = place.rpartition("/")[0]
        while above and above not in self._directories:
            if above in self.placed:
                raise BadLink(source, f"would lie below {ascii(above)[1:-1]}, which is a file")
            self._directories.add(above)
            above = above.rpartition("/")[0]


def carriers(files: Files, links: Mapping[str, Link]) -> set[str]:
    """Return the directories of a zip that are there only because links lead to them, and vanish into their places.

    A zip carries what its links lead to as ordinary entries. Such a directory may go only when a link that stays, or one within
    what goes elsewhere, leads to it; directories that only lead to each other stay where they are.
    """
    tops = {link.top for link in links.values() if link.top}
    reached: set[str] = set()
    waiting = [path for path in links if not lies_in(path, tops)]
    while True:
        while waiting:
            top = links[waiting.pop()].top
            if top in tops and top not in reached:
                reached.add(top)
                waiting += [path for path in files.below(top) if path in links]
        islands = tops - reached
        if not islands:
            return reached
        island = min(islands)
        tops.discard(island)
        waiting = [path for path in files.below(island) if path in links and not lies_in(path, tops)]


def directories_of(paths: Iterable[str]) -> set[str]:
    """Return every directory that holds one of the files, at any depth."""
    found: set[str] = set()
    for path in paths:
        above = path.rpartition("/")[0]
        while above and above not in found:
            found.add(above)
            above = above.rpartition("/")[0]
    return found


def lies_in(path: str, tops: set[str]) -> bool:
    """True when the path lies below one of the directories."""
    above = path.rpartition("/")[0]
    while above:
        if above in tops:
            return True
        above = above.rpartition("/")[0]
    return False


def _join(directory: str, name: str) -> str:
    return f"{directory}/{name}" if directory and name else directory or name
