"""A row that can't be read or turned into an item is named with its file and place, the cause, and what to do."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchor_core.core.exceptions import SourceRowError
from batchor_core.core.types import JSONValue
from batchor_core.sources.files import CsvItemSource, JsonlItemSource, ParquetItemSource

CALLBACKS: dict[str, Any] = {
    "item_id_from_row": lambda row: str(row["id"]),
    "payload_from_row": lambda row: row,
}


def written(tmp_path: Path, name: str, content: bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


def parquet(tmp_path: Path, columns: dict[str, Any], **options: Any) -> Path:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table(columns), path, **options)
    return path


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b'{"id": NaN}\n', "it holds NaN, which JSON does not know. Python's json.dumps writes it"),
        (b'{"id": 1, "x": -Infinity}\n', "it holds -Infinity, which JSON does not know"),
        (
            rb'{"id": "\ud83d"}',
            r"holds half of a surrogate pair (\ud83d at position 9), which is no character",
        ),
        (rb'{"id": "\ude00\ud83d"}', r"(\ude00 at position 9)"),
        (b'{"id": "1"} {"id": "2"}\n', 'more than one value: after the first comes \'{"id": "2"}\''),
        (b'{"id": 1}\0\0\0\0', "ends in zero bytes, as a file does whose writing was interrupted"),
        (b"\0\0\0\0", "holds nothing but zero bytes"),
        (
            b'{"id": 1, "text": "abc',
            "is cut off: the file ends in the middle of a row. Write or copy it again",
        ),
        (b'{"id": 1,', "is cut off"),
        (b'{"id": 1,\n', "it ends in the middle of an object. JSONL has one object on each line"),
        (b"{'id': 1}\n", "is a Python dict and not JSON. Write rows with json.dumps(row)"),
        (b'{"id": "Zo\xeb"}\n', "is not utf-8: byte 0xeb at position 11. Give encoding=..."),
        (b'{"id": ' + b"1" * 5000 + b"}\n", "a number has more than 4,300 digits. Write it as a string"),
        (b'{"id": 1e99999999999999999999}\n', "the exponent of 1e99999999999999999999 is too large"),
    ],
)
def test_a_line_that_is_no_json_is_explained(line: bytes, problem: str, tmp_path: Path) -> None:
    path = written(tmp_path, "rows.jsonl", b'{"id": 0}\n' + line)
    rows = iter(JsonlItemSource(path, **CALLBACKS))
    assert next(rows).item_id == "0"
    with pytest.raises(SourceRowError) as caught:
        next(rows)
    assert str(caught.value).startswith(f"{path}, line 2: ")
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (
            b'[{"id": 1},\n {"id": 2}]\n',
            "The file is a JSON array. JSONL has one object on each line: jq -c '.[]'",
        ),
        (b'[{"id": 1}]', "The file is a JSON array"),
        (b"[\n{}\n]", "The file is a JSON array"),
        (b'{\n  "id": 1\n}\n', "the file spreads an object over several lines"),
        (b"id,text\n1,a\n", "it begins with 'id,text'. JSONL has one object on each line"),
    ],
)
def test_a_file_that_is_no_jsonl_is_explained(content: bytes, problem: str, tmp_path: Path) -> None:
    with pytest.raises(SourceRowError, match=r"line 1: .*") as caught:
        list(JsonlItemSource(written(tmp_path, "rows.jsonl", content), **CALLBACKS))
    assert problem in str(caught.value)


def test_numbers_of_a_file_are_exact_in_ids_payloads_and_metadata(tmp_path: Path) -> None:
    numbers = [
        "9223372036854775807",
        "-9223372036854775809",
        "-9223372036854775810",
        "18446744073709551616",
        "18446744073709551617",
        "1e400",
        "0.12345678901234567891",
        "0.12345678901234567892",
        "12345678901234567890.5",
    ]
    path = written(tmp_path, "rows.jsonl", "".join(f'{{"id": {one}}}\n' for one in numbers).encode())
    items = list(JsonlItemSource(path, **CALLBACKS, metadata_from_row=lambda row: row, primary_key="id"))
    assert len({item.item_id for item in items}) == len(numbers)
    for item, written_number in zip(items, numbers, strict=True):
        lineage: Any = item.metadata["batchor_lineage"]
        for kept in (item.item_id, item.payload["id"], item.metadata["id"], lineage["primary_key"]):
            assert Decimal(kept) == Decimal(written_number)


def test_numbers_of_parquet_are_exact(tmp_path: Path) -> None:
    columns = {
        "id": pa.array([2**64 - 1], pa.uint64()),
        "small": pa.array([-(2**63)], pa.int64()),
        "price": pa.array([Decimal(10**37 + 1)], pa.decimal128(38)),
        "large": pa.array([Decimal(10**75 + 1)], pa.decimal256(76)),
    }
    [item] = ParquetItemSource(parquet(tmp_path, columns), **CALLBACKS, metadata_from_row=lambda row: row)
    assert item.item_id == str(2**64 - 1)
    del item.metadata["batchor_lineage"]
    assert item.metadata == {
        "id": 2**64 - 1,
        "small": -(2**63),
        "price": str(10**37 + 1),
        "large": str(10**75 + 1),
    }


UNFIT: dict[str, tuple[Any, str]] = {
    "beyond year 9999": (pa.array([0, 253402300800], pa.timestamp("s")), "years 1 to 9999"),
    "beyond it in its zone": (
        pa.array([0, 253402300799], pa.timestamp("s", tz="Asia/Tokyo")),
        "in the column's time zone too",
    ),
    "before year 1 in its zone": (
        pa.array([0, -62135596800], pa.timestamp("s", tz="America/New_York")),
        "in the column's time zone too",
    ),
    "a day beyond": (pa.array([0, 3_000_000], pa.date32()), "years 1 to 9999"),
    "a long duration": (pa.array([0, 10**17], pa.duration("s")), "durations have a limit"),
    "within a struct": (
        pa.array([{"a": 0}, {"a": 253402300800}], pa.struct([("a", pa.timestamp("s"))])),
        "years 1 to 9999",
    ),
}


@pytest.mark.parametrize("name", UNFIT)
def test_a_value_without_a_python_form_is_named_with_row_and_column(name: str, tmp_path: Path) -> None:
    column, why = UNFIT[name]
    path = parquet(tmp_path, {"id": ["a", "b"], "at": column})
    rows = iter(ParquetItemSource(path, **CALLBACKS))
    assert next(rows).item_id == "a"
    with pytest.raises(SourceRowError, match=why) as caught:
        next(rows)
    assert (caught.value.path, caught.value.line, caught.value.column) == (str(path), 2, "at")
    assert "Clip or clean the column, or cast it to integers or strings" in str(caught.value)
    assert isinstance(caught.value.__cause__, OverflowError)
    assert len(list(ParquetItemSource(path, **CALLBACKS, columns=["id"]))) == 2


def test_an_unknown_time_zone_is_named(tmp_path: Path) -> None:
    path = parquet(tmp_path, {"id": ["a"], "at": pa.array([0], pa.timestamp("us", tz="Mars/Base"))})
    with pytest.raises(
        SourceRowError, match=r"column 'at': .* there is no time zone 'Mars/Base' on this machine"
    ):
        list(ParquetItemSource(path, **CALLBACKS))


def test_text_of_parquet_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    offsets, data = pa.py_buffer((0).to_bytes(4, "little") + (1).to_bytes(4, "little")), pa.py_buffer(b"\xff")
    text = pa.Array.from_buffers(pa.string(), 1, [None, offsets, data])
    with pytest.raises(SourceRowError, match=r"line 1, column 'text': .*not UTF-8"):
        list(ParquetItemSource(parquet(tmp_path, {"id": ["a"], "text": text}), **CALLBACKS))


def test_the_row_is_that_of_the_whole_file_after_a_checkpoint_too(tmp_path: Path) -> None:
    moments = [0] * 2499 + [253402300800]
    columns = {"id": [str(n) for n in range(2500)], "at": pa.array(moments, pa.timestamp("s"))}
    source = ParquetItemSource(parquet(tmp_path, columns, row_group_size=1200), **CALLBACKS)
    starts: list[JSONValue] = [[0, 0], [2, 50]]
    for start in starts:
        with pytest.raises(SourceRowError) as caught:
            list(source.iter_from_checkpoint(start))
        assert caught.value.line == 2500


def test_damage_within_a_file_is_placed(tmp_path: Path) -> None:
    path = parquet(
        tmp_path,
        {"id": [f"{n:0100d}" for n in range(3000)]},
        row_group_size=1000,
        compression="zstd",
        use_dictionary=False,
    )
    content = bytearray(path.read_bytes())
    start = pq.ParquetFile(path).metadata.row_group(1).column(0).data_page_offset
    content[start + 20 : start + 200] = b"\xaa" * 180
    path.write_bytes(content)
    with pytest.raises(
        SourceRowError, match=r"line 1001: can't be read as Parquet: .*written and copied completely"
    ):
        list(ParquetItemSource(path, **CALLBACKS))


class OwnError(Exception):
    """A user's own."""


