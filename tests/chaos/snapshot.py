"""Keeping a database and putting it back later: the backup of yesterday night."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Protocol

import psycopg
from psycopg import sql


class Snapshot(Protocol):
    """A database that can be kept and put back."""

    def keep(self) -> None:
        """Remember what it holds."""

    def put_back(self) -> None:
        """Let it hold that again."""


class SQLiteSnapshot:
    """A file, with what its WAL holds."""

    def __init__(self, path: Path) -> None:
        self._path, self._kept = path, path.with_suffix(".kept")

    def keep(self) -> None:
        with closing(sqlite3.connect(self._path)) as live, closing(sqlite3.connect(self._kept)) as kept:
            live.backup(kept)

    def put_back(self) -> None:
        with closing(sqlite3.connect(self._kept)) as kept, closing(sqlite3.connect(self._path)) as live:
            kept.backup(live)


class PostgresSnapshot:
    """The tables of a schema, copied to tables beside them."""

    def __init__(self, dsn: str, schema: str) -> None:
        self._dsn, self._schema = dsn, schema

    def keep(self) -> None:
        with psycopg.connect(self._dsn) as connection:
            for table in self._tables(connection):
                live, kept = self._name(table), self._name(f"kept_{table}")
                connection.execute(sql.SQL("CREATE TABLE {} AS TABLE {}").format(kept, live))

    def put_back(self) -> None:
        with psycopg.connect(self._dsn) as connection:
            connection.execute(
                "SET LOCAL session_replication_role = replica"
            )  # no foreign keys while tables fill
            tables = self._tables(connection)
            for table in tables:
                connection.execute(sql.SQL("DELETE FROM {}").format(self._name(table)))
            for table in tables:
                kept = self._name(f"kept_{table}")
                connection.execute(
                    sql.SQL("INSERT INTO {} OVERRIDING SYSTEM VALUE TABLE {}").format(self._name(table), kept)
                )

    def _tables(self, connection: psycopg.Connection) -> list[str]:
        found = connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = %s AND NOT starts_with(tablename, 'kept_')",
            [self._schema],
        )
        return [name for (name,) in found]

    def _name(self, table: str) -> sql.Identifier:
        return sql.Identifier(self._schema, table)
