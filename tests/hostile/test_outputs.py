"""Whatever a provider puts into its files: no batch is aborted, and no row gets another row's answer.

``BATCHOR_TEST_HOSTILE_SEEDS`` says how many seeds each mutation is tried with; the long run takes 200.
"""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import pytest

from batchor_core.core.enums import RunLifecycleStatus
from batchor_core.core.exceptions import QuarantinedBatchError, RunPausedError
from batchor_core.core.jsontext import to_json
from batchor_core.core.models import ArtifactPolicy, RetryPolicy
from batchor_core.providers.openai.answers import read_record
from batchor_core.providers.openai.config import OpenAIProviderConfig
from batchor_core.providers.openai.provider import OpenAIBatchProvider
from batchor_core.testing.fake_batch import FakeBatch
from batchor_core.testing.fake_provider import FakeProvider
from batchor_core.testing.fake_rows import answer_row
from tests.hostile.mutations import MUTATIONS, Files, Mutation
from tests.support.world import RUN, World, items, text_job

SEEDS = int(os.environ.get("BATCHOR_TEST_HOSTILE_SEEDS", "5"))
ROWS = 5

NAME = [mutation.__name__ for mutation in MUTATIONS]


class HostileProvider(FakeProvider):
    """Spoils the files of the first ``times`` batches; answers name the row they are for."""

    read_record = staticmethod(
        read_record
    )  # as OpenAI's provider has it, whose good lines are read from their bytes

    def __init__(self, mutations: list[Mutation], seed: int, *, times: int = 1, **options: Any) -> None:
        super().__init__(answer=lambda line: f"answer <{line['body']['input']}>", **options)
        self.rng = random.Random(seed)
        self.mutations = mutations
        self.times = times

    def _finish(self, batch: FakeBatch) -> None:
        super()._finish(batch)
        if self.times <= 0 or batch.output_file_id is None:
            return
        self.times -= 1
        files = Files(self.files[batch.output_file_id].split(b"\n")[:-1], [])
        for mutation in self.mutations:
            if files.output:
                mutation(files, self.rng)
        output, errors = files.joined()
        self.files[batch.output_file_id] = output
        if errors:
            batch.error_file_id = self._keep("errors.jsonl", errors)


def telling_seeds(mutation: Mutation) -> Iterator[int]:
    """Of the seeds that spoil files in the same way, the first."""
    fake, seen = HostileProvider([], 0), set()
    for seed in range(SEEDS):
        files = Files([_line(fake, n) for n in range(ROWS)], [])
        mutation(files, random.Random(seed))
        if (spoiled := files.joined()) not in seen:
            seen.add(spoiled)
            yield seed


def job(prefix: str) -> Any:
    return text_job(
        items(ROWS),
        retry=RetryPolicy(max_attempts=4, base_backoff_sec=1.0, max_backoff_sec=5.0),
        build_prompt=lambda item: f"{prefix}{item.item_id}",
    )


def check(world: World, run: Any, *, whole: bool = True) -> None:
    """Every row has one result, and it is its own."""
    results = run.results()
    assert [result.item_id for result in results] == [f"item-{n}" for n in range(ROWS)]
    for result in results:
        if result.output_text is not None and result.error is None:
            assert re.search(rf"answer <\w*{result.item_id}>", result.output_text), result
            assert (
                "answer <"
                not in result.output_text.replace(f"{result.item_id}>", "", 1).split("answer <", 2)[-1]
            )
    assert sorted(record.terminal_result_sequence or 0 for record in _records(world)) == list(
        range(1, ROWS + 1)
    )
    if whole:
        assert run.status is RunLifecycleStatus.COMPLETED
    # what was stored can be read by whoever reads JSON
    exported = run.export_terminal_results(world.folder / "out.jsonl", append=False)
    lines = Path(exported.destination_path).read_bytes().split(b"\n")[:-1]
    # the raw response is copied as it came, numbers of thousands of digits and all
    assert all(json.loads(line, parse_int=str)["item_id"] for line in lines)
    run.export_artifacts(world.folder / "bundle")


