"""Job records: one SQLite file, so that answers survive restarts, prunes and time-to-live.

The daemon keeps live jobs in memory and comes here to write each move down before it shows, and to read about jobs that have
ended. A plugin's environment is never recorded: it holds the user's token, and nothing needs it once the run has started.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiosqlite
from pydantic import TypeAdapter

from pfmoc.errors import StartError, StorageFull, StorageUnavailable
from pfmoc.jobs.model import CopySpec, DeleteSpec, Job, Kind, Phase, PluginSpec, Spec, UploadSpec

_SPECS: dict[Kind, TypeAdapter[Spec]] = {
    Kind.COPY: TypeAdapter(CopySpec),
    Kind.PLUGIN: TypeAdapter(PluginSpec),
    Kind.UPLOAD: TypeAdapter(UploadSpec),
    Kind.DELETE: TypeAdapter(DeleteSpec),
}

_TERMINAL = tuple(phase.value for phase in Phase if phase.terminal)

# WAL with synchronous=NORMAL survives the death of this process at any moment; only the last moves before a power cut may be
# lost, and then the runs that they speak of are gone too.
_SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
PRAGMA busy_timeout = 5000;
CREATE TABLE IF NOT EXISTS job (
    jid TEXT NOT NULL,
    kind TEXT NOT NULL,
    phase TEXT NOT NULL,
    spec TEXT,
    message TEXT NOT NULL,
    timestamp TEXT NOT NULL,
    image TEXT NOT NULL,
    cmd TEXT NOT NULL,
    exit_code INTEGER,
    log TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (jid, kind)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS job_phase ON job (phase);
"""

_COLUMNS = "jid, kind, phase, spec, message, timestamp, image, cmd, exit_code"


class Records:
    """The store. One daemon per state directory: a lock on it is held while it is open.

    Writing raises ``StorageFull`` or ``StorageUnavailable``.
    """

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir

    async def __aenter__(self) -> Self:
        try:
            return await self._open()
        except (OSError, sqlite3.DatabaseError) as error:
            raise StartError(f"PFMOC_STATE_DIR: the job records below {self._state_dir} cannot be opened: {error}") from error

    async def _open(self) -> Self:
        async with AsyncExitStack() as stack:
            self._state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            stack.enter_context(_locked(self._state_dir / "lock"))
            path = self._state_dir / "records.db"
            path.touch(mode=0o600)
            self._db = await stack.enter_async_context(aiosqlite.connect(path, isolation_level=None))
            await self._db.executescript(_SCHEMA)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._stack.aclose()

    async def save(self, job: Job, *, log: str = "") -> None:
        """Write a job down as it stands now, over what was written of it before."""
        spec = None if job.spec is None else _SPECS[job.kind].dump_json(job.spec, exclude={"env"}).decode()
        values = (job.jid, job.kind, job.phase, spec, job.message, job.timestamp, job.image, job.cmd, job.exit_code, log)
        async with _mapped():
            await self._db.execute(
                f"INSERT OR REPLACE INTO job ({_COLUMNS}, log) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - constants
                values,
            )

    async def find(self, jid: str, kind: Kind) -> Job | None:
        """Return one job, or None."""
        query = f"SELECT {_COLUMNS} FROM job WHERE jid = ? AND kind = ?"  # noqa: S608 - constants
        async with _mapped(), self._db.execute(query, (jid, kind)) as rows:
            row = await rows.fetchone()
        return None if row is None else _job(row)

    async def log(self, jid: str, kind: Kind) -> str:
        """Return the log tail kept with a job; empty when there is none."""
        async with _mapped(), self._db.execute("SELECT log FROM job WHERE jid = ? AND kind = ?", (jid, kind)) as rows:
            row = await rows.fetchone()
        return "" if row is None else str(row[0])

    async def live(self) -> list[Job]:
        """Return every job that has not ended."""
        marks = ", ".join("?" * len(_TERMINAL))
        query = f"SELECT {_COLUMNS} FROM job WHERE phase NOT IN ({marks})"  # noqa: S608 - constants
        async with _mapped(), self._db.execute(query, _TERMINAL) as rows:
            return [_job(row) for row in await rows.fetchall()]

    async def forget(self, jid: str, kind: Kind) -> None:
        """Remove a job's record; absent is fine."""
        async with _mapped():
            await self._db.execute("DELETE FROM job WHERE jid = ? AND kind = ?", (jid, kind))


def _job(row: Iterable[Any]) -> Job:
    jid, kind, phase, spec, message, timestamp, image, cmd, exit_code = row
    return Job(
        jid=jid,
        kind=Kind(kind),
        phase=Phase(phase),
        spec=None if spec is None else _SPECS[Kind(kind)].validate_json(spec),
        message=message,
        timestamp=timestamp,
        image=image,
        cmd=cmd,
        exit_code=exit_code,
    )


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on the state directory; the kernel drops it with the process."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as taken:
            raise StartError(
                f"another pfmoc uses the state directory {path.parent}; stop it, or set PFMOC_STATE_DIR to another directory"
            ) from taken
        yield
    finally:
        os.close(descriptor)


@asynccontextmanager
async def _mapped() -> AsyncIterator[None]:
    """Turn SQLite's complaints about its disk into ours."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
            raise StorageFull("the disk of the job records is full") from error
        raise StorageUnavailable(f"the job records cannot be used: {error}") from error
