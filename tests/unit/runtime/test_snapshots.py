"""A run reads frames and queries once, and goes on from what it kept of them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import polars as pl
import pyarrow as pa
import pytest

from batchor_core import BatchItem, CompositeItemSource, FrameItemSource, JsonlItemSource, SqlItemSource
from batchor_core.artifacts.local import LocalArtifactStore
from batchor_core.core.exceptions import (
    RunItemsMismatchError,
    SourceMismatchError,
    SourceRowError,
    StorageError,
)
from batchor_core.runtime.snapshots import RunSnapshots, snapshot_keys
from batchor_core.sources.base import CheckpointedItemSource
from batchor_core.storage.memory import MemoryStateStore
from tests.contract.stores.kit import ThirdPartyStore
from tests.support.world import RUN, World, ask, text_job

COUNT = 250
"""Three batches of a snapshot."""

CALLBACKS: dict[str, Any] = {
    "item_id_from_row": lambda row: f"item-{row['n']}",
    "payload_from_row": lambda row: {"text": f"question {row['text']}"},
}


@pytest.fixture(autouse=True)
def _short_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchor_core.runtime.ingest.CHUNK", 100)
    monkeypatch.setattr("batchor_core.sources.snapshot.BATCH_ROWS", 90)


class Killed(BaseException):
    """The process dies."""


def dies_at(item_id: str) -> Callable[[BatchItem[Any]], str]:
    def build_prompt(item: BatchItem[Any]) -> str:
        if item.item_id == item_id:
            raise Killed
        return ask(item)

    return build_prompt


def frame(count: int = COUNT, *, text: str = "") -> pl.DataFrame:
    return pl.DataFrame({"n": range(count), "text": [f"{text}{n}" for n in range(count)]})


def frame_source(data: Any = None, **options: Any) -> FrameItemSource[Any]:
    return FrameItemSource(frame() if data is None else data, **(CALLBACKS | options))


class Database:
    """A table of rows that may become others at any time."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "source.sqlite3"
        self.fill()

    def fill(self, count: int = COUNT, *, text: str = "") -> None:
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute("drop table if exists rows")
            connection.execute("create table rows (n integer, text text)")
            rows = [(n, f"{text}{n}") for n in range(count)]
            connection.executemany("insert into rows values (?, ?)", rows)

    def drop(self) -> None:
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute("drop table rows")

    def source(self, query: str = "select * from rows", params: Any = None) -> SqlItemSource[Any]:
        return SqlItemSource(f"sqlite:///{self.path}", query, params, **CALLBACKS)


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(tmp_path)


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world(kind="sqlite")


def kept(world: World, run_id: str = RUN) -> list[Path]:
    return sorted((world.folder / "artifacts" / run_id).glob("rows/*"))


def die(world: World, source: CheckpointedItemSource[Any], *, at: str = "item-150") -> None:
    with pytest.raises(Killed):
        world.start(text_job(source, build_prompt=dies_at(at)))
    assert world.summary().total_items in (100, 500)


# --- going on --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["memory", "sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_a_killed_run_goes_on_with_the_rows_that_the_query_gave(
    make_world: Callable[..., World], kind: str, database: Database
) -> None:
    world = make_world(kind=kind)
    die(world, database.source())
    database.drop()
    run = world.runner().run_and_wait(text_job(database.source()), run_id=RUN)
    assert [result.item_id for result in run.results()] == [f"item-{n}" for n in range(COUNT)]


def test_a_store_without_leases_keeps_rows_too(world: World, database: Database) -> None:
    store = ThirdPartyStore(MemoryStateStore(now=world.clock))
    with pytest.raises(Killed):
        world.start(text_job(database.source(), build_prompt=dies_at("item-150")), storage=store)
    database.drop()
    runner = world.runner(storage=store)
    assert len(runner.run_and_wait(text_job(database.source()), run_id=RUN).results()) == COUNT


def test_rows_that_the_query_gives_now_are_not_mixed_with_those_of_then(
    world: World, database: Database
) -> None:
    die(world, database.source())
    database.fill(COUNT + 7, text="other ")
    world.runner().run_and_wait(text_job(database.source()), run_id=RUN)
    assert world.summary().total_items == COUNT
    assert not any("other" in str(batch.lines) for batch in world.provider.batches.values())


def test_a_killed_run_goes_on_with_a_frame_of_another_process(world: World) -> None:
    die(world, frame_source())
    [file] = kept(world)
    written = file.stat().st_mtime_ns
    again = frame_source(pl.concat([frame().slice(0, 10), frame().slice(10)], rechunk=False).to_arrow())
    run = world.runner().run_and_wait(text_job(again), run_id=RUN)
    assert len(run.results()) == COUNT
    assert file.stat().st_mtime_ns == written


