"""SQLite under OpenStack's load of parallel writers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy
from oslo_db import exception
from oslo_db.sqlalchemy import enginefacade, exc_filters
from sqlalchemy import event, orm

_WRITER = "box_openstack writer"
_KEPT_BY_KEYS = "keystone"


def install() -> None:
    """Change how every engine and session of this process begins.

    - Readers do not wait for a writer: the journal is a write-ahead log.
    - A writer takes the lock when it begins and queues for it. Left to itself it would begin as a reader, and be refused at once
      when it came to write after another.
    - What is refused all the same is a deadlock to oslo.db, and so to the services' own retries.
    - Keystone's foreign keys hold: it leaves it to them to remove a user's application credentials with the user, and their rows
      would be met again under the ids of later ones.
    """
    create = enginefacade._TransactionFactory._create_session  # noqa: SLF001 - the one place where a session learns its mode

    def create_session(factory: Any, mode: Any, bind: Any = None) -> Any:
        session = create(factory, mode, bind=bind)
        session.info[_WRITER] = mode is enginefacade._WRITER  # noqa: SLF001
        return session

    enginefacade._TransactionFactory._create_session = create_session  # noqa: SLF001
    event.listen(orm.Session, "after_begin", _begin)
    event.listen(sqlalchemy.engine.Engine, "connect", _connect)
    exc_filters.filters("sqlite", sqlalchemy.exc.OperationalError, r".*database is locked.*")(_locked)


def _begin(session: Any, transaction: Any, connection: Any) -> None:
    if session.info.get(_WRITER) and not transaction.nested and connection.dialect.name == "sqlite":
        raw = connection.connection.dbapi_connection
        raw.execute("COMMIT")
        raw.execute("BEGIN IMMEDIATE")


def _connect(connection: Any, _record: Any) -> None:
    if type(connection).__module__.startswith("sqlite3"):
        connection.execute("PRAGMA journal_mode=WAL")
        _, _, file = connection.execute("PRAGMA database_list").fetchone()
        if Path(file).stem == _KEPT_BY_KEYS:
            connection.execute("PRAGMA foreign_keys=ON")


def _locked(error: Any, _match: Any, _engine_name: Any, _is_disconnect: Any) -> None:
    raise exception.DBDeadlock(error)
