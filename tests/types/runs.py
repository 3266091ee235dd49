"""What a type checker knows of a run and its results, from the job on. Nothing here is run: mypy reads it, in ``make check``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, assert_type

from pydantic import BaseModel

from batchor_core import (
    BatchItem,
    BatchJob,
    BatchResultItem,
    BatchRunner,
    BodyOutput,
    ItemResult,
    ModelOutput,
    OpenAIProviderConfig,
    OutputSpec,
    Run,
    RunSnapshot,
    StructuredItemResult,
    TerminalResultsPage,
    TextOutput,
    VectorOutput,
)


class Row(BaseModel):
    text: str


class Label(BaseModel):
    name: str


CONFIG = OpenAIProviderConfig(model="gpt-5-mini")
ITEMS = [BatchItem("1", Row(text="hello"))]


def ask(item: BatchItem[Row]) -> str:
    return item.payload.text


def a_model_reaches_every_way_to_read(runner: BatchRunner) -> None:
    job = BatchJob(ITEMS, ask, CONFIG, structured_output=Label)
    assert_type(job, BatchJob[Row, Label])
    run = runner.start(job)
    assert_type(run, Run[Label])
    assert_type(runner.run_and_wait(job), Run[Label])
    assert_type(run.wait(), Run[Label])
    assert_type(run.results(), list[ItemResult[Label]])
    assert_type(run.iter_results(), Iterator[ItemResult[Label]])
    assert_type(run.read_terminal_results(), TerminalResultsPage[Label])
    assert_type(run.snapshot(), RunSnapshot[Label])
    assert_type(run.snapshot().items[0].output, Label | None)
    for result in run.read_terminal_results().items:
        assert_type(result.output, Label | None)
        if result.output is not None:
            assert_type(result.output.name, str)


def so_does_every_other_output(runner: BatchRunner, spec: OutputSpec) -> None:
    assert_type(runner.start(BatchJob(ITEMS, ask, CONFIG, output=ModelOutput(Label))), Run[Label])
    assert_type(runner.start(BatchJob(ITEMS, ask, CONFIG, output=TextOutput())), Run[str])
    assert_type(runner.start(BatchJob(ITEMS, ask, CONFIG, output=VectorOutput(3))), Run[Sequence[float]])
    assert_type(runner.start(BatchJob(ITEMS, ask, CONFIG, output=BodyOutput())), Run[Any])
    assert_type(runner.start(BatchJob(ITEMS, ask, CONFIG, output=spec)), Run[Any])
    assert_type(runner.start(BatchJob(ITEMS, ask, CONFIG)), Run[Any])


def what_only_the_store_knows_is_anything(runner: BatchRunner) -> None:
    assert_type(runner.get_run("labels"), Run[Any])
    assert_type(runner.get_run("labels").results(), list[ItemResult[Any]])
    known: Run[Label] = runner.get_run("labels")
    assert_type(known.results(), list[ItemResult[Label]])


def documented_annotations_go_on_working(
    runner: BatchRunner, job: BatchJob, run: Run
) -> tuple[list[BatchResultItem], Run[BaseModel], BatchJob]:
    assert_type(run, Run[Any])
    assert_type(job, BatchJob[Any, Any])
    labels = BatchJob(ITEMS, ask, CONFIG, structured_output=Label)
    results = runner.start(labels).results()
    assert isinstance(results[0], StructuredItemResult)
    return runner.start(labels).results(), runner.start(labels), labels


def what_is_no_output_is_refused() -> None:
    BatchJob(ITEMS, ask, CONFIG, structured_output=int)  # type: ignore[type-var]
    ModelOutput(int)  # type: ignore[type-var]

    def asks_others(item: BatchItem[int]) -> str:
        return str(item.payload)

    BatchJob(ITEMS, asks_others, CONFIG)  # type: ignore[arg-type]