def test_a_reader_of_another_process_is_not_read_again(world: World) -> None:
    def unreadable() -> Iterator[pa.RecordBatch]:
        yield from ()
        raise AssertionError("it is read")

    table = frame().to_arrow()
    die(world, frame_source(table.to_reader(300)))
    other = pa.RecordBatchReader.from_batches(table.schema, unreadable())
    run = world.runner().run_and_wait(text_job(frame_source(other)), run_id=RUN)
    assert len(run.results()) == COUNT


def test_several_sources_have_a_snapshot_each(world: World, database: Database, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"n": n, "text": str(n)}) + "\n" for n in range(3_000, 3_150)))

    def several() -> CheckpointedItemSource[Any]:
        return CompositeItemSource(
            [
                frame_source(),
                JsonlItemSource(rows, **CALLBACKS),
                database.source("select n + 10000 as n, text from rows"),
            ]
        )

    die(world, several(), at="item-10150")
    assert len(kept(world)) == 2
    database.drop()
    run = world.runner().run_and_wait(text_job(several()), run_id=RUN)
    assert len({result.item_id for result in run.results()}) == 2 * COUNT + 150


# --- a snapshot is whole or not there --------------------------------------------------------------------------------


def test_a_query_that_fails_on_the_way_leaves_nothing(world: World, database: Database) -> None:
    broken = database.source(
        "select n, case when n = 200 then abs(-9223372036854775807 - 1) else n end as text from rows"
    )
    with pytest.raises(SourceRowError, match="the query failed: OperationalError: integer overflow"):
        world.start(text_job(broken))
    assert not (world.folder / "artifacts" / RUN).exists()
    assert not world.store.has_run(run_id=RUN)


class Half(LocalArtifactStore):
    """The process dies when so many bytes of a file are written."""

    def __init__(self, root: Path, size: int) -> None:
        super().__init__(root)
        self._left = size

    @contextmanager
    def open_writer(self, key: str) -> Iterator[BinaryIO]:
        with super().open_writer(key) as file:
            write = file.write

            def counted(data: Any) -> int:
                self._left -= len(data)
                if self._left < 0:
                    raise Killed
                return write(data)

            file.write = counted  # type: ignore[method-assign]
            yield file


def test_a_file_that_is_half_written_does_not_count(world: World, database: Database) -> None:
    with pytest.raises(Killed):
        world.start(text_job(database.source()), artifact_store=Half(world.folder / "artifacts", 2_000))
    assert world.store.has_run(run_id=RUN)
    assert kept(world) == []
    database.fill(COUNT, text="new ")
    run = world.runner().run_and_wait(text_job(database.source()), run_id=RUN)
    assert len(run.results()) == COUNT


def test_a_withdrawn_run_leaves_no_rows_to_the_next_one(world: World, database: Database) -> None:
    with pytest.raises(Exception, match="needs an id"):
        world.start(text_job(SqlItemSource(f"sqlite:///{database.path}", "select n, text from rows",
                                           item_id_from_row=lambda row: "" if row["n"] == 7 else str(row["n"]))))  # fmt: skip
    assert not world.store.has_run(run_id=RUN)
    assert not (world.folder / "artifacts" / RUN).exists()
    database.fill(5)
    run = world.runner().run_and_wait(text_job(database.source()), run_id=RUN)
    assert len(run.results()) == 5


def test_a_driver_that_was_replaced_while_it_wrote_reads_what_its_successor_has_written(
    tmp_path: Path, database: Database
) -> None:
    artifacts = LocalArtifactStore(tmp_path / "artifacts")

    def source() -> CheckpointedItemSource[Any]:
        return database.source().with_snapshots(RunSnapshots(artifacts, RUN, 1.0))

    class Slow(SqlItemSource[Any]):
        def stream(self) -> Any:
            stream = super().stream()

            def batches() -> Iterator[pa.RecordBatch]:
                yield from stream.batches
                database.fill(COUNT, text="new ")
                successors.extend(source().iter_from_checkpoint({"row": 0}))

            return stream._replace(batches=batches())

    successors: list[Any] = []
    slow = Slow(f"sqlite:///{database.path}", "select * from rows", **CALLBACKS)
    rows = list(slow.with_snapshots(RunSnapshots(artifacts, RUN, 1.0)).iter_from_checkpoint({"row": 0}))
    assert rows == successors
    assert rows[3].item.payload == {"text": "question new 3"}


@pytest.mark.parametrize("damage", ["gone", "cut", "another"])
def test_a_snapshot_that_was_tampered_with_is_not_read(world: World, database: Database, damage: str) -> None:
    die(world, database.source())
    [file] = kept(world)
    match damage:
        case "gone":
            file.unlink()
        case "cut":
            file.write_bytes(file.read_bytes()[:-300])
        case _:
            with pytest.raises(Killed):
                world.start(text_job(database.source(), build_prompt=dies_at("item-0")), run_id="other")
            file.write_bytes(kept(world, "other")[0].read_bytes())
    with pytest.raises(StorageError, match="start a new run id"):
        world.start(text_job(database.source()))
    assert world.store.has_run(run_id=RUN)


