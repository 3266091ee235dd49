"""The SQLite store: one file, in WAL mode, for all processes of one machine."""

from __future__ import annotations

import functools
import logging
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import (
    URL,
    Connection,
    Engine,
    MetaData,
    Table,
    create_engine,
    event,
    func,
    select,
    type_coerce,
)
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.sql.elements import ColumnElement

from batchor_core.core.exceptions import InvalidInputError, StorageError
from batchor_core.providers.registry import ProviderRegistry
from batchor_core.storage.sql import SQLStore
from batchor_core.storage.sql_engine import (
    Constant,
    Database,
    literal,
    survive_fork,
    without_constants,
)
from batchor_core.storage.sqlite_statements import creation, sharing_statements
from batchor_core.storage.sqlite_wal import WriteAheadLog, Writer, writer_of

BUSY_TIMEOUT_SEC = 60
"""How long a transaction waits for another writer's."""

NETWORK_FILESYSTEMS = frozenset(
    {
        "9p",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "fuse.glusterfs",
        "fuse.sshfs",
        "glusterfs",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "smb3",
        "smbfs",
    }
)
"""File systems on which WAL, which shares memory between processes, fails or corrupts."""

FIGURES = [
    ("items", "items", "1000000 100000 1"),
    ("items", "items_queued", "100000 50000 40000 1 1 1 1"),
    ("items", "items_by_intent", "1000000 100000 10000 1"),
    ("items", "items_by_given_custom_id", "1000 500 1"),
    ("item_contents", "item_contents", "1000000 100000 1"),
    ("item_contents", "item_contents_by_id", "1000000 100000 1"),
    ("item_results", "item_results", "1000000 100000 1"),
    ("item_results", "item_results_failed", "10000 1000 1"),
    ("request_pointers", "request_pointers", "1000000 100000 1"),
    ("request_pointers", "request_pointers_by_path", "1000000 100000 10000"),
]
"""Table, index, rows in it and rows that share its first 1, 2, ... columns; as in SQLite's ``sqlite_stat1``."""

_INSERTED_AT_ONCE = 250

OVERRIDE = "BATCHOR_ALLOW_NETWORK_SQLITE"

log = logging.getLogger("batchor_core")


def has_wal_reset_bug(version: tuple[int, int, int]) -> bool:
    """Whether this SQLite may lose or corrupt commits in WAL mode when several connections write at the same moment.

    Fixed in 3.51.3, 3.50.7 and 3.44.6: https://sqlite.org/wal.html#walresetbug
    """
    fixed = {50: 7, 44: 6}
    major, minor, patch = version
    if (major, minor) < (3, 7) or (major, minor, patch) >= (3, 51, 3):
        return False
    return major != 3 or minor not in fixed or patch < fixed[minor]


@functools.cache
def _warn_of_wal_reset_bug() -> None:
    if has_wal_reset_bug(sqlite3.sqlite_version_info):
        log.warning(
            "SQLite %s has the WAL-reset bug, by which several processes that write to one file at the same moment can lose "
            "commits. The engine of your own does not prevent it: pass SQLiteStorage(path=...) instead, which does, or use "
            "a Python with SQLite 3.51.3 (or 3.50.7, 3.44.6), or PostgresStorage.",
            sqlite3.sqlite_version,
        )


_IN_MEMORY = ":memory:"


