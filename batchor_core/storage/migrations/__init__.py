"""Bringing a database to the schema that this version reads and writes.

A fresh database gets the tables of ``schema.py`` at once; an older one goes through the revisions in ``versions``, and a
test holds both ways to the same result. Either way it is one transaction, and one process at a time: of several that
start together, the first does the work and the others find it done.
"""

from __future__ import annotations

from pkgutil import iter_modules

from sqlalchemy import Column, Connection, MetaData, String, Table, inspect, select

from batchor_core.core.boundaries import Boundary
from batchor_core.core.exceptions import DatabaseVersionError, InvalidInputError
from batchor_core.storage.migrations import versions
from batchor_core.storage.schema import metadata
from batchor_core.storage.sql_engine import Database

KNOWN = tuple(sorted(name.partition("_")[0] for _, name, _ in iter_modules(versions.__path__)))
"""Every revision, oldest first: those that there are files of."""

HEAD = KNOWN[-1]
"""The revision that ``schema.py`` describes."""

VERSION_TABLE = "batchor_schema_version"

# the layout is Alembic's
_version = Table(VERSION_TABLE, MetaData(), Column("version_num", String(32), primary_key=True))


def bring_up_to_date(database: Database, *, create: bool = True) -> None:
    """Create or migrate the tables where that is needed.

    Raises:
        InvalidInputError: There are none, and ``create`` is False.
        DatabaseVersionError: The database has a revision that this version does not know.
        StorageError: The database can't be reached or written.
    """
    with database.read() as connection:
        found = _revision(database, connection)
    if found == HEAD:
        return
    if found is None and not create:
        raise InvalidInputError(f"there is no batchor store at {database.where}; check the name")
    with database.write(Boundary.MIGRATE) as connection:
        database.lock_for_migration(connection)
        found = _revision(database, connection)
        if found is None:
            database.create_namespace(connection)
            database.create_tables(connection, metadata)
            database.create_tables(connection, _version.metadata)
            connection.execute(_version.insert().values(version_num=HEAD))
        elif found != HEAD:
            upgrade(database, connection)
        database.describe_tables(connection)


def upgrade(database: Database, connection: Connection, *, to: str = "head") -> None:
    """Run the revisions that are still missing."""
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", "batchor_core.storage:migrations")
    scripts = ScriptDirectory.from_config(config)
    with EnvironmentContext(
        config, scripts, fn=lambda revision, _context: scripts._upgrade_revs(to, revision)
    ) as environment:
        environment.configure(
            connection=connection,
            target_metadata=metadata,
            version_table=VERSION_TABLE,
            version_table_schema=database.schema,
        )
        environment.run_migrations()


def revision_of(database: Database) -> str | None:
    """The revision of a database's tables; None if there are none. Changes nothing.

    Raises:
        DatabaseVersionError: This version does not know the revision.
        StorageError: The database can't be reached.
    """
    with database.read() as connection:
        return _revision(database, connection)


def _revision(database: Database, connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSION_TABLE, schema=database.schema):
        return None
    found = connection.execute(select(_version.c.version_num)).scalar()
    if found is not None and found not in KNOWN:
        raise DatabaseVersionError(found, database.where)
    return found
