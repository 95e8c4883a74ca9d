"""Job records of a daemon that is alone: one SQLite file, so that answers survive restarts, prunes and time-to-live.

The daemon keeps live jobs in memory and comes here to write each move down before it shows, and to read about jobs that have
ended.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiosqlite

from pfmoc.errors import StartError, StorageFull, StorageUnavailable
from pfmoc.jobs import codec
from pfmoc.jobs.model import Job, Kind, Phase
from pfmoc.jobs.state_dir import held

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
    ended REAL,
    PRIMARY KEY (jid, kind)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS job_phase ON job (phase);
"""

_ADD_ENDED = "ALTER TABLE job ADD COLUMN ended REAL"
"""For files of versions that kept records for ever."""
_AGED_AT_ONCE = 500
_DAY_S = 86_400.0

_COLUMNS = "jid, kind, phase, spec, message, timestamp, image, cmd, exit_code"
_MARKS = ", ".join("?" * 11)


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
            stack.enter_context(held(self._state_dir))
            path = self._state_dir / "records.db"
            path.touch(mode=0o600)
            self._db = await stack.enter_async_context(aiosqlite.connect(path, isolation_level=None))
            await self._db.executescript(_SCHEMA)
            await self._add_ended()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._stack.aclose()

    async def _add_ended(self) -> None:
        async with self._db.execute("SELECT name FROM pragma_table_info('job')") as rows:
            known = {row[0] for row in await rows.fetchall()}
        if "ended" not in known:
            await self._db.execute(_ADD_ENDED)
            marks = ", ".join("?" * len(_TERMINAL))
            query = f"UPDATE job SET ended = ? WHERE phase IN ({marks})"  # noqa: S608 - constants
            await self._db.execute(query, (time.time(), *_TERMINAL))

    async def save(self, job: Job, *, log: str = "") -> None:
        """Write a job down as it stands now, over what was written of it before."""
        spec = None if job.spec is None else codec.spec_json(job.kind, job.spec)
        ended = time.time() if job.phase.terminal else None
        values = (job.jid, job.kind, job.phase, spec, job.message, job.timestamp, job.image, job.cmd, job.exit_code, log, ended)
        async with _mapped():
            await self._db.execute(
                f"INSERT OR REPLACE INTO job ({_COLUMNS}, log, ended) VALUES ({_MARKS})",  # noqa: S608 - constants
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

    async def aged(self, days: float) -> list[Job]:
        """Return some of the jobs that ended so many days ago."""
        query = f"SELECT {_COLUMNS} FROM job WHERE ended < ? LIMIT {_AGED_AT_ONCE}"  # noqa: S608 - constants
        async with _mapped(), self._db.execute(query, (time.time() - days * _DAY_S,)) as rows:
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
        spec=None if spec is None else codec.spec_of(Kind(kind), spec),
        message=message,
        timestamp=timestamp,
        image=image,
        cmd=cmd,
        exit_code=exit_code,
    )


@asynccontextmanager
async def _mapped() -> AsyncIterator[None]:
    """Turn SQLite's complaints about its disk into ours."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
            raise StorageFull("the disk of the job records is full") from error
        raise StorageUnavailable(f"the job records cannot be used: {error}") from error