class SQLiteStorage(SQLStore):
    """A state store in one SQLite file. All processes that use it must run on one machine.

    Args:
        name: The file is ``~/.batchor/<name>.sqlite3`` unless ``path`` is given.
        path: The file; ``~`` is expanded. It is created, readable by its owner only, where there is none.
        now: Clock for tests; by default the system's, which is also SQLite's.
        engine: An engine of your own instead. Its pragmas are left as they are: WAL and a busy timeout are yours to set.
        provider_registry: Reads stored provider configs; by default the built-in one.
        create: Whether a store is created where there is none.

    Attributes:
        path: Absolute path of the file; of a given engine what its URL says.
        engine: The SQLAlchemy engine.
        provider_registry: Reads stored provider configs.

    Raises:
        InvalidInputError: The database has no store, and ``create`` is False.
        StorageError: The file can't be created or opened, or is on a network file system.
        DatabaseVersionError: A newer version of this package wrote it.
    """

    def __init__(
        self,
        *,
        name: str = "default",
        path: str | Path | None = None,
        now: Callable[[], datetime] | None = None,
        engine: Engine | None = None,
        provider_registry: ProviderRegistry | None = None,
        create: bool = True,
    ) -> None:
        if engine is None:
            self.path = Path(path).expanduser().absolute() if path is not None else self.default_path(name)
            engine = _engine_for(self.path)
            wal = WriteAheadLog(self.path, engine)
        else:
            self.path = Path(engine.url.database or _IN_MEMORY)
            wal = None
            if str(self.path) != _IN_MEMORY:
                _warn_of_wal_reset_bug()
        database = SQLiteDatabase(engine, where=str(self.path), now=now, wal=wal)
        super().__init__(database, provider_registry=provider_registry, create=create)

    def __repr__(self) -> str:
        return f"SQLiteStorage(path={str(self.path)!r})"

    def artifact_root(self) -> Path | None:
        """Beside the file; none for a database in memory."""
        return None if str(self.path) == _IN_MEMORY else self.path.with_suffix(".artifacts")

    @staticmethod
    def default_path(name: str) -> Path:
        """``~/.batchor/<name>.sqlite3``; a blank name is ``default``."""
        plain = name.strip() or "default"
        if plain in (".", "..") or any(c in plain for c in "/\\\0"):
            raise InvalidInputError(
                f"store name {name!r} must be a plain file name; use path= for another place"
            )
        return Path.home() / ".batchor" / f"{plain}.sqlite3"


