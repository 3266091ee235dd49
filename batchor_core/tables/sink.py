"""What a table format has to do: write a partition as a whole, report its facts, open partitions as one data set.

A :class:`ResultSink` is a format with its settings, such as ``DeltaSink(url="s3://bucket/results")``; its
:class:`ResultTable` is the table of one asset. Another format is one file that implements both, and a line in
``registry``.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import pyarrow as pa
from pydantic import BaseModel

from batchor_core.core.outputs import OutputSpec
from batchor_core.core.types import JSONObject
from batchor_core.tables.report import TableReport
from batchor_core.tables.stream import RowPages

if TYPE_CHECKING:  # it imports pandas, if that is there, which takes a second of every process
    import pyarrow.dataset as pads


@dataclass(frozen=True, slots=True)
class PartitionFacts:
    """Facts about a partition that are known without reading its rows.

    Attributes:
        schema: Its columns.
        rows: All rows.
        answered: Rows with an answer.
        unfitting: Answers that the model did not take.
        size_bytes: What it takes on disk.
    """

    schema: pa.Schema
    rows: int
    answered: int
    unfitting: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class PartitionsRead:
    """Partitions as one data set.

    Attributes:
        dataset: Nothing of it is read yet. None if none of the partitions has been written.
        missing: Those that have not been written.
    """

    dataset: pads.Dataset | None
    missing: Sequence[str | None]


class ResultTable(ABC):
    """The results of one asset: a partition for each of its partition keys, or one whose key is None."""

    @abstractmethod
    def where(self, partition: str | None) -> str:
        """The path or URL of a partition, or of the table that holds it."""

    @abstractmethod
    def write(
        self,
        run: RowPages,
        partition: str | None,
        output: type[BaseModel] | OutputSpec | None,
    ) -> TableReport:
        """Replace the partition's rows with a run's results. A reader sees either the old rows or the new ones.

        A crash or an error leaves the old ones; writing again is safe.

        Args:
            run: A ``batchor_core.Run``.
            partition: Its key.
            output: The run's output, or the model of a structured run.

        Raises:
            InvalidInputError: The format does not support such a partition or such columns.
            OSError: The place can't be written to.
        """

    @abstractmethod
    def facts(self, partitions: Sequence[str | None]) -> list[PartitionFacts]:
        """The facts of each of these partitions that has been written."""

    def facts_by_partition(self, partitions: Sequence[str | None]) -> Mapping[str | None, PartitionFacts]:
        """The same by partition. Override it if one look is enough for many partitions."""
        found = {key: self.facts([key]) for key in partitions}
        return {key: facts[0] for key, facts in found.items() if facts}

    @abstractmethod
    def read(self, partitions: Sequence[str | None]) -> PartitionsRead:
        """Open partitions as one data set, with all columns of all partitions.

        Raises:
            InvalidInputError: A partition can't be read, or no type fits their values in a column. Names the
                partitions.
        """

    def stored_schema(self, schema: pa.Schema) -> pa.Schema:
        """The columns of a partition that was written with these; they differ if the format lacks a type."""
        return schema


@dataclass(frozen=True)
class ResultSink(ABC):
    """A table format and its settings: a frozen dataclass without secrets, since the settings are shown and stored.

    Attributes:
        kind: The format's name.
        url: Folder or URL of all tables; the default is the deployment's folder of results.
    """

    kind: ClassVar[str]

    url: str | None = None

    @abstractmethod
    def table(self, base: str, key: Sequence[str]) -> ResultTable:
        """The table of one asset. Opens nothing.

        Args:
            base: Folder or URL of all results, used if ``url`` is left out.
            key: The path of the asset key.
        """

    def to_payload(self) -> JSONObject:
        """As ``sink_of`` reads it: the kind, and those settings that are not the default."""
        given = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        }
        return {"kind": self.kind, **given}
