"""A Parquet file for each partition: ``<base>/<asset key path>/<partition>.parquet``."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa
from pydantic import BaseModel

from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.outputs import OutputSpec
from batchor_core.tables.common_schema import unified_schema
from batchor_core.tables.parquet_file import integer_ranges, parquet_facts, write_results_parquet
from batchor_core.tables.partition_files import PartitionFiles, partition_path
from batchor_core.tables.places import place_of
from batchor_core.tables.report import TableReport
from batchor_core.tables.sink import PartitionFacts, PartitionsRead, ResultSink, ResultTable
from batchor_core.tables.stream import RowPages

_FOOTERS_AT_ONCE = 16


@dataclass(frozen=True)
class ParquetSink(ResultSink):
    """Parquet files; most tools can read a folder of them.

    Attributes:
        url: Folder or URL of all tables; the default is the deployment's folder of results.
    """

    kind: ClassVar[str] = "parquet"

    def table(self, base: str, key: Sequence[str]) -> ResultTable:
        """The files of one asset."""
        return _ParquetTable(self.url or base, key)


@dataclass(frozen=True, slots=True)
class _File:
    path: str
    facts: PartitionFacts


class _ParquetTable(ResultTable):
    def __init__(self, base: str, key: Sequence[str]) -> None:
        self._base = base
        self._key = key

    def where(self, partition: str | None) -> str:
        return partition_path(self._base, self._key, partition)

    def write(
        self,
        run: RowPages,
        partition: str | None,
        output: type[BaseModel] | OutputSpec | None,
    ) -> TableReport:
        PartitionFiles(self._base, self._key).adopt(partition)
        return write_results_parquet(run, self.where(partition), output)

    def facts(self, partitions: Sequence[str | None]) -> list[PartitionFacts]:
        return list(self.facts_by_partition(partitions).values())

    def facts_by_partition(self, partitions: Sequence[str | None]) -> dict[str | None, PartitionFacts]:
        return {key: file.facts for key, file in self._look(partitions).items() if file is not None}

    def read(self, partitions: Sequence[str | None]) -> PartitionsRead:
        looked = self._look(partitions)
        missing = [key for key, file in looked.items() if file is None]
        found = {_name(key): file for key, file in looked.items() if file is not None}
        if not found:
            return PartitionsRead(None, missing)
        schema = unified_schema(
            {name: file.facts.schema for name, file in found.items()},
            lambda name: integer_ranges(found[name].path),
        )
        import pyarrow.dataset as pads  # see tables/sink.py

        places = [place_of(file.path) for file in found.values()]
        dataset = pads.dataset(
            [place.path for place in places], schema=schema, filesystem=places[0].files, format="parquet"
        )
        return PartitionsRead(dataset, missing)

    def _look(self, partitions: Sequence[str | None]) -> dict[str | None, _File | None]:
        files = PartitionFiles(self._base, self._key)
        with ThreadPoolExecutor(_FOOTERS_AT_ONCE) as pool:
            looked = pool.map(lambda key: _file(key, files.existing(key)), partitions)
            return dict(zip(partitions, looked, strict=True))


def _file(partition: str | None, path: str | None) -> _File | None:
    if path is None:
        return None
    try:
        facts = parquet_facts(path)
    except (OSError, pa.ArrowException) as error:
        raise InvalidInputError(
            f"{_name(partition)}: {path} can't be read ({error}); if the file is damaged, materialize it again"
        ) from error
    return None if facts is None else _File(path, facts)


def _name(partition: str | None) -> str:
    return "its file" if partition is None else partition
