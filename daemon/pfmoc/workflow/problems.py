"""What ends or stops a run, and what is said of it."""

from __future__ import annotations

from collections.abc import Sequence


class Problems(Exception):
    """The run cannot begin: a document, a directory or a flag is wrong. Holds everything that is, not only the first.

    :param lines: one problem each, with where it is
    """

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = tuple(lines)


class WorkflowError(Exception):
    """A node cannot go on. The message is for the person who runs the workflow; never a secret."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class NodeFailed(WorkflowError):
    """The node's own verdict: its plugin failed, or what it asked for was refused. Trying the same again leads to the same."""


class LostContact(WorkflowError):
    """A compute resource did not answer for as long as we were patient. What it was asked to do may still go on there."""


class Refused(NodeFailed):
    """A compute resource answered, and said no.

    :param status: the HTTP status with which it did
    """

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class Damaged(NodeFailed):
    """Data are not what they were when they were fetched, or an archive contradicts itself."""
