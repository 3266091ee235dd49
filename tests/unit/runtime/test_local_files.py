"""Images and files of this machine in messages: read once, sent as they were read, and held in memory a few at a time."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batchor_core import BatchItem, BatchJob, ChunkPolicy, PromptParts
from batchor_core.core.exceptions import InvalidInputError, RunItemsMismatchError
from batchor_core.core.outputs import BodyOutput
from batchor_core.runtime.ingest import Reader, first_checkpoint
from batchor_core.testing.fake_rows import http_error_row
from tests.support.world import World, attempt_of, items, text_job

COUNT = 5
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number in range(COUNT):
        (tmp_path / f"item-{number}.png").write_bytes(PNG + bytes([number]))
    return tmp_path


def looking_at(folder: Path) -> Callable[[BatchItem[Any]], PromptParts]:
    def build(item: BatchItem[Any]) -> PromptParts:
        image = {"type": "image", "path": folder / f"{item.item_id}.png"}
        return PromptParts.of_messages(
            [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, image]}]
        )

    return build


def job(folder: Path, count: int = COUNT, **changes: Any) -> BatchJob[Any, Any]:
    return text_job(items(count), build_prompt=looking_at(folder), output=BodyOutput(), **changes)


def sent(world: World) -> list[Any]:
    lines = [line for batch in world.provider.batches.values() for line in batch.lines]
    return [line["body"]["input"][0]["content"][1] for line in lines]


def expected(*contents: bytes) -> list[Any]:
    return [
        {"type": "image", "data": b64encode(PNG + content).decode(), "media_type": "image/png"}
        for content in contents
    ]


def test_files_are_read_while_their_rows_are(any_world: World, photos: Path) -> None:
    run = any_world.start(job(photos)).wait()
    assert run.summary().completed_items == COUNT
    assert sent(any_world) == expected(*(bytes([number]) for number in range(COUNT)))


def test_what_was_stored_is_sent_whatever_becomes_of_the_file(any_world: World, photos: Path) -> None:
    good = any_world.provider.answer
    any_world.provider.answer = lambda line: (
        http_error_row(500, "try again") if attempt_of(line) == 0 else good(line)
    )
    any_world.start(job(photos))
    first = sent(any_world)
    (photos / "item-0.png").write_bytes(PNG + b"another")
    (photos / "item-1.png").unlink()
    assert any_world.start(job(photos)).wait().summary().completed_items == COUNT
    assert sent(any_world) == first * 2


def test_files_that_were_moved_are_the_same(any_world: World, photos: Path, tmp_path_factory: Any) -> None:
    any_world.start(job(photos))
    moved = tmp_path_factory.mktemp("moved")
    for file in sorted(photos.glob("*.png")):
        (moved / file.name).write_bytes(file.read_bytes())
    assert any_world.start(job(moved)).wait().summary().completed_items == COUNT
    (moved / "item-3.png").write_bytes(PNG + b"another")
    with pytest.raises(RunItemsMismatchError, match=r"item 3 .* other messages"):
        any_world.start(job(moved))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda file: file.unlink(), "No such file"),
        (lambda file: file.write_bytes(b""), "is empty"),
        (lambda file: file.write_bytes(b"%PDF-"), "is application/pdf, not an image"),
        (lambda file: (file.unlink(), file.mkdir()), "Is a directory"),
        (lambda file: file.write_bytes(PNG + b"x" * 10_000), "a batch has room for 9,000"),
    ],
)
def test_a_file_that_can_not_be_sent_is_named_with_its_row(
    world: World, photos: Path, spoil: Any, said: str
) -> None:
    spoil(photos / "item-2.png")
    policy = ChunkPolicy(max_file_bytes=9_000)
    with pytest.raises(
        InvalidInputError, match=rf"item 'item-2': messages\[0\].content\[1\].* file .*item-2.png.*{said}"
    ):
        world.start(job(photos, chunk_policy=policy))
    assert world.provider.batches == {}


def test_rows_are_held_by_their_bytes(
    any_world: World, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batchor_core.runtime.ingest.CHUNK_BYTES", 40_000)
    monkeypatch.setattr("batchor_core.storage.sql_reading._FIRST_PAGE", 1)
    monkeypatch.setattr("batchor_core.storage.sql_reading._PAGE_BYTES", 40_000)
    for number in range(COUNT):
        (photos / f"item-{number}.png").write_bytes(PNG + bytes([number]) * 20_000)
    once = iter(items(COUNT))  # what is read of it must not be lost between chunks
    run = any_world.start(text_job(once, build_prompt=looking_at(photos), output=BodyOutput())).wait()
    assert [event["count"] for event in any_world.data("items_ingested")] == [2, 2, 1]
    assert sent(any_world) == expected(*(bytes([number]) * 20_000 for number in range(COUNT)))
    assert run.summary().completed_items == COUNT


def test_images_take_fewer_tokens_than_text(world: World, photos: Path) -> None:
    (photos / "item-0.png").write_bytes(PNG + b"x" * 48_000)
    world.start(job(photos, 1))
    assert 1_000 < world.data("items_claimed_for_submission")[0]["tokens"] < 1_100


def test_a_row_that_can_not_be_rendered_is_not_lost() -> None:
    bad = {"item-3"}

    def build(item: BatchItem[Any]) -> PromptParts:
        return PromptParts("" if item.item_id in bad else "x")

    once = iter(items(COUNT))
    reader = Reader(once, build, first_checkpoint(once))
    with pytest.raises(InvalidInputError, match="item-3"):
        reader.chunk()
    bad.clear()
    assert [item.item_id for item in reader.chunk().asked.items] == [f"item-{n}" for n in range(COUNT)]
