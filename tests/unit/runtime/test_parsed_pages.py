"""Result files that a provider of the eight methods parses: by pages where each line is a row of its own, else at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from batchor_core.core.enums import RunLifecycleStatus
from batchor_core.runtime import result_lines
from batchor_core.testing.fake_provider import FakeProvider
from batchor_core.testing.fake_rows import http_error_row
from tests.support.world import World, index_of, items, text_job, texts
from tests.unit.runtime.test_doubt import EightMethods

ROWS = 30


class Parsing(EightMethods):
    """Counts the lines of each text that it parses, and may change what they hold."""

    def __init__(
        self, inner: FakeProvider, *, spoil: Callable[[str], str] = str, renames: bool = False
    ) -> None:
        super().__init__(inner)
        self.inner, self.spoil, self.renames = inner, spoil, renames
        self.parsed: list[int] = []
        self.download_file_content, self.parse_batch_output = self._content, self._parse

    def _content(self, file_id: str) -> str:
        return self.spoil(self.inner.download_file_content(file_id))

    def _parse(self, *, output_content: str | None, error_content: str | None) -> Any:
        self.parsed.append(sum((text or "").count("\n") for text in (output_content, error_content)))
        found = self.inner.parse_batch_output(output_content=output_content, error_content=error_content)
        if self.renames:
            for record in found[0].values():
                record["told_by"] = "the provider"
        return found


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result_lines, "_PAGE_BYTES", 1_000)


def finish(world: World, provider: Parsing) -> Any:
    run = world.start(text_job(items(ROWS)), provider_factory=lambda config: provider)
    run.wait(poll_interval=600)
    assert run.status is RunLifecycleStatus.COMPLETED
    assert texts(run) == {f"item-{n}": f"answer to question {n}" for n in range(ROWS)}
    return run


def raw_offsets(world: World) -> list[int | None]:
    return [
        row.raw_offset for row in world.store.get_result_rows(run_id="run-1", after_sequence=0, limit=ROWS)
    ]


def test_a_file_of_rows_is_parsed_by_pages_and_raw_responses_stay_in_it(
    make_world: Callable[..., World],
) -> None:
    world = make_world()
    provider = Parsing(world.provider)
    run = finish(world, provider)
    assert len(provider.parsed) > 3
    assert sum(provider.parsed) == ROWS
    assert None not in raw_offsets(world)
    for result in run.results():
        output = result.raw_response["response"]["body"]["output"]
        assert output[0]["content"][0]["text"] == result.output_text


def test_a_record_that_the_provider_changes_is_stored_as_it_gives_it(
    make_world: Callable[..., World],
) -> None:
    world = make_world()
    run = finish(world, Parsing(world.provider, renames=True))
    assert set(raw_offsets(world)) == {None}
    assert {result.raw_response["told_by"] for result in run.results()} == {"the provider"}


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda text: '{"format": 2}\n' + text, id="a line that is no row"),
        pytest.param(lambda text: text + text.partition("\n")[0] + "\n", id="a row twice"),
    ],
)
def test_any_other_file_is_parsed_at_once(
    make_world: Callable[..., World], spoil: Callable[[str], str]
) -> None:
    world = make_world()
    provider = Parsing(world.provider, spoil=spoil)
    finish(world, provider)
    assert provider.parsed == [ROWS + 1]


def test_pages_of_the_error_file_are_errors(make_world: Callable[..., World]) -> None:
    asked: set[int] = set()

    def answer(line: Any) -> Any:
        index = index_of(line)
        if index % 2 and index not in asked:
            asked.add(index)
            return http_error_row(500, "server_error")
        return f"answer to {line['body']['input']}"

    world = make_world(provider=FakeProvider(answer=answer))
    provider = Parsing(world.provider)
    finish(world, provider)
    assert len(provider.parsed) > 3
    assert sum(provider.parsed) == ROWS + ROWS // 2
