"""Where a batch in YAML gets its rows: files, a query, or an upstream asset."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from batchor_core import BatchItem, SqlItemSource
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.sources import RowItemSource
from batchor_core.sources.files import source_of
from batchor_core.sources.rows import Row, json_safe

UPSTREAM = "rows"
"""Name of the input by which a batch gets what its upstream asset holds."""

_PARTITION = re.compile(r"(?<![:\w]):partition\b")  # ::partition is a cast of PostgreSQL


class Source(dg.Model, dg.Resolvable):
    """The rows, from one of three places: ``path``, ``sql`` with ``connection``, or ``asset``."""

    path: str | None = Field(
        default=None,
        description="A .csv, .jsonl or .parquet file, or a pattern such as data/*.csv.gz, relative to this YAML file, or its URL; "
        "{partition} stands for the partition key.",
    )
    sql: str | None = Field(
        default=None,
        description="A SELECT whose rows are sent; :partition stands for the partition key. Needs connection.",
    )
    connection: str | dict[str, str] | None = Field(
        default=None,
        description="With sql: the database, as a SQLAlchemy URL. {env: NAME} reads a variable when the query runs, so that no "
        "password is in the YAML.",
    )
    asset: str | None = Field(
        default=None,
        description="Key of an upstream asset, with slashes: its frame, table or list of dicts has the rows.",
    )
    id_column: str = Field(
        default="id", description="Column with the id of each row, unique within the partition."
    )

    def check(self, batch: str, *, is_partitioned: bool) -> None:
        """Refuse what can't give rows, when the definitions are loaded.

        Raises:
            InvalidInputError: There is no place for the rows, or more than one, or half of one.
        """
        given = [name for name in ("path", "sql", "asset") if getattr(self, name) is not None]
        if len(given) != 1:
            raise InvalidInputError(
                f"{batch}: source needs one of path, sql and asset, and has {' and '.join(given) or 'none of them'}"
            )
        if (self.sql is None) != (self.connection is None):
            missing = "connection" if self.connection is None else "sql"
            raise InvalidInputError(
                f"{batch}: sql and connection belong together, and source has no {missing}"
            )
        if self.sql is not None and _PARTITION.search(self.sql) and not is_partitioned:
            raise InvalidInputError(
                f"{batch}: the query has :partition, and the batch has no partitions. Give it partitions, or remove the condition"
            )
        if self.path is not None and "{partition}" in self.path and not is_partitioned:
            raise InvalidInputError(
                f"{batch}: the path {self.path} has {{partition}}, and the batch has no partitions. Give it partitions, or name the file"
            )
        if isinstance(self.connection, Mapping) and self.connection.keys() != {"env"}:
            raise InvalidInputError(
                f"{batch}: connection must be a SQLAlchemy URL or {{env: NAME}}, and has the keys "
                f"{', '.join(map(str, self.connection))}"
            )

    @property
    def described(self) -> str:
        """In a few words, for the asset's description."""
        if self.asset is not None:
            return f"the rows of {self.asset}"
        return "the rows of a query" if self.path is None else self.path

    @property
    def inputs(self) -> dict[str, dg.AssetIn] | None:
        """What the step that reads the rows is given by Dagster."""
        if self.asset is None:
            return None
        return {UPSTREAM: dg.AssetIn(key=dg.AssetKey.from_user_string(self.asset))}

    def items(
        self, folder: Path, partition_key: str | None, upstream: Any = None
    ) -> Iterable[BatchItem[Row]]:
        """The rows of one partition.

        Args:
            folder: In which a relative path begins.
            partition_key: None without partitions.
            upstream: With ``asset``: what that holds.
        """
        if self.asset is not None:
            return RowItemSource(upstream, item_id_from_row=self._item_id, name=self.asset)
        if self.sql is not None:
            params = {"partition": partition_key} if _PARTITION.search(self.sql) else None
            return SqlItemSource(self._database(), self.sql, params, item_id_from_row=self._item_id)
        path = str(self.path).replace("{partition}", partition_key or "")
        return source_of(
            path if "://" in path else folder / path,
            item_id_from_row=self._item_id,
            payload_from_row=json_safe,
        )

    def _item_id(self, row: Row) -> str:
        return str(row[self.id_column])

    def _database(self) -> str:
        if isinstance(self.connection, Mapping):
            name = self.connection["env"]
            url = dg.EnvVar(name).get_value()
            if not url:
                raise InvalidInputError(
                    f"source.connection is {{env: {name}}}, and that variable is not set. Set it to a SQLAlchemy URL, such as "
                    "postgresql+psycopg://user:password@host/name"
                )
            return url
        return str(self.connection)