class OwnKeyError(KeyError):
    """A user's own, of a built-in kind."""


@pytest.mark.parametrize(
    "error", [OwnError("no luck"), OwnKeyError("no luck"), json.JSONDecodeError("no luck", "", 0)]
)
@pytest.mark.parametrize("function", ["item_id_from_row", "payload_from_row", "metadata_from_row"])
def test_an_error_of_the_users_own_keeps_its_type_and_gets_the_place(
    function: str, error: Exception, tmp_path: Path
) -> None:
    def fails(row: Any) -> Any:
        raise error

    path = written(tmp_path, "rows.csv", b"id\n1\n")
    with pytest.raises(type(error), match="no luck") as caught:
        list(CsvItemSource(path, **{**CALLBACKS, function: fails}))
    assert any(note.startswith(f"{path}, line 2: {function} raised this") for note in caught.value.__notes__)


def test_an_operating_systems_error_in_a_function_is_not_taken_for_one_of_the_file(tmp_path: Path) -> None:
    def fails(row: Any) -> Any:
        raise FileNotFoundError("prompt.txt")

    path = parquet(tmp_path, {"id": ["1"]})
    with pytest.raises(
        SourceRowError, match="line 1: payload_from_row failed with FileNotFoundError: prompt"
    ):
        list(ParquetItemSource(path, **{**CALLBACKS, "payload_from_row": fails}))
