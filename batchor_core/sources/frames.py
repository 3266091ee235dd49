"""Frames and tables of any library as items, through Arrow.

Most libraries export their rows through the Arrow C stream interface; the others have their own conversion to Arrow.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from batchor_core.core.exceptions import BatchorError, InvalidInputError
from batchor_core.core.models import PayloadT
from batchor_core.sources.arrow_digest import content_digest
from batchor_core.sources.arrow_rows import Problem, check_columns
from batchor_core.sources.base import RowPlaces, SourceIdentity
from batchor_core.sources.rows import ItemIdFromRow, MetadataFromRow, Row, column_names
from batchor_core.sources.snapshot import RowStream, TableItemSource

_BATCH_ROWS = 10_000
_UNREADABLE = (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError)
_UNNAMED_INDEX = "__index_level_"
"""How the column begins that pandas makes of an index without a name."""


class FrameItemSource(TableItemSource[PayloadT]):
    """The rows of a frame of any library as items.

    ``frame`` is a pandas DataFrame; a Polars DataFrame or LazyFrame; a pyarrow Table, RecordBatch, RecordBatchReader or
    Dataset; a DuckDB relation; a Hugging Face Dataset or IterableDataset; or anything else with ``__arrow_c_stream__``.

    A run first copies the rows to its artifacts and resumes from that copy after a crash. A frame that holds its rows
    is identified by them: the same run id with other rows is refused. A LazyFrame, a relation or another object that
    makes its rows when it is read is identified by its columns while the run is active; it is not read again then.

    The functions get Python values: ``datetime``, ``Decimal``, ``bytes``, lists, dicts; nanoseconds are cut to the
    microseconds that ``datetime`` holds. NaN, infinity and other missing values are None. A pandas index is a column if
    it has a name.

    Arguments besides those of :class:`~batchor_core.sources.TableItemSource`:
        frame: The rows.
        columns: Columns to read and to keep, all by default.

    Raises:
        SourceRowError: While reading; names the 1-based row and the column.
    """

    kind = "frame"

    def __init__(
        self,
        frame: Any,
        *,
        item_id_from_row: ItemIdFromRow,
        payload_from_row: Callable[[Row], PayloadT] | None = None,
        metadata_from_row: MetadataFromRow | None = None,
        columns: Sequence[str] | None = None,
        name: str = "frame",
        primary_key: str | None = None,
        partition_id: str | None = None,
    ) -> None:
        super().__init__(
            name,
            item_id_from_row=item_id_from_row,
            payload_from_row=payload_from_row,
            metadata_from_row=metadata_from_row,
            primary_key=primary_key,
            partition_id=partition_id,
        )
        if not is_frame(frame):
            raise InvalidInputError(
                f"{name} must be a frame, a table or another object with __arrow_c_stream__, and is of type "
                f"{type(frame).__name__}; RowItemSource takes an iterable of mappings"
            )
        self.frame = frame
        self.columns = column_names(columns)
        self._was_read = False

    @property
    def is_read_once(self) -> bool:
        """Whether the rows are gone after one reading: those of a RecordBatchReader."""
        return isinstance(self.frame, pa.RecordBatchReader)

    @property
    def is_known_by_content(self) -> bool:
        """Whether the frame holds its rows. DuckDB's relations have a length, which they count each time."""
        return hasattr(self.frame, "__len__") and not hasattr(self.frame, "sql_query")

    def source_identity(self) -> SourceIdentity:
        """The kind, the name, and a digest of the content; of the columns alone, if reading them would make the rows."""
        if self.is_known_by_content:
            stream = self.stream()
            return SourceIdentity(self.kind, self.name, content_digest(stream.schema, stream.batches))
        schema = self._selected(columns_of(self.frame, self.mapping.error))
        return SourceIdentity(self.kind, self.name, content_digest(schema, ()))

    def places(self, rows: Collection[int]) -> RowPlaces | None:
        """Where these 0-based rows are, if the frame holds its rows."""
        if not self.is_known_by_content:
            return None
        count = len(self.frame)
        return RowPlaces({row: f"{self.name}, row {row + 1}" for row in rows if row < count}, count)

    def stream(self) -> RowStream:
        """The rows from the first one on."""
        if self.is_read_once and self._was_read:
            raise self.mapping.error(
                "a RecordBatchReader can be read only once, and has been read already; create a new one"
            )
        self._was_read = True
        schema, batches = record_batches(self.frame, self.mapping.error)
        selected = self._selected(schema)
        return RowStream(selected, (batch.select(selected.names) for batch in batches))

    def _selected(self, schema: pa.Schema) -> pa.Schema:
        names = self.columns or [name for name in schema.names if not name.startswith(_UNNAMED_INDEX)]
        for column in names:
            if column not in schema.names:
                there = ", ".join(map(repr, schema.names[:20]))
                raise self.mapping.error(
                    f"there is no such column to read; the columns are {there}", column=column
                )
        return pa.schema([schema.field(name) for name in names])


def is_frame(data: Any) -> bool:
    """Whether :func:`record_batches` takes it."""
    if isinstance(data, type):
        return False
    return (
        hasattr(data, "__arrow_c_stream__")
        or _is_dataset(data)
        or hasattr(data, "with_format")
        or _is_lazy(data)
    )


