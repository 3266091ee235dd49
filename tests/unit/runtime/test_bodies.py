"""What is stored of a request: the body once, the name of the attempt when the file is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from batchor_core.core.custom_ids import CustomIdFormat
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.models import BatchItem
from batchor_core.core.request_lines import content_address, is_whole
from batchor_core.runtime.engine import EngineSettings
from batchor_core.sources.files import JsonlItemSource
from batchor_core.testing.fake_provider import FakeProvider
from batchor_core.testing.fake_rows import http_error_row
from tests.support.world import RUN, World, by_item, items, text_job, texts


def _stored(world: World, run_id: str = RUN) -> list[Any]:
    return list(world.store.iter_stored_items(run_id=run_id, first_index=0, count=100))


def _sent(world: World) -> list[Any]:
    return [line for batch in world.provider.batches.values() for line in batch.lines]


def _without_name(line: Any) -> dict[str, Any]:
    return {key: value for key, value in line.items() if key != "custom_id"}


def test_a_retry_sends_the_same_body_under_another_name(
    any_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    any_world.provider.answer = by_item({0: [http_error_row(500), http_error_row(500), "fine"]})
    run = any_world.start(text_job(3))
    decoded: list[bytes] = []
    loads = orjson.loads

    def noted(text: bytes | str) -> Any:
        decoded.extend([text] if isinstance(text, bytes) else [])  # lines are bytes
        return loads(text)

    monkeypatch.setattr("batchor_core.core.request_lines.orjson.loads", noted)
    run.wait()
    tries = [line for line in _sent(any_world) if "question 0" in str(line["body"])]
    assert len({line["custom_id"] for line in tries}) == len(tries) == 3
    assert len({orjson.dumps(_without_name(line)) for line in tries}) == 1
    assert not [text for text in decoded if b"question 0" in text and text.startswith(b'{"custom_id"')]


def test_nothing_stored_names_an_attempt(any_world: World) -> None:
    any_world.start(text_job(3)).wait()
    for item in _stored(any_world):
        assert b"custom_id" not in item.request_line
        assert b"ZQXJ" not in item.request_line
    assert not any("ZQXJ" in str(line) for line in _sent(any_world))


class Embedding(FakeProvider):
    """A provider whose requests hold their own name, or something made of it."""

    def __init__(self, embed: Callable[[str], str], **options: Any) -> None:
        super().__init__(**options)
        self.embed = embed

    def build_request_line(self, **arguments: Any) -> Any:
        line: Any = super().build_request_line(**arguments)
        return {**line, "body": {**line["body"], "user": self.embed(arguments["custom_id"])}}


@pytest.mark.parametrize(
    "embed", [str, lambda name: f"<{name}>", lambda name: str(len(name) + sum(name.encode()))]
)
def test_a_request_that_depends_on_its_name_gets_the_real_one(
    make_world: Callable[..., World], embed: Callable[[str], str]
) -> None:
    world = make_world(kind="sqlite", provider=Embedding(embed))
    world.provider.answer = by_item({0: [http_error_row(500), "fine"]})
    run = world.start(text_job(3)).wait()
    assert texts(run) == dict.fromkeys(["item-0", "item-1", "item-2"], "fine")
    first = [line for line in _sent(world) if "-0-" in line["custom_id"][7:]][:3]
    assert [line["body"]["user"] for line in first] == [embed(line["custom_id"]) for line in first]
    assert [item.content_address for item in _stored(world)] == [None] * 3
    assert world.start(text_job(3)).is_finished  # and is recognised


def test_a_row_alone_may_hold_the_placeholder(any_world: World) -> None:
    given = items(3)
    given[1].payload["text"] = "what does ZQXJ-ZQXJ-ZQXJ-ZQXJ-ZQXJ mean?"
    run = any_world.start(text_job(given)).wait()
    assert len(run.results()) == 3
    assert "ZQXJ" in str(_sent(any_world)[1]["body"])
    assert "ZQXJ" not in _sent(any_world)[1]["custom_id"]


class Bare(FakeProvider):
    """A provider whose lines have no ``body``."""

    def build_request_line(self, **arguments: Any) -> Any:
        line: Any = super().build_request_line(**arguments)
        return {"custom_id": line["custom_id"], "params": line["body"]}

    def estimate_tokens(self, lines: Any, *, chars_per_token: int) -> list[int]:
        return [1 for _ in lines]


def test_lines_of_another_layout_are_named_too(make_world: Callable[..., World]) -> None:
    world = make_world(kind="sqlite", provider=Bare())
    world.start(text_job(2))
    key = world.store.get_request_artifact_paths(run_id=RUN)[0]
    lines = [orjson.loads(line) for line in world.artifacts.read_text(key).splitlines()]
    assert [list(line) for line in lines] == [["custom_id", "params"]] * 2
    assert [line["params"]["input"] for line in lines] == ["question 0", "question 1"]
    assert [line["custom_id"].rpartition("-")[0] for line in lines] == ["item-0-0-0", "item-1-1-0"]


def test_addresses_are_kept_where_they_are_asked_for(make_world: Callable[..., World]) -> None:
    world = make_world(kind="sqlite", settings=EngineSettings(content_addresses=True))
    twins = items(2)
    twins[1].payload["text"] = "question 0"
    world.start(text_job(twins), run_id="one").wait()
    world.start(text_job(2), run_id="two").wait()
    one, two = ([item.content_address for item in _stored(world, run_id)] for run_id in ("one", "two"))
    assert one[0] == one[1] == two[0] != two[1]
    body = orjson.dumps(_sent(world)[0]["body"])
    assert one[0] == content_address("fake", "/v1/responses", body)
    world.runner(settings=EngineSettings()).start(text_job(2), run_id="three").wait()
    assert [item.content_address for item in _stored(world, "three")] == [None, None]


def test_what_is_no_json_names_the_row(any_world: World) -> None:
    class NoJson(FakeProvider):
        def build_request_line(self, **arguments: Any) -> Any:
            return {**super().build_request_line(**arguments), "url": object()}

    any_world.provider = NoJson(clock=any_world.clock)
    with pytest.raises(InvalidInputError, match="item 'item-0': the provider's request is not JSON"):
        any_world.start(text_job(2))


class Killed(BaseException):
    """The process dies."""


def test_a_run_that_an_earlier_build_has_half_read_goes_on(
    make_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows are stored as whole lines, under the names of their first attempts."""
    monkeypatch.setattr("batchor_core.runtime.ingest.CHUNK", 10)
    world = make_world(kind="sqlite")
    path = world.folder / "rows.jsonl"
    path.write_text(
        "".join(f'{{"id": "item-{n}", "text": "a question that is long enough: {n}"}}\n' for n in range(30))
    )
    source = JsonlItemSource(path, item_id_from_row=lambda row: row["id"], payload_from_row=dict)

    def dies(item: BatchItem[Any]) -> str:
        if item.item_id == "item-25":
            raise Killed
        return str(item.payload["text"])

    world.provider.answer = by_item({3: [http_error_row(500), "fine"], 23: [http_error_row(500), "fine"]})
    with monkeypatch.context() as earlier:
        earlier.setattr("batchor_core.runtime.ingest._are_nameless", lambda *_: False)
        earlier.setattr("batchor_core.storage.sql.NEWEST", CustomIdFormat.INDEX_FIRST)
        with pytest.raises(Killed):
            world.start(text_job(source, build_prompt=dies))
    run = world.runner(storage=world.open_store()).start(text_job(source), run_id=RUN).wait()
    assert [is_whole(item.request_line) for item in _stored(world)] == [True] * 20 + [False] * 10
    assert texts(run) == {f"item-{n}": "fine" for n in range(30)}
    sent = _sent(world)
    assert [line["custom_id"].rpartition("-")[0] for line in sent[30:]] == ["3-1", "23-1"]
    for early, late in ((sent[3], sent[30]), (sent[23], sent[31])):
        assert _without_name(early) == _without_name(late)