def test_the_snapshot_of_a_frame_can_be_written_again(world: World) -> None:
    die(world, frame_source())
    kept(world)[0].unlink()
    assert len(world.runner().run_and_wait(text_job(frame_source()), run_id=RUN).results()) == COUNT


def test_a_reader_that_was_read_in_part_says_so(world: World) -> None:
    table = frame().to_arrow()

    def breaks() -> Iterator[pa.RecordBatch]:
        yield from table.to_batches(max_chunksize=100)[:1]
        raise OSError("the network is gone")

    source = frame_source(pa.RecordBatchReader.from_batches(table.schema, breaks()))
    for problem in ("the network is gone", "can be read only once, and has been read already"):
        with pytest.raises((OSError, SourceRowError), match=problem):
            world.start(text_job(source))


# --- identity --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [
        frame(COUNT - 1),
        frame(text="x"),
        frame().reverse(),
        frame().rename({"text": "words"}),
        frame().cast(pl.String),
    ],
    ids=["a row less", "other text", "another order", "another name", "another type"],
)
@pytest.mark.parametrize("is_finished", [False, True])
def test_another_frame_is_refused(world: World, other: pl.DataFrame, is_finished: bool) -> None:
    if is_finished:
        world.runner().run_and_wait(text_job(frame_source()), run_id=RUN)
    else:
        die(world, frame_source())
    with pytest.raises(SourceMismatchError, match="the content of frame differs from that of frame"):
        world.start(text_job(frame_source(other)))


def test_another_query_is_refused(world: World, database: Database) -> None:
    die(world, database.source("select * from rows where n >= :least", {"least": 0}))
    for query, params in (
        ("select * from rows", None),
        ("select * from rows where n >= :least", {"least": 1}),
    ):
        with pytest.raises(SourceMismatchError, match="the query or its parameters of sqlite"):
            world.start(text_job(database.source(query, params)))
    with pytest.raises(SourceMismatchError, match="sql source, but this is a frame source"):
        world.start(text_job(frame_source()))


@pytest.mark.parametrize("is_pruned", [False, True])
def test_a_finished_run_is_compared_with_what_the_query_gives_now(
    world: World, database: Database, is_pruned: bool
) -> None:
    runner = world.runner()
    run = runner.run_and_wait(text_job(database.source()), run_id=RUN)
    if is_pruned:
        run.prune_artifacts()
    assert world.start(text_job(database.source())).is_finished
    database.fill(COUNT, text="new ")
    with pytest.raises(RunItemsMismatchError, match=r"item 0 \('item-0'\) has another prompt"):
        world.start(text_job(database.source()))
    assert world.runner().start(text_job(database.source()), run_id=RUN, on_change="keep").is_finished


def test_an_active_run_is_compared_with_its_snapshot(world: World, database: Database) -> None:
    world.start(text_job(database.source()))
    database.fill(COUNT, text="new ")
    assert not world.start(text_job(database.source())).is_finished
    with pytest.raises(RunItemsMismatchError):
        world.start(text_job(database.source(), build_prompt=lambda item: "another"))


# --- its end ---------------------------------------------------------------------------------------------------------


def test_it_is_exported_and_pruned_with_the_other_artifacts(
    world: World, database: Database, tmp_path: Path
) -> None:
    source = CompositeItemSource([frame_source(), database.source("select n + 10000 as n, text from rows")])
    run = world.runner().run_and_wait(text_job(source), run_id=RUN)
    keys = [f"{RUN}/rows/{file.name}" for file in kept(world)]
    assert len(keys) == 2
    exported = run.export_artifacts(tmp_path / "bundle")
    assert set(keys) < set(exported.exported_artifact_paths)
    pruned = run.prune_artifacts()
    assert set(keys) < set(pruned.removed_artifact_paths)
    assert kept(world) == []
    assert snapshot_keys(world.runner()._runs.engine, RUN) == []
    assert run.prune_artifacts().removed_artifact_paths == []


def test_repeated_ids_are_named_with_their_rows(world: World) -> None:
    doubled = pl.concat([frame(120), frame(1)])
    with pytest.raises(Exception, match=r"item-0.*frame, row 1 .*frame, row 121"):
        world.start(text_job(frame_source(doubled)))


def test_a_frame_without_rows_is_a_run_without_items(world: World) -> None:
    run = world.runner().run_and_wait(text_job(frame_source(frame(0))), run_id=RUN)
    assert run.results() == []