def record_batches(data: Any, problem: Problem) -> RowStream:
    """The rows of a frame; what is wrong with them is raised as an error of ours, with the 1-based row.

    Args:
        data: The frame.
        problem: Makes the error.
    """
    if hasattr(data, "with_format"):
        schema = _hugging_face_schema(data, problem)
        tables = data.with_format("arrow").iter(batch_size=_BATCH_ROWS)
        batches = (batch for table in tables for batch in table.cast(schema).to_batches())
    elif _is_dataset(data):
        schema, batches = data.schema, data.to_batches(batch_size=_BATCH_ROWS)
    else:
        if _is_lazy(data):
            with _computed(problem):
                data = data.collect()
        reader = _reader(data, problem)
        schema, batches = reader.schema, iter(reader)
    check_columns(schema.names, problem)
    return RowStream(schema, _readable(batches, problem))


def columns_of(data: Any, problem: Problem) -> pa.Schema:
    """The columns of a frame, without making its rows where the library can tell them so."""
    if hasattr(data, "with_format"):
        return _hugging_face_schema(data, problem)
    if _is_dataset(data) or isinstance(data, pa.RecordBatchReader):
        schema: pa.Schema = data.schema
        return schema
    if _is_lazy(data):
        with _computed(problem):
            data = data.collect_schema().to_frame()
    elif hasattr(data, "sql_query"):
        with _computed(problem):
            data = data.limit(0)
    return _reader(data, problem).schema


def _is_dataset(data: Any) -> bool:
    """Whether it is a pyarrow Dataset. Importing theirs takes a second where pandas is installed; whoever has one has done it."""
    datasets = sys.modules.get("pyarrow.dataset")
    return datasets is not None and isinstance(data, datasets.Dataset)


def _is_lazy(data: Any) -> bool:
    """Whether it is a Polars LazyFrame."""
    return (
        type(data).__module__.partition(".")[0] == "polars"
        and hasattr(data, "collect_schema")
        and hasattr(data, "collect")
    )


def _hugging_face_schema(data: Any, problem: Problem) -> pa.Schema:
    if isinstance(data, Mapping):
        raise problem(f"this is a dict of data sets; give one of {', '.join(map(repr, data))}")
    if data.features is None:
        raise problem(
            "the data set does not say which columns it has; give it features, or call resolve_features()"
        )
    return data.features.arrow_schema.remove_metadata()


def _reader(data: Any, problem: Problem) -> pa.RecordBatchReader:
    data = _with_named_range(data)
    # pyarrow 21 crashes on views that went through its own stream
    if isinstance(data, pa.Table | pa.RecordBatchReader):
        return data.to_reader() if isinstance(data, pa.Table) else data
    check_columns([name for name in getattr(data, "columns", ()) if isinstance(name, str)], problem)
    dtypes = getattr(data, "schema", None)
    for name, dtype in dtypes.items() if isinstance(dtypes, Mapping) else ():
        if str(dtype) == "Object":  # Polars hands out the objects' addresses
            raise problem(
                "Polars can't export a column of Python objects; give it another type", column=str(name)
            )
    with _computed(problem):
        try:
            return pa.RecordBatchReader.from_stream(data)
        except (*_UNREADABLE, ValueError, TypeError, OverflowError) as error:
            line, column = _unfit_place(data)
            said = f"the data has no Arrow form ({_words(error)}); {_fix(error)}"
            raise problem(said, line=line, column=column) from error


def _with_named_range(data: Any) -> Any:
    """A pandas frame whose index counts rows and has a name, with it as a column; others have their columns from pandas itself."""
    index = getattr(data, "index", None)
    name = getattr(index, "name", None)
    is_left_out = type(index).__name__ == "RangeIndex" and name is not None and name not in data.columns
    return data.reset_index() if is_left_out else data


@contextmanager
def _computed(problem: Problem) -> Iterator[None]:
    """What a library says while it makes the rows, in classes of its own, becomes an error of ours."""
    try:
        yield
    except (BatchorError, OSError, MemoryError):
        raise  # OSError may pass: a step is tried again after it
    except Exception as error:
        said = str(error).partition("\n")[0]
        raise problem(f"the frame can't be computed: {type(error).__name__}: {said}") from error


def _unfit_place(data: Any) -> tuple[int | None, str | None]:
    """The 1-based row and the column of the first value of a pandas frame that has no Arrow form by itself, if there is one."""
    names = getattr(data, "columns", ())
    if not callable(getattr(data, "items", None)) or len(set(names)) < len(names):
        return None, None
    for name, column in data.items():
        if hasattr(column, "sparse"):
            return None, str(name)
        if str(getattr(column, "dtype", "")) != "object":
            continue
        for row, value in enumerate(column, 1):
            try:
                pa.array([value])
            except Exception:  # of any class: what raises is what is looked for
                return row, str(name)
    return None, None


def _fix(error: Exception) -> str:
    if isinstance(error, OverflowError):
        return "an integer beyond 64 bits has none: convert the column to strings, or give the rows as dicts to RowItemSource"
    if isinstance(error, UnicodeError):
        return "half a surrogate pair is no text: remove it, or replace it with text.encode('utf-8', 'replace').decode()"
    if "non-struct" in str(error):
        return "it is one column; give a frame, such as series.to_frame()"
    if "format string" in str(error):
        return "pyarrow does not know the type of a column; cast it, such as to strings"
    if "parse" in str(error):  # sparse
        return "call frame.sparse.to_dense() first"
    return "give every column one type"


def _readable(batches: Iterator[pa.RecordBatch], problem: Problem) -> Iterator[pa.RecordBatch]:
    line = 1
    try:
        for batch in batches:
            yield batch
            line += batch.num_rows
    except _UNREADABLE as error:  # not OSError, which may pass: a step is tried again after it
        raise problem(f"the data can't be read ({_words(error)})", line=line) from error


def _words(error: Exception) -> str:
    # half of a surrogate pair can't be printed
    return "; ".join(map(str, error.args)).encode("utf-8", "backslashreplace").decode()
