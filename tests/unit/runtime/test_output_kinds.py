"""Runs of vectors and of bodies: through every store, and out by every way."""

from __future__ import annotations

import base64
import json
import struct
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchor_core import (
    BodyItemResult,
    BodyOutput,
    InvalidInputError,
    ItemResult,
    ModelOutput,
    OutputKind,
    Run,
    RunConfigMismatchError,
    TextItemResult,
    VectorItemResult,
    VectorOutput,
)
from batchor_core.core.models import ArtifactPolicy, RetryPolicy
from batchor_core.core.outputs import output_from_payload
from batchor_core.tables import write_results_parquet
from batchor_core.tables.common_schema import unified_schema
from batchor_core.testing.fake_rows import body_row, http_error_row, vector_row
from tests.support.world import RUN, Verdict, World, by_item, errors, text_job

VECTORS = [[0.5, -1.0, 2.0], [0.1, 0.2, 0.3]]
PACKED = [struct.pack("<3f", *vector) for vector in VECTORS]
CALL = {
    "id": "resp_1",
    "output": [{"type": "function_call", "name": "look_up", "arguments": '{"a": 1}'}],
    "number": 123456789012345678901234567890,
    "half": "\ud800",
}


def vector_job(count: int = 4, **changes: Any) -> Any:
    return text_job(count, retry=RetryPolicy(max_attempts=1), **({"output": VectorOutput(3)} | changes))


def body_job(count: int = 3, **changes: Any) -> Any:
    return text_job(count, retry=RetryPolicy(max_attempts=1), **({"output": BodyOutput()} | changes))


def answer_vectors(world: World) -> None:
    world.provider.answer = by_item(
        {
            0: vector_row(VECTORS[0]),
            1: vector_row(base64.b64encode(PACKED[1]).decode()),
            2: vector_row([1.0, 2.0]),
            3: http_error_row(400),
        }
    )


def answer_bodies(world: World) -> None:
    world.provider.answer = by_item({0: body_row(CALL), 1: body_row({"results": []}), 2: http_error_row(400)})


def lines(run: Run, path: Path) -> list[dict[str, Any]]:
    run.export_terminal_results(path, append=False)
    return [json.loads(line) for line in path.read_bytes().splitlines()]


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def any_world(request: pytest.FixtureRequest, make_world: Callable[..., World]) -> World:
    return make_world(kind=request.param)


# --- vectors ---------------------------------------------------------------------------------------------------------


def test_vectors_come_back_by_every_way(any_world: World, tmp_path: Path) -> None:
    answer_vectors(any_world)
    run = any_world.start(vector_job()).wait()
    assert errors(run) == {"item-2": "vector_wrong_dimensions", "item-3": "provider_item_error"}
    results = run.results()
    assert all(type(result) is VectorItemResult and isinstance(result, ItemResult) for result in results)
    assert [result.output for result in results] == [*[array("f", p) for p in PACKED], None, None]
    assert [result.output_text for result in results] == [None] * 4
    assert results[0].raw_response is not None
    assert results[0].usage is not None
    assert results[0].usage.input_tokens == 10
    assert list(run.iter_results(page_size=1)) == results == run.snapshot().items
    assert run.read_terminal_results(limit=2).items == results[:2]
    rows = [row for page in run.iter_row_pages() for row in page]
    assert [row.output_data for row in rows] == [*PACKED, None, None]
    assert [record.output_data for page in run.iter_record_pages() for record in page] == [
        *PACKED,
        None,
        None,
    ]
    written = lines(run, tmp_path / "results.jsonl")
    assert [line["output_vector"] for line in written] == [
        *[base64.b64encode(data).decode() for data in PACKED],
        None,
        None,
    ]
    assert list(written[0]) == [
        "item_id", "status", "attempt_count", "metadata", "output_text", "output_vector", "raw_response", "error", "cost_usd",
    ]  # fmt: skip


def test_another_process_reads_the_same_vectors(any_world: World) -> None:
    answer_vectors(any_world)
    any_world.start(vector_job()).wait()
    run = any_world.runner(storage=any_world.open_store()).get_run(RUN)
    assert run.config.output is not None
    assert output_from_payload(run.config.output) == VectorOutput(3)
    assert [result.output for result in run.results()] == [*[array("f", p) for p in PACKED], None, None]


def test_vectors_become_a_fixed_size_list(any_world: World, tmp_path: Path) -> None:
    answer_vectors(any_world)
    run = any_world.start(vector_job()).wait()
    report = write_results_parquet(run, tmp_path / "out.parquet", VectorOutput(3))
    table = pq.read_table(tmp_path / "out.parquet")
    vectors = table.column("vector")
    assert pa.types.is_fixed_size_list(vectors.type)
    assert (vectors.type.value_type, vectors.type.list_size) == (pa.float32(), 3)
    assert vectors.is_valid().to_pylist() == [True, True, False, False]
    assert vectors.chunk(0).slice(0, 2).flatten().to_numpy().tobytes() == b"".join(PACKED)
    assert table.column("output_text").null_count == 4
    assert table.column("error_class").to_pylist()[2] == "vector_wrong_dimensions"
    assert (report.row_count, report.failed_count, report.unfitting_count) == (4, 2, 0)
    assert [row["vector"] for row in report.preview] == ["float[3]", "float[3]", None, None]
    assert unified_schema({"a": report.schema, "b": report.schema}, lambda _: {}).equals(report.schema)
    group = pq.read_metadata(tmp_path / "out.parquet").row_group(0)
    stored = {(chunk := group.column(index)).path_in_schema: chunk for index in range(group.num_columns)}
    assert stored["vector.list.element"].has_dictionary_page is False
    assert stored["vector.list.element"].is_stats_set is False
    assert stored["error_class"].has_dictionary_page is True


