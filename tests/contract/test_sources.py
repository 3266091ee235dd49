"""Every source: stop anywhere, go on in another process, and get the same rest."""

from __future__ import annotations

import codecs
import itertools
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import adbc_driver_sqlite.dbapi
import datasets
import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchor_core.artifacts.local import LocalArtifactStore
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.models import BatchItem
from batchor_core.runtime.snapshots import RunSnapshots
from batchor_core.sources.base import (
    CheckpointedItemSource,
    IndexedBatchItem,
    ResumableItemSource,
    SourceIdentity,
)
from batchor_core.sources.composite import CompositeItemSource
from batchor_core.sources.files import CsvItemSource, JsonlItemSource, ParquetItemSource
from batchor_core.sources.frames import FrameItemSource
from batchor_core.sources.sql import SqlItemSource

Rows = list[dict[str, str]]
Make = Callable[[Path, Rows], CheckpointedItemSource[Any]]

CALLBACKS: dict[str, Any] = {
    "item_id_from_row": lambda row: row["id"],
    "payload_from_row": lambda row: {"text": row["text"]},
    "metadata_from_row": lambda row: {"length": len(row["text"])},
}


def quoted(value: str) -> str:
    return '"' + value.replace('"', '""') + '"'


def csv_source(
    folder: Path, rows: Rows, encoding: str = "utf-8", newline: str = "\r\n"
) -> CheckpointedItemSource[Any]:
    path = folder / "rows.csv"
    lines = ["id,text", *(f"{row['id']},{quoted(row['text'])}" for row in rows)]
    path.write_bytes((newline.join(lines) + newline).encode(encoding))
    return CsvItemSource(path, encoding=encoding, **CALLBACKS)


def jsonl_source(
    folder: Path, rows: Rows, encoding: str = "utf-8", ascii_only: bool = False
) -> CheckpointedItemSource[Any]:
    path = folder / "rows.jsonl"
    text = "\n".join(
        json.dumps(row, ensure_ascii=ascii_only) for row in rows
    )  # no line end after the last one
    path.write_bytes(text.encode(encoding))
    return JsonlItemSource(path, encoding=encoding, **CALLBACKS)


def compressed(make: Make) -> Make:
    def made(folder: Path, rows: Rows) -> CheckpointedItemSource[Any]:
        source: Any = make(folder, rows)
        source.path.write_bytes(pa.compress(source.path.read_bytes(), codec="zstd", asbytes=True))
        return source  # type: ignore[no-any-return]

    return made


def folder_source(folder: Path, rows: Rows) -> CheckpointedItemSource[Any]:
    shutil.rmtree(folder / "rows", ignore_errors=True)
    for number in range(0, len(rows) + 1, 4):
        (folder / "rows" / f"{number:02}").mkdir(parents=True)
        jsonl_source(folder / "rows" / f"{number:02}", rows[number : number + 4])
    return JsonlItemSource(folder / "rows", **CALLBACKS)


def parquet_source(folder: Path, rows: Rows) -> CheckpointedItemSource[Any]:
    path = folder / "rows.parquet"
    schema = pa.schema([("id", pa.string()), ("text", pa.string())])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path, row_group_size=3)
    return ParquetItemSource(path, **CALLBACKS)


def composite_source(folder: Path, rows: Rows) -> CheckpointedItemSource[Any]:
    third = len(rows) // 3
    parts = [rows[:third], rows[third : 2 * third], [], rows[2 * third :]]
    made = []
    makers: list[Callable[[Path, Rows], CheckpointedItemSource[Any]]] = [
        csv_source,
        jsonl_source,
        csv_source,
        parquet_source,
    ]
    for index, (make, part) in enumerate(zip(makers, parts, strict=True)):
        (folder / str(index)).mkdir(exist_ok=True)
        made.append(make(folder / str(index), part))
    return CompositeItemSource(made)


SCHEMA = pa.schema([("id", pa.string()), ("text", pa.string())])
_moments = itertools.count()
_opened: list[Any] = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while _opened:
        _opened.pop().close()


def table_of(rows: Rows) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def dataset_of(folder: Path, rows: Rows) -> pads.Dataset:
    pq.write_table(table_of(rows), folder / "rows.parquet", row_group_size=3)
    return pads.dataset(folder / "rows.parquet")