def finish(world: World, run: Any) -> None:
    """Wait, and when a person is asked about a file that stays cut, take what is there and send the rest again."""
    while True:
        try:
            run.wait(poll_interval=3_600.0)
        except QuarantinedBatchError as asked:
            for local_batch_id in asked.late:
                world.runner().resubmit_batch(run.run_id, local_batch_id)
        else:
            return


def _records(world: World) -> Any:
    return world.store.get_terminal_item_records(run_id=RUN, after_sequence=0)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=NAME)
def test_one_spoiled_batch_costs_no_row_its_answer(
    make_world: Callable[..., World], mutation: Mutation
) -> None:
    for seed in telling_seeds(mutation):
        world = make_world(provider=HostileProvider([mutation], seed))
        run = world.start(job(f"s{seed}"))
        finish(world, run)
        check(world, run)


@pytest.mark.parametrize(
    ("kind", "keep"),
    [
        pytest.param("sqlite", True, id="sqlite, raw files kept"),
        pytest.param(
            "postgres", False, marks=pytest.mark.postgres, id="postgres, raw responses in the database"
        ),
    ],
)
def test_a_database_takes_whatever_comes(make_world: Callable[..., World], kind: str, keep: bool) -> None:
    """All mutations in one store, run after run, with the raw responses in the database where no file is kept."""
    world = make_world(kind=kind)
    policy = ArtifactPolicy(persist_raw_output_artifacts=keep)
    some = list(MUTATIONS)[:: 1 if kind == "sqlite" else 3]  # each round takes longer there
    for number, mutation in enumerate(some):
        provider = HostileProvider([mutation], number)
        run = world.runner(provider_factory=lambda config, provider=provider: provider).start(
            text_job(
                items(ROWS),
                artifact_policy=policy,
                build_prompt=lambda item: f"x{item.item_id}",
                retry=RetryPolicy(max_attempts=4, max_backoff_sec=5.0),
            ),
            run_id=f"run-{number}",
        )
        finish(world, run)
        assert run.status is RunLifecycleStatus.COMPLETED, mutation.__name__
        for result in run.results():
            assert f"answer <x{result.item_id}>" in (result.output_text or ""), mutation.__name__


def test_several_at_once(make_world: Callable[..., World]) -> None:
    for seed in range(SEEDS * 3):
        mutations = random.Random(seed).sample(MUTATIONS, k=4)
        world = make_world(provider=HostileProvider(mutations, seed))
        run = world.start(job(f"s{seed}"))
        finish(world, run)
        check(world, run)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=NAME)
def test_a_provider_that_never_gets_better_comes_to_an_end(
    make_world: Callable[..., World], mutation: Mutation
) -> None:
    """The run ends, or pauses and says why, or asks; it does not go on for ever."""
    world = make_world(provider=HostileProvider([mutation], 1, times=10_000))
    run = world.start(job("s"))
    with suppress(RunPausedError, QuarantinedBatchError):
        run.wait(timeout=50_000, poll_interval=600.0)
    if run.is_finished:
        check(world, run, whole=False)
    else:
        assert world.summary().control_reason or world.summary().quarantined_batches


@pytest.mark.parametrize("mutation", MUTATIONS, ids=NAME)
def test_the_documented_parser_is_as_careful(mutation: Mutation) -> None:
    provider = OpenAIBatchProvider(OpenAIProviderConfig(model="gpt-5-mini", api_key="unused"))
    fake = HostileProvider([], 0)
    for seed in range(SEEDS):
        lines = [_line(fake, n) for n in range(ROWS)]
        files = Files(list(lines), [])
        mutation(files, random.Random(seed))
        output, errors = (content.decode("utf-8", "replace") for content in files.joined())
        successes, failures, records = provider.parse_batch_output(
            output_content=output, error_content=errors
        )
        assert not successes.keys() & failures.keys()
        assert len(records) <= 2 * ROWS
        for custom_id, record in successes.items():
            index = custom_id.split("-")[0]
            said = to_json(record).decode()
            if custom_id == f"{index}-0-aabbccddeeff" and "answer <" in said:
                assert f"<row-{index}>" in said


def _line(fake: FakeProvider, index: int) -> bytes:
    row = {"custom_id": f"{index}-0-aabbccddeeff", **answer_row(f"answer <row-{index}>")}
    return orjson.dumps(row)