@pytest.mark.parametrize(
    ("dtype", "arrow", "values"),
    [
        ("float64", pa.float64(), [0.1, 1e300]),
        ("int8", pa.int8(), [-128, 127]),
        ("uint8", pa.uint8(), [0, 255]),
    ],
)
def test_a_vector_keeps_its_type(tmp_path: Path, dtype: Any, arrow: pa.DataType, values: list[Any]) -> None:
    world = World(tmp_path)
    world.provider.answer = by_item({0: vector_row(values)})
    output = VectorOutput(2, dtype)
    run = world.start(vector_job(1, output=output)).wait()
    assert list(run.results()[0].output or ()) == values
    write_results_parquet(run, tmp_path / "out.parquet", output)
    vectors = pq.read_table(tmp_path / "out.parquet").column("vector")
    assert (vectors.type.value_type, vectors.to_pylist()) == (arrow, [values])
    world.close()


def test_a_file_of_vectors_of_another_length_has_nulls(tmp_path: Path) -> None:
    world = World(tmp_path)
    answer_vectors(world)
    run = world.start(vector_job()).wait()
    report = write_results_parquet(run, tmp_path / "out.parquet", VectorOutput(4))
    assert report.unfitting_count == 2
    assert pq.read_table(tmp_path / "out.parquet").column("vector").null_count == 4
    world.close()


def test_failed_vectors_are_tried_again(any_world: World) -> None:
    answer_vectors(any_world)
    any_world.start(vector_job()).wait()
    any_world.provider.answer = lambda line: vector_row(VECTORS[0])
    run = any_world.runner().retry_failed(RUN).wait()
    assert errors(run) == {}
    assert [len(result.output or ()) for result in run.results()] == [3] * 4


# --- bodies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keeps_files", [True, False])
def test_bodies_come_back_by_every_way(any_world: World, tmp_path: Path, keeps_files: bool) -> None:
    answer_bodies(any_world)
    run = any_world.start(body_job(artifact_policy=ArtifactPolicy(keeps_files))).wait()
    assert errors(run) == {"item-2": "provider_item_error"}
    results = run.results()
    assert all(type(result) is BodyItemResult for result in results)
    assert results[0].output == CALL
    assert results[0].output["number"] == 123456789012345678901234567890
    assert [result.output for result in results[1:]] == [{"results": []}, None]
    assert results[0].raw_response is not None
    assert list(run.iter_results()) == results == run.snapshot().items
    path = tmp_path / "results.jsonl"
    written = lines(run, path)
    assert written[0]["output_json"] == CALL
    assert written[0]["output_text"] is None
    assert b'"number":123456789012345678901234567890' in path.read_bytes().replace(b" ", b"")
    report = write_results_parquet(run, tmp_path / "out.parquet", BodyOutput())
    table = pq.read_table(tmp_path / "out.parquet")
    assert json.loads(table.column("body")[0].as_py()) == CALL
    assert table.column("output_text").null_count == table.num_rows
    assert (report.unfitting_count, table.schema.field("body").type) == (0, pa.string())


def test_a_body_is_in_the_exported_bundle(any_world: World, tmp_path: Path) -> None:
    answer_bodies(any_world)
    run = any_world.start(body_job()).wait()
    bundle = run.export_artifacts(tmp_path / "bundles")
    first = json.loads(Path(bundle.results_path).read_bytes().splitlines()[0])
    assert first["output_json"] == CALL
    run.prune_artifacts(include_raw_output_artifacts=True)
    assert [result.output for result in run.results()] == [CALL, {"results": []}, None]
    assert run.results()[1].raw_response is None


# --- what does not go together ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "output", [VectorOutput(4), VectorOutput(3, "float64"), BodyOutput(), ModelOutput(Verdict), None]
)
def test_a_run_is_not_resumed_for_another_output(any_world: World, output: Any) -> None:
    answer_vectors(any_world)
    any_world.start(vector_job())
    with pytest.raises(RunConfigMismatchError) as raised:
        any_world.start(vector_job(output=output))
    assert raised.value.fields == ["output"]
    assert any_world.start(vector_job()).wait().is_finished


def test_what_the_provider_does_not_give_is_refused_before_anything_is_sent(any_world: World) -> None:
    any_world.provider.outputs = frozenset({OutputKind.TEXT, OutputKind.BODY})
    for job in (vector_job(), text_job(structured_output=Verdict)):
        with pytest.raises(
            InvalidInputError, match=r"which the provider fake does not support .* it supports text, body"
        ):
            any_world.start(job)
    assert any_world.provider.calls == []
    assert list(any_world.store.list_runs()) == []


def test_a_text_run_does_not_take_a_vector_for_its_answer(any_world: World) -> None:
    answer_vectors(any_world)
    run = any_world.start(text_job(2)).wait()
    assert set(errors(run).values()) == {"non_text_answer"}
    assert all(type(result) is TextItemResult for result in run.results())