FRAMES: dict[str, Callable[[Path, Rows], Any]] = {
    "pandas": lambda _, rows: pd.DataFrame(rows, columns=["id", "text"], dtype="string"),
    "polars": lambda _, rows: pl.DataFrame(rows, schema={"id": pl.String, "text": pl.String}),
    "arrow table": lambda _, rows: table_of(rows),
    "hugging face": lambda _, rows: datasets.Dataset(table_of(rows)),
}
"""Frames that hold their rows."""

RECIPES: dict[str, Callable[[Path, Rows], Any]] = {
    "polars lazy": lambda _, rows: pl.LazyFrame(rows, schema={"id": pl.String, "text": pl.String}),
    "data set of files": dataset_of,
    "duckdb": lambda _, rows: duckdb.connect().from_arrow(table_of(rows)),
    "hugging face, iterable": lambda _, rows: datasets.IterableDataset.from_generator(
        lambda: iter(rows), features=datasets.Features.from_arrow_schema(SCHEMA)
    ),
}
"""Frames that make their rows when they are read."""


def frame_source(make: Callable[[Path, Rows], Any]) -> Make:
    return lambda folder, rows: FrameItemSource(make(folder, rows), **CALLBACKS)


def database(folder: Path, rows: Rows) -> Path:
    path = folder / "rows.sqlite3"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("drop table if exists rows")
        connection.execute("create table rows (id text, text text)")
        connection.executemany("insert into rows values (:id, :text)", rows)
    return path


def sql_source(folder: Path, rows: Rows) -> CheckpointedItemSource[Any]:
    return SqlItemSource(f"sqlite:///{database(folder, rows)}", "select * from rows", **CALLBACKS)


def adbc_source(folder: Path, rows: Rows) -> CheckpointedItemSource[Any]:
    connection = adbc_driver_sqlite.dbapi.connect(str(database(folder, rows)))
    _opened.append(connection)
    return SqlItemSource(connection, "select * from rows where id > ?", [""], **CALLBACKS)


def kept(make: Make) -> Make:
    """As a new run has it."""

    def made(folder: Path, rows: Rows) -> CheckpointedItemSource[Any]:
        artifacts = LocalArtifactStore(folder / "artifacts")
        return make(folder, rows).with_snapshots(RunSnapshots(artifacts, "run", next(_moments)))

    return made


def several_frames(folder: Path, rows: Rows) -> CheckpointedItemSource[Any]:
    half = len(rows) // 2
    return CompositeItemSource(
        [
            FrameItemSource(pl.DataFrame(rows[:half], schema=["id", "text"]), **CALLBACKS),
            csv_source(folder, rows[half:]),
            FrameItemSource(table_of([]), **CALLBACKS),
        ]
    )


