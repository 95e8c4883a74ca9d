"""The one family of errors that may reach a client.

Everything below the dialects raises these; ``http.py`` maps each class to a status. Any other exception is a bug or a fault of
the machine: the client sees a bare 500, the log the cause.
"""


class StartError(Exception):
    """The daemon cannot start. The message is for the operator: it names the cause and what to do."""


class PfmocError(Exception):
    """A failure whose message is meant for the client.

    :param message: one sentence that names the cause; never a secret, never a host path outside the storeBase
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidRequest(PfmocError):
    """The request is at fault in one named field. Rendered as upstream's custom checks are: ``field: reason``."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field


class NoSuchJob(PfmocError):
    """No job of that id and kind is known, and the compute environment is well enough to say so."""


class NoSuchData(PfmocError):
    """The job, or the path asked for, has no data in storage."""


class Conflict(PfmocError):
    """The request contradicts the state of an existing job."""


class TooLarge(PfmocError):
    """The request exceeds a size limit of this server. The message names the limit."""


class Unavailable(PfmocError):
    """The daemon or something that it depends on cannot answer now. The same request may succeed later.

    :param retry_after: seconds after which trying again makes sense
    """

    def __init__(self, message: str, *, retry_after: int = 5) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ComputeUnavailable(Unavailable):
    """The compute environment does not answer. Never to be read as "no such job"."""


class StorageUnavailable(Unavailable):
    """Storage cannot be read or written now."""


class StorageFull(PfmocError):
    """Storage has no space, inodes or quota left."""


class StorageRefused(PfmocError):
    """Storage answered, and refused what it was asked to make of what it has."""


class NotPublished(PfmocError):
    """A run's output is not in its place whole, and trying again does not mend that."""


class ComputeRefused(PfmocError):
    """The compute environment answered, and refused.

    :param engine_status: the HTTP status with which it did; passed on as the contract (2.4) has it
    """

    def __init__(self, message: str, *, engine_status: int) -> None:
        super().__init__(message)
        self.engine_status = engine_status


class ComputeConflict(ComputeRefused):
    """A run of that name exists already, and was asked to do something else."""

    def __init__(self, message: str) -> None:
        super().__init__(message, engine_status=409)