class SQLiteDatabase(Database):
    """SQLite's side of the SQL store."""

    def __init__(
        self,
        engine: Engine,
        *,
        where: str,
        now: Callable[[], datetime] | None = None,
        wal: WriteAheadLog | None = None,
    ) -> None:
        # on a branch of the engine, so that a given engine behaves as ever for its owner
        branch = engine.execution_options(batchor=True)
        event.listen(branch, "begin", _begin)
        event.listen(branch, "commit", _end)
        event.listen(branch, "rollback", _end)
        super().__init__(branch, now=now)
        self.where = where
        self._wal = wal

    def _is_passing(self, error: DBAPIError) -> bool:
        return getattr(error.orig, "sqlite_errorname", "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))

    def _explained(self, error: DBAPIError) -> str:
        """What happened, and what the user can do about it, if anything."""
        match str(getattr(error.orig, "sqlite_errorname", "")):
            case "SQLITE_BUSY":
                return f"{error.orig}: {_who_writes(writer_of(Path(self.where)))}"
            case "SQLITE_READONLY" | "SQLITE_READONLY_DIRECTORY" | "SQLITE_READONLY_DBMOVED":
                return f"{error.orig}: this process may not write to the file or to its folder, or somebody moved it"
            case "SQLITE_FULL":
                return (
                    f"{error.orig}: make room, then call refresh() or wait() again; what is stored is whole"
                )
            case name if name.startswith("SQLITE_IOERR"):
                return f"{error.orig} ({name}): the disk has failed or is full, or the size of files is limited (ulimit -f)"
            case _:
                return str(error.orig)

    def _after_write(self) -> None:
        if self._wal is not None:
            self._wal.carry_over_if_long()

    def time(self) -> float:
        return time.time() if self._now is None else super().time()

    def _database_time(self, connection: Connection) -> float:
        return time.time()  # SQLite runs in this process: its clock is this one

    def insert_many(
        self,
        connection: Connection,
        table: Table,
        columns: Sequence[str],
        rows: Sequence[Sequence[Any]],
        *,
        same: Mapping[str, Constant],
    ) -> None:
        # one statement for many rows costs less than one for each, and lets other threads run meanwhile
        if not rows:
            return
        constants, names, varying = without_constants(columns, rows)
        constants.update(same)
        raw: Any = connection.connection.driver_connection
        block = min(_INSERTED_AT_ONCE, raw.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER) // len(names))
        marks = ", ".join([*map(literal, constants.values()), *"?" * len(names)])
        head = f"INSERT INTO {self.name_of(table)} ({', '.join([*constants, *names])}) VALUES "  # noqa: S608 - names from schema.py
        for start in range(0, len(varying), block):
            chunk = varying[start : start + block]
            values = ", ".join([f"({marks})"] * len(chunk))
            connection.exec_driver_sql(head + values, tuple(chain.from_iterable(chunk)))

    def insert_long(
        self,
        connection: Connection,
        table: Table,
        columns: Sequence[str],
        rows: Sequence[Sequence[Any]],
        *,
        same: Mapping[str, Constant],
    ) -> None:
        # of a row among others SQLite makes one copy more; and the driver keeps what a statement was last given, so that
        # each is run again with nothing to insert
        constant, marks = [*map(literal, same.values())], ["?"] * len(columns)
        sql = (
            f"INSERT INTO {self.name_of(table)} ({', '.join([*same, *columns])}) "
            f"SELECT {', '.join([*constant, *marks])} WHERE ?"
        )
        for row in rows:
            connection.exec_driver_sql(sql, (*row, True))
            connection.exec_driver_sql(sql, (*[None] * len(columns), False))

    def _update_items(
        self,
        connection: Connection,
        run_key: int,
        columns: Sequence[str],
        rows: list[tuple[Any, ...]],
        *,
        same: Mapping[str, Constant],
    ) -> None:
        changed = ", ".join(
            [f"{name}={literal(value)}" for name, value in same.items()] + [f"{name}=?" for name in columns]
        )
        sql = f"UPDATE items SET {changed} WHERE run_key={int(run_key)} AND item_index=?"  # noqa: S608 - our own names
        connection.exec_driver_sql(sql, rows)

    def among(self, column: ColumnElement[Any], values: Sequence[int] | Sequence[str]) -> ColumnElement[bool]:
        # one JSON parameter: SQLite limits how many parameters a statement may have
        listed = func.json_each(orjson.dumps(list(values)).decode()).table_valued("value")
        return column.in_(select(type_coerce(listed.c.value, column.type)))

    def find_requests(
        self, connection: Connection, index: Table, scope_key: int | None, short_addresses: Sequence[int]
    ) -> list[tuple[int, int, int]]:
        # in this order, one search for each address; the planner would rather sort them once more
        sql = (
            f"SELECT short_address, run_key, item_index FROM json_each(?) CROSS JOIN {self.name_of(index)} "  # noqa: S608 - our own names
            "WHERE scope_key = ? AND short_address = value"
        )
        values = (orjson.dumps(short_addresses).decode(), scope_key)
        found: Any = connection.exec_driver_sql(sql, values).cursor
        return list(found)

    def lock_for_migration(self, connection: Connection) -> None:
        """BEGIN IMMEDIATE has locked everybody else out already."""

    def lock_budget(self, connection: Connection, key: str) -> None:
        """BEGIN IMMEDIATE has locked everybody else out already."""

    def create_namespace(self, connection: Connection) -> None:
        """A file has no schemas."""

    def create_tables(self, connection: Connection, tables: MetaData) -> None:
        for statement in creation(tables):
            connection.exec_driver_sql(statement)

    def describe_tables(self, connection: Connection) -> None:
        # SQLite has no figures until somebody runs ANALYZE, guesses that ten rows share a run, and then reads a whole
        # run where an index would find a batch. These are the proportions of a real one.
        connection.exec_driver_sql("ANALYZE items")  # creates the table of figures
        connection.exec_driver_sql(
            "DELETE FROM sqlite_stat1 WHERE tbl = ? AND idx = ?", [row[:2] for row in FIGURES]
        )
        connection.exec_driver_sql("INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES (?, ?, ?)", FIGURES)
        connection.exec_driver_sql("ANALYZE sqlite_schema")  # makes this connection read them


def _who_writes(writer: Writer | None) -> str:
    waited = f"for {BUSY_TIMEOUT_SEC:g} seconds another process was in the middle of a write"
    if writer is None:
        return f"{waited}; if it is stopped or hangs, resume it or end it. Then this step continues"
    if writer.is_stopped:
        return (
            f"{waited}. It is process {writer.pid}, which is stopped: resume it (kill -CONT {writer.pid}) or end it. "
            "Then this step continues"
        )
    return f"{waited}. It is process {writer.pid}: if it hangs, end it. Then this step continues"


def _begin(connection: Connection) -> None:
    """Begin the transaction ourselves.

    The driver would begin only before the first write, so that what was read before could change in between; and a
    transaction that begins as a reader can't always become a writer (SQLITE_BUSY_SNAPSHOT, at once, whatever the timeout).
    """
    raw: Any = connection.connection.driver_connection
    if raw.isolation_level is not None:
        connection.info["batchor_isolation_level"] = raw.isolation_level
        raw.isolation_level = None
    writes = connection.get_execution_options().get("batchor_write", False)
    statement = "BEGIN IMMEDIATE" if writes else "BEGIN"
    try:
        raw.execute(statement)  # every transaction begins here: SQLAlchemy's way costs as much as two queries
    except sqlite3.Error as error:
        raise OperationalError(statement, None, error) from error


def _end(connection: Connection) -> None:
    """Return a connection of the caller's engine unchanged."""
    if "batchor_isolation_level" in connection.info:
        raw: Any = connection.connection.driver_connection
        raw.isolation_level = connection.info.pop("batchor_isolation_level")


def _engine_for(path: Path) -> Engine:
    _check_filesystem(path)
    _create_file(path)
    engine = sharing_statements(
        create_engine(
            URL.create("sqlite", database=str(path)),
            connect_args={"timeout": BUSY_TIMEOUT_SEC},
            hide_parameters=True,  # they hold prompts and answers, which don't belong into error messages
        )
    )
    event.listen(engine, "connect", _configure)
    survive_fork(engine)
    return engine


def _configure(raw: Any, _record: object) -> None:
    raw.isolation_level = None
    cursor = raw.cursor()
    # Of a new file; an older one keeps its own. A row of item_contents is one or two kilobytes, and what is longer than
    # a quarter of a page goes to pages of its own: with the default of 4096, files were twice as large and filled at
    # half the speed.
    cursor.execute("PRAGMA page_size = 16384")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA wal_autocheckpoint = 0")  # see sqlite_wal.py
    # in WAL mode NORMAL may forget the last commits when the power fails: a forgotten submission is a batch paid twice
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA cache_size = -16384")
    cursor.execute("PRAGMA temp_store = MEMORY")
    if sys.platform == "darwin":
        cursor.execute("PRAGMA fullfsync = 1")
    cursor.close()


def check_no_folder(path: Path) -> None:
    """Raise StorageError if a path is that of a folder."""
    if path.is_dir():
        raise StorageError(f"{path} is a folder; the SQLite store needs the path of a file in it")


def _create_file(path: Path) -> None:
    """Create an empty file with mode 0600, which SQLite's ``-wal`` and ``-shm`` files inherit."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_no_folder(path)
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    except FileExistsError as error:
        if not path.exists():  # mkdir met a file
            raise StorageError(f"can't create {path}: {error.filename} is not a folder") from error
        return  # never open an existing one: closing it would drop the locks that this process holds on it
    except OSError as error:
        raise StorageError(
            f"can't create {path}: {error.strerror}. Give SQLiteStorage(path=...) a place that this process may write to."
        ) from error
    if hasattr(os, "fchmod"):
        os.fchmod(descriptor, 0o600)  # whatever the umask
    os.close(descriptor)


def _check_filesystem(path: Path) -> None:
    if os.environ.get(OVERRIDE):
        return
    try:
        mounts = Path("/proc/self/mountinfo").read_text()
    except OSError:
        return  # not Linux: nothing to look it up in
    kind = filesystem_of(path, mounts)
    if kind in NETWORK_FILESYSTEMS:
        raise StorageError(
            f"{path} is on a network file system ({kind}), where SQLite can corrupt its file. "
            f"Use a local disk or PostgresStorage; {OVERRIDE}=1 overrides this."
        )


def filesystem_of(path: Path, mountinfo: str) -> str | None:
    """Type of the file system that holds ``path``, by the text of ``/proc/self/mountinfo``."""
    target = os.path.realpath(path)
    longest, kind = -1, None
    for line in mountinfo.splitlines():
        mounted, _, device = line.partition(" - ")
        fields = mounted.split(" ")
        if len(fields) < 5 or not device:
            continue
        point = fields[4].encode().decode("unicode_escape")  # blanks are written as \040
        inside = target == point or target.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= longest:  # of two mounts on one point the later one is seen
            longest, kind = len(point), device.split(" ")[0]
    return kind