class ListSource(ResumableItemSource[Any]):
    """A user's own source: the two abstract methods and nothing else."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    def source_identity(self) -> SourceIdentity:
        return SourceIdentity("list", "memory", str(hash(json.dumps(self.rows))))

    def iter_from(self, item_index: int) -> Iterator[IndexedBatchItem[Any]]:
        for index in range(item_index, len(self.rows)):
            row = self.rows[index]
            yield IndexedBatchItem(
                index, BatchItem(row["id"], {"text": row["text"]}, {"length": len(row["text"])})
            )


MAKERS: dict[str, Make] = {
    "csv": csv_source,
    "csv, unix": lambda folder, rows: csv_source(folder, rows, newline="\n"),
    "csv, utf-8-sig": lambda folder, rows: csv_source(folder, rows, "utf-8-sig"),
    "csv, utf-16": lambda folder, rows: csv_source(folder, rows, "utf-16"),
    "jsonl": jsonl_source,
    "jsonl, utf-8-sig": lambda folder, rows: jsonl_source(folder, rows, "utf-8-sig"),
    "jsonl, utf-16": lambda folder, rows: jsonl_source(folder, rows, "utf-16"),
    "jsonl, cp1252": lambda folder, rows: jsonl_source(folder, rows, "cp1252", ascii_only=True),
    "jsonl, iso2022_jp": lambda folder, rows: jsonl_source(folder, rows, "iso2022_jp", ascii_only=True),
    "csv, compressed": compressed(csv_source),
    "jsonl, compressed": compressed(jsonl_source),
    "folder": folder_source,
    "parquet": parquet_source,
    "composite": composite_source,
    "own": lambda folder, rows: ListSource(rows),
    **{name: frame_source(make) for name, make in FRAMES.items()},
    **{f"{name}, kept": kept(frame_source(make)) for name, make in FRAMES.items()},
    "several frames, kept": kept(several_frames),
}

QUERIES: dict[str, Make] = {
    **{name: frame_source(make) for name, make in RECIPES.items()},
    **{f"{name}, kept": kept(frame_source(make)) for name, make in RECIPES.items()},
    "record batches, kept": kept(frame_source(lambda _, rows: table_of(rows).to_reader(4))),
    "sql": sql_source,
    "sql, kept": kept(sql_source),
    "adbc": adbc_source,
    "adbc, kept": kept(adbc_source),
}
"""Sources that are not known by their content."""

# what breaks naive readers: line ends of all kinds, quotes, commas, characters outside the BMP, leading BOMs
TEXTS = st.text(
    st.sampled_from(list('ab,"\n\r;\t é\u2028\u2029\x85\x0b\x0c😀\ufeff'))
    | st.characters(exclude_categories=["Cs"]),
    max_size=12,
).filter(lambda text: "\x00" not in text)


def plain(item: BatchItem[Any]) -> tuple[str, Any, Any]:
    return item.item_id, item.payload, item.metadata["length"]


@pytest.mark.parametrize("maker", [*MAKERS, *QUERIES])
class TestEverySource:
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
    @given(texts=st.lists(TEXTS, max_size=10), data=st.data())
    def test_it_gives_the_same_rest_from_any_checkpoint(
        self, maker: str, texts: list[str], data: st.DataObject, tmp_path: Path
    ) -> None:
        rows = [{"id": f"row{index}", "text": text} for index, text in enumerate(texts)]
        expected = [(row["id"], {"text": row["text"]}, len(row["text"])) for row in rows]
        source = (MAKERS | QUERIES)[maker](tmp_path, rows)

        if not getattr(source, "is_read_once", False):
            assert [plain(item) for item in source] == expected
        read = list(source.iter_from_checkpoint(source.initial_checkpoint()))
        checkpoints = [source.initial_checkpoint(), *(one.next_checkpoint for one in read)]
        stop = data.draw(st.integers(0, len(rows)))
        stored = json.loads(json.dumps(checkpoints[stop]))
        again = list(source.iter_from_checkpoint(stored))
        assert [plain(one.item) for one in again] == expected[stop:]
        assert [one.item for one in again] == [one.item for one in read[stop:]]
        assert [one.next_checkpoint for one in again] == checkpoints[stop + 1 :]

    @pytest.mark.parametrize("checkpoint", [-1, True, "3", None, {}, [1], [0, -1], {"row": -1, "offset": 0}])
    def test_something_that_is_no_checkpoint_is_refused(
        self, maker: str, checkpoint: Any, tmp_path: Path
    ) -> None:
        source = (MAKERS | QUERIES)[maker](tmp_path, [{"id": "1", "text": "x"}])
        with pytest.raises(InvalidInputError, match="checkpoint"):
            list(source.iter_from_checkpoint(checkpoint))


# a connection of DuckDB has one open result, and says so
@pytest.mark.parametrize("maker", sorted((MAKERS | QUERIES).keys() - {"duckdb"}))
class TestAtTheSameTime:
    def test_an_abandoned_reading_disturbs_no_other(self, maker: str, tmp_path: Path) -> None:
        source = (MAKERS | QUERIES)[maker](tmp_path, [{"id": str(n), "text": "x"} for n in range(9)])
        next(
            source.iter_from_checkpoint(source.initial_checkpoint())
        )  # writes the snapshot, if there is to be one
        first, second = iter(source), iter(source)
        assert next(first).item_id == next(second).item_id == "0"
        assert next(first).item_id == "1"
        del first
        assert [item.item_id for item in second] == [str(n) for n in range(1, 9)]


@pytest.mark.parametrize("maker", MAKERS)
class TestIdentities:
    def test_its_identity_is_stable_and_follows_the_content(self, maker: str, tmp_path: Path) -> None:
        rows = [{"id": str(n), "text": "x"} for n in range(9)]
        before = MAKERS[maker](tmp_path, rows).source_identity()
        assert MAKERS[maker](tmp_path, rows).source_identity() == before
        appended = MAKERS[maker](tmp_path, [*rows, {"id": "9", "text": "x"}]).source_identity()
        edited = MAKERS[maker](tmp_path, [*rows[:-1], {"id": "8", "text": "y"}]).source_identity()
        fingerprints = {one.source_fingerprint for one in (before, appended, edited)}
        assert len(fingerprints) == 3
        assert before.source_kind == appended.source_kind


@pytest.mark.parametrize("maker", ["csv", "csv, utf-16", "jsonl", "jsonl, utf-16", "own"])
class TestRowIndexes:
    def test_a_plain_row_index_is_a_checkpoint_too(self, maker: str, tmp_path: Path) -> None:
        source = MAKERS[maker](tmp_path, [{"id": str(n), "text": "a\nb" * n} for n in range(6)])
        assert isinstance(source, ResumableItemSource)
        for index in range(8):
            expected = [str(n) for n in range(index, 6)]
            assert [one.item.item_id for one in source.iter_from_checkpoint(index)] == expected
            assert [one.item_index for one in source.iter_from(index)] == list(range(index, 6))


@pytest.mark.parametrize("maker", ["csv", "jsonl", "parquet"])
class TestFiles:
    def test_a_moved_or_touched_file_is_the_same_content(self, maker: str, tmp_path: Path) -> None:
        source = MAKERS[maker](tmp_path, [{"id": "1", "text": "x"}])
        path: Path = source.path  # type: ignore[attr-defined]
        copy = path.with_name("copy" + path.suffix)
        shutil.copyfile(path, copy)
        copied = type(source)(copy, **CALLBACKS).source_identity()  # type: ignore[call-arg]
        assert copied.source_fingerprint == source.source_identity().source_fingerprint
        assert copied.source_ref == str(copy)

    def test_the_lineage_names_path_and_row(self, maker: str, tmp_path: Path) -> None:
        source = MAKERS[maker](tmp_path, [{"id": str(n), "text": "x"} for n in range(5)])
        lineages: list[Any] = [item.metadata["batchor_lineage"] for item in source]
        assert [one["row_index"] for one in lineages] == list(range(5))
        assert {one["source_path"] for one in lineages} == {str(source.path)}  # type: ignore[attr-defined]
        assert "partition_id" not in lineages[0]
        assert "primary_key" not in lineages[0]


class TestSeeking:
    @pytest.mark.parametrize("maker", ["csv", "jsonl"])
    def test_rows_before_the_checkpoint_are_not_read_again(self, maker: str, tmp_path: Path) -> None:
        source = MAKERS[maker](tmp_path, [{"id": str(n), "text": "x"} for n in range(5)])
        third = list(source.iter_from_checkpoint(0))[2].next_checkpoint
        assert isinstance(third, dict)
        path: Path = source.path  # type: ignore[attr-defined]
        content = path.read_bytes()
        header = content.index(b"\n") + 1
        offset = third["offset"]
        assert isinstance(offset, int)
        # nothing between the header and the offset is looked at: it is no longer readable
        path.write_bytes(content[:header] + b"\xff" * (offset - header - 1) + b"\n" + content[offset:])
        assert [one.item.item_id for one in source.iter_from_checkpoint(third)] == ["3", "4"]

    def test_an_offset_within_a_line_is_refused(self, tmp_path: Path) -> None:
        source = MAKERS["jsonl"](tmp_path, [{"id": "1", "text": "x"}] * 2)
        for offset in (3, 10_000):
            with pytest.raises(InvalidInputError, match="is not between two lines"):
                list(source.iter_from_checkpoint({"row": 1, "offset": offset, "line": 1}))

    def test_the_line_number_is_optional(self, tmp_path: Path) -> None:
        source = MAKERS["jsonl"](tmp_path, [{"id": "1", "text": "x"}, {"id": "2", "text": "x"}])
        [first, _] = source.iter_from_checkpoint(0)
        assert isinstance(first.next_checkpoint, dict)
        stored = {key: first.next_checkpoint[key] for key in ("row", "offset")}
        assert [one.item.item_id for one in source.iter_from_checkpoint(stored)] == ["2"]

    def test_a_byte_order_mark_is_no_part_of_the_first_row(self, tmp_path: Path) -> None:
        path = tmp_path / "bom.csv"
        path.write_bytes(codecs.BOM_UTF8 + b"id,text\n1,x\n")
        assert [item.item_id for item in CsvItemSource(path, **CALLBACKS)] == ["1"]
