"""Any items can be read on after a crash."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from batchor_core import BatchItem, CsvItemSource, FrameItemSource, RowItemSource
from batchor_core.core.exceptions import InvalidInputError
from batchor_dagster.steps.rereading import resumable


def test_numbers_of_any_size_are_read_again_from_the_spool(tmp_path: Path) -> None:
    values = [2**80, -(2**63) - 1, 2**64 - 1, 0.1, "caf\udce9"]
    given = [BatchItem("a", values, {"v": values})]
    [row] = resumable(iter(given), tmp_path).iter_from_checkpoint(0)
    assert row.item == given[0]


def items() -> list[BatchItem[Any]]:
    return [BatchItem(str(index), {"n": index}, {"line": index}) for index in range(5)]


KINDS: dict[str, Callable[[], Any]] = {
    "list": items,
    "generator": lambda: (item for item in items()),
    "table": lambda: RowItemSource([{"n": i} for i in range(5)], item_id_from_row=lambda row: str(row["n"])),
    "one reading": lambda: RowItemSource(
        iter([{"n": i} for i in range(5)]), item_id_from_row=lambda row: str(row["n"])
    ),
    "frame": lambda: FrameItemSource(pa.table({"n": range(5)}), item_id_from_row=lambda row: str(row["n"])),
    "record batches": lambda: FrameItemSource(
        pa.table({"n": range(5)}).to_reader(2), item_id_from_row=lambda row: str(row["n"])
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_any_items_can_be_read_on_from_anywhere(kind: str, tmp_path: Path) -> None:
    source = resumable(KINDS[kind](), tmp_path)
    whole = list(source.iter_from_checkpoint(source.initial_checkpoint()))
    assert [row.item.item_id for row in whole] == ["0", "1", "2", "3", "4"]
    for position, row in enumerate(whole):
        assert list(source.iter_from_checkpoint(row.next_checkpoint)) == whole[position + 1 :]


def test_content_and_order_identify_the_items_and_nothing_else(tmp_path: Path) -> None:
    def identity(rows: Any, folder: str) -> str:
        (tmp_path / folder).mkdir()
        return resumable(rows, tmp_path / folder).source_identity().source_fingerprint

    same = identity(items(), "a")
    assert identity(iter(items()), "b") == same
    assert identity(items()[::-1], "c") != same
    assert identity(items()[:4], "d") != same


def test_what_can_be_read_once_is_kept_on_disk_and_not_in_memory(tmp_path: Path) -> None:
    resumable(iter(items()), tmp_path)
    assert (tmp_path / "items.jsonl").read_bytes().count(b"\n") == 5


def test_a_file_source_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("id\n1\n")
    source: CsvItemSource[Any] = CsvItemSource(
        tmp_path / "rows.csv", item_id_from_row=lambda row: row["id"], payload_from_row=lambda row: row["id"]
    )
    assert resumable(source, tmp_path) is source


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["text"], "must be BatchItem objects, and one is a str"),
        ([BatchItem("a", dt.date(2026, 1, 1))], "item 'a': its payload and metadata must be JSON"),
        (
            [BatchItem("a", 1, {"x": object()})],
            "item 'a': its payload and metadata must be JSON",
        ),
    ],
)
def test_rows_that_are_none_are_named(rows: list[Any], message: str, tmp_path: Path) -> None:
    for given in (rows, iter(rows)):
        with pytest.raises(InvalidInputError, match=message):
            resumable(given, tmp_path)
