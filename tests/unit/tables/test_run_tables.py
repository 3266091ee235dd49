"""A run gives its results as a file or a frame: typed, in the order of the input, whole or not at all."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import fsspec
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import BaseModel

from batchor_core import (
    InvalidInputError,
    Run,
    RunNotFinishedError,
    StorageError,
    TextOutput,
    VectorOutput,
)
from batchor_core.tables import input_order, write_results_parquet
from batchor_core.tables.result_columns import OWN_COLUMNS
from batchor_core.testing.fake_provider import FakeProvider
from batchor_core.testing.fake_rows import http_error_row, vector_row
from tests.support.world import RUN, Verdict, World, by_item, structured_job, text_job

GOOD = '{"label": "good", "score": 0.5}'
BIG = 2**60 + 1
FRAMES: dict[str, Callable[[Run], list[str]]] = {
    "to_arrow": lambda run: run.to_arrow()["item_id"].to_pylist(),
    "to_polars": lambda run: run.to_polars()["item_id"].to_list(),
    "to_pandas": lambda run: run.to_pandas()["item_id"].to_list(),
}


class Counted(BaseModel):
    label: str
    count: int


@pytest.fixture(params=["memory", "sqlite"])
def world(request: pytest.FixtureRequest, make_world: Callable[..., World]) -> World:
    return make_world(kind=request.param)


@pytest.fixture
def run(world: World) -> Run:
    """Six rows; the first ends last, since it was tried twice, and one fails."""
    world.provider.answer = by_item({0: [http_error_row(500), GOOD], 3: http_error_row(400)}, GOOD)
    return world.runner().run_and_wait(structured_job(6, per_batch=2), run_id=RUN)


ITEMS = [f"item-{n}" for n in range(6)]


@pytest.mark.parametrize("name", FRAMES)
def test_frames_have_the_rows_in_the_order_of_the_input(run: Run, name: str) -> None:
    assert FRAMES[name](run) == ITEMS


def test_a_key_of_the_metadata_is_read_by_one_expression(run: Run, tmp_path: Path) -> None:
    """As docs/how-to/get-frames-and-tables.md shows them."""
    path = tmp_path / "results.parquet"
    run.to_parquet(path)
    by_duckdb = duckdb.connect().execute(f"select metadata->>'row' from '{path}'").fetchall()
    by_polars = pl.read_parquet(path).select(pl.col("metadata").str.json_path_match("$.row")).rows()
    by_pandas = run.to_pandas()["metadata"].map(json.loads).str["row"]
    assert by_duckdb == by_polars == [(str(number),) for number in range(6)]
    assert by_pandas.to_list() == list(range(6))


@pytest.mark.parametrize("write", ["to_parquet", "export_terminal_results"])
def test_only_files_are_replaced(run: Run, tmp_path: Path, write: str) -> None:
    """As root, renaming a file over a pipe or a device succeeds, and the machine has no /dev/null any more."""
    pipe, folder = tmp_path / "pipe", tmp_path / "folder"
    os.mkfifo(pipe)
    folder.mkdir()
    options: dict[str, Any] = {"append": False} if write == "export_terminal_results" else {}
    for place, problem in ((pipe, "pipe or device"), (folder, "this is a folder")):
        with pytest.raises((OSError, StorageError), match=problem):
            getattr(run, write)(place, **options)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert sorted(found.name for found in tmp_path.iterdir() if found.name.startswith(".")) == []


@pytest.mark.parametrize("write", ["to_parquet", "export_terminal_results", "export_artifacts"])
def test_a_url_that_became_a_path_makes_no_folders_here(
    run: Run, tmp_path: Path, write: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInputError, match="is a URL"):
        getattr(run, write)(Path("s3://bucket/results"))
    assert not (tmp_path / "s3:").exists()


@pytest.mark.parametrize("output", [5, "Verdict", TextOutput, VectorOutput(3)])
def test_a_table_is_read_with_an_output_that_fits(run: Run, output: Any) -> None:
    with pytest.raises(InvalidInputError, match="output"):
        run.to_arrow(output=output)


@pytest.mark.parametrize("timeout", [float("nan"), "5"])
def test_a_timeout_is_a_number(run: Run, timeout: Any) -> None:
    with pytest.raises(InvalidInputError, match="timeout must be a number of seconds or None, not"):
        run.wait(timeout=timeout)


@pytest.mark.parametrize("pause", [-1, float("nan"), "5"])
def test_a_poll_interval_is_a_number(run: Run, pause: Any) -> None:
    with pytest.raises(InvalidInputError, match="poll_interval must"):
        run.wait(poll_interval=pause)


def test_the_columns_are_those_of_the_file_that_dagster_writes(run: Run, tmp_path: Path) -> None:
    write_results_parquet(run, tmp_path / "dagster.parquet", Verdict)
    report = run.to_parquet(tmp_path / "own.parquet")
    own, dagster = pq.read_table(tmp_path / "own.parquet"), pq.read_table(tmp_path / "dagster.parquet")
    assert own.schema.equals(dagster.schema)
    assert own["item_id"].to_pylist() == ITEMS
    assert own.sort_by("item_id").equals(dagster.sort_by("item_id"))
    assert run.to_arrow().cast(own.schema).equals(own)
    assert (report.row_count, report.failed_count, report.uri) == (6, 1, str(tmp_path / "own.parquet"))
    assert report.size_bytes == (tmp_path / "own.parquet").stat().st_size
    assert [row["item_id"] for row in report.preview] == ITEMS[:5]


def test_a_row_is_typed_and_a_failed_one_says_why(run: Run) -> None:
    rows = run.to_polars().to_dicts()
    assert (rows[0]["label"], rows[0]["score"], rows[0]["attempt_count"]) == ("good", 0.5, 2)
    assert (rows[0]["metadata"], rows[0]["input_tokens"]) == ('{"row":0}', 10)
    assert (rows[3]["status"], rows[3]["label"]) == ("failed_permanent", None)
    assert rows[3]["error_class"]


def test_rows_come_as_they_ended_where_that_is_asked_for(run: Run) -> None:
    ended = [result.item_id for result in run.iter_results()]
    assert ended[-1] == "item-0"
    assert run.to_arrow(order="ended")["item_id"].to_pylist() == ended
    with pytest.raises(InvalidInputError, match="order must be 'input' or 'ended', not 'random'"):
        run.to_arrow(order="random")  # type: ignore[arg-type]


def test_rows_that_are_too_many_for_memory_are_sorted_too(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(input_order, "PIECE_BYTES", 1)
    monkeypatch.setattr("batchor_core.tables.result_columns.PAGE_ROWS", 2)
    run.to_parquet(tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet")["item_id"].to_pylist() == ITEMS


def test_integers_are_integers_in_pandas_though_failed_rows_have_none(world: World) -> None:
    answer = f'{{"label": "x", "count": {BIG}}}'
    world.provider.answer = by_item({1: http_error_row(400)}, answer)
    run = world.runner().run_and_wait(structured_job(2, structured_output=Counted), run_id=RUN)
    frame = run.to_pandas()
    assert frame["count"].to_list()[0] == BIG
    assert frame["count"][1] is pd.NA
    assert frame["attempt_count"].dtype == pd.Int32Dtype()


def test_an_unfinished_run_is_refused_unless_what_is_there_will_do(world: World, tmp_path: Path) -> None:
    world.provider.answer = by_item({0: [http_error_row(500), "late"]}, "soon")
    run = world.start(text_job(4, per_batch=2))
    read: dict[str, Callable[..., Any]] = {
        "to_parquet": lambda **more: run.to_parquet(tmp_path / "out.parquet", **more).row_count,
        "to_arrow": lambda **more: run.to_arrow(**more).num_rows,
        "to_polars": lambda **more: run.to_polars(**more).height,
        "to_pandas": lambda **more: len(run.to_pandas(**more)),
    }
    for name, given in read.items():
        with pytest.raises(RunNotFinishedError):
            given()
        assert given(allow_unfinished=True) == 0, name
    run.refresh()
    run.refresh()
    done = run.summary().completed_items
    assert not run.is_finished
    assert {name: given(allow_unfinished=True) for name, given in read.items()} == dict.fromkeys(read, done)


def test_a_run_without_rows_has_columns(world: World, tmp_path: Path) -> None:
    run = world.runner().run_and_wait(structured_job(0), run_id=RUN)
    run.to_parquet(tmp_path / "out.parquet")
    assert {"label", "score", *OWN_COLUMNS} == set(run.to_polars().columns)
    assert pl.read_parquet(tmp_path / "out.parquet").is_empty()


def test_answers_are_read_with_another_model_on_wish(run: Run) -> None:
    class Label(BaseModel):
        label: str

    assert set(run.to_arrow(output=Label).column_names) - set(OWN_COLUMNS) == {"label"}
    texts = run.to_arrow(output=TextOutput())
    assert texts.column_names == list(OWN_COLUMNS)
    assert texts["output_text"][1].as_py() == GOOD


def test_vectors_arrive_as_arrays(make_world: Callable[..., World]) -> None:
    world = make_world()
    world.provider = FakeProvider(clock=world.clock, answer=lambda line: vector_row([0.5, -1.0, 2.0]))
    run = world.runner().run_and_wait(text_job(2, output=VectorOutput(3)), run_id=RUN)
    assert run.to_arrow()["vector"].to_pylist() == [[0.5, -1.0, 2.0]] * 2
    assert run.to_polars().schema["vector"] == pl.Array(pl.Float32, 3)


def test_a_url_is_written_through_fsspec(run: Run, tmp_path: Path) -> None:
    url = f"memory://{tmp_path.name}/out.parquet"
    run.to_parquet(url)
    with fsspec.open(url) as file:
        assert pq.read_table(file).num_rows == 6


def test_another_process_reads_a_run_that_is_stored(run: Run, world: World) -> None:
    table = world.runner().get_run(RUN).to_arrow()
    assert table["label"].to_pylist() == ["good", "good", "good", None, "good", "good"]


@pytest.mark.parametrize("package", ["polars", "pandas"])
def test_a_missing_library_is_named_with_its_extra(
    run: Run, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"needs [Pp]\w+: pip install .*batchor-core\[{package}\]"):
        getattr(run, f"to_{package}")()


def test_a_local_file_needs_no_fsspec_and_a_url_says_that_it_does(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    run.to_parquet(tmp_path / "out.parquet")
    assert isinstance(pq.read_table(tmp_path / "out.parquet"), pa.Table)
    with pytest.raises(
        ImportError, match=r"can't reach 's3://bucket/x\.parquet'.*batchor-core\[object-store\]"
    ):
        run.to_parquet("s3://bucket/x.parquet")


def test_a_place_that_can_not_be_written_keeps_what_it_had(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file") as raised:
        run.to_parquet(tmp_path / "file" / "out.parquet")
    assert "untouched" in raised.value.__notes__[0]
    with pytest.raises(InvalidInputError, match=r"can't reach 'nowhere://x'.*Known protocols: .*s3"):
        run.to_parquet("nowhere://x")
