"""What sources say about files that are not as they should be, and the small rules of rows."""

from __future__ import annotations

import csv
import os
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchor_core.core.exceptions import InvalidInputError, SourceRowError
from batchor_core.core.models import BatchItem
from batchor_core.sources import fingerprint, lines
from batchor_core.sources.base import CheckpointedItemSource
from batchor_core.sources.composite import CompositeItemSource
from batchor_core.sources.files import CsvItemSource, JsonlItemSource, ParquetItemSource
from batchor_core.sources.fingerprint import content_fingerprint
from batchor_core.sources.lines import has_safe_offsets
from batchor_core.sources.rows import hive_partition, json_safe

CALLBACKS: dict[str, Any] = {"item_id_from_row": lambda row: row["id"], "payload_from_row": lambda row: row}


def read(source: CheckpointedItemSource[Any]) -> list[BatchItem[Any]]:
    return list(source)


def written(tmp_path: Path, name: str, content: bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


class TestJsonl:
    @pytest.mark.parametrize(
        ("content", "line", "problem"),
        [
            (b'{"id": "1"}\n{"id": \n', 2, "is not JSON"),
            (b'{"id": "1"}\n\n\n{oops}\n', 4, "is not JSON"),
            (b'{"id": "1"}\n[1, 2]\n', 2, "holds a JSON list, and must hold an object"),
            (b'"text"', 1, "holds a JSON string"),
            (b"3", 1, "holds a JSON number"),
            (b"null", 1, "holds a JSON null"),
            (b"true", 1, "holds a JSON boolean"),
            (b'{"id": "1"}\n{"id": "\xff"}\n', 2, "is not utf-8: byte 0xff at position 9"),
            (b'{"id": "1"} {"id": "2"}\n', 1, "is not JSON"),
            (b'{"id": NaN}\n', 1, "is not JSON"),
            (
                b'{"id": "a", "n": ' + b"1" * 5_000 + b"}",
                1,
                "can't be read: a number has more than 4,300 digits",
            ),
            (
                b'{"id": ""}\n',
                1,
                "item_id_from_row returned '', not a non-empty string; every row needs an id",
            ),
            (b'{"id": 5}\n', 1, "item_id_from_row returned 5, not a non-empty string; return str(...)"),
            (b'{"id": null}\n', 1, "every row needs an id"),
            (
                b'{"key": "1", "text": 2}\n',
                1,
                "item_id_from_row reads a column that does not exist; the columns are 'key', 'text'",
            ),
        ],
    )
    def test_a_bad_row_is_named(self, content: bytes, line: int, problem: str, tmp_path: Path) -> None:
        path = written(tmp_path, "rows.jsonl", content)
        with pytest.raises(SourceRowError) as caught:
            read(JsonlItemSource(path, **CALLBACKS))
        assert problem in str(caught.value)
        assert str(caught.value).startswith(f"{path}, line {line}")
        assert (caught.value.path, caught.value.line) == (str(path), line)

    def test_rows_before_a_bad_one_are_given_out(self, tmp_path: Path) -> None:
        rows = iter(JsonlItemSource(written(tmp_path, "rows.jsonl", b'{"id": "1"}\nx\n'), **CALLBACKS))
        assert next(rows).item_id == "1"
        with pytest.raises(SourceRowError):
            next(rows)

    def test_line_numbers_go_on_after_a_checkpoint(self, tmp_path: Path) -> None:
        source = JsonlItemSource(written(tmp_path, "rows.jsonl", b'\n{"id": "1"}\r\n\nx\n'), **CALLBACKS)
        first = next(source.iter_from_checkpoint(0)).next_checkpoint
        with pytest.raises(SourceRowError, match="line 4"):
            list(source.iter_from_checkpoint(first))

    def test_integers_beyond_64_bits_keep_their_digits(self, tmp_path: Path) -> None:
        path = written(tmp_path, "rows.jsonl", b'{"id": 123456789012345678901234567890}\n')
        items = read(
            JsonlItemSource(
                path, item_id_from_row=lambda row: str(row["id"]), payload_from_row=lambda row: None
            )
        )
        assert items[0].item_id == "123456789012345678901234567890"

    def test_blank_lines_and_windows_line_ends_are_fine(self, tmp_path: Path) -> None:
        path = written(tmp_path, "rows.jsonl", b'\xef\xbb\xbf{"id": "1"}\r\n\r\n  \n{"id": "2"}')
        items = read(JsonlItemSource(path, **CALLBACKS))
        assert [item.item_id for item in items] == ["1", "2"]
        assert [item.metadata["batchor_lineage"]["row_index"] for item in items] == [0, 1]

    def test_unicode_line_separators_end_no_line(self, tmp_path: Path) -> None:
        path = written(tmp_path, "rows.jsonl", '{"id": "a\u2028b\x85c"}\n'.encode())
        assert [item.item_id for item in read(JsonlItemSource(path, **CALLBACKS))] == ["a\u2028b\x85c"]

    def test_an_empty_file_has_no_items(self, tmp_path: Path) -> None:
        for content in (b"", b"\n", b"\xef\xbb\xbf"):
            assert read(JsonlItemSource(written(tmp_path, "rows.jsonl", content), **CALLBACKS)) == []

    def test_another_encoding_is_decoded(self, tmp_path: Path) -> None:
        path = written(tmp_path, "rows.jsonl", '{"id": "Zoë"}'.encode("cp1252"))
        assert read(JsonlItemSource(path, encoding="cp1252", **CALLBACKS))[0].item_id == "Zoë"

    def test_a_line_without_end_is_not_read_into_memory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(lines, "MAX_LINE_BYTES", 64)
        for encoding in ("utf-8", "utf-16"):
            path = written(tmp_path, "rows.jsonl", ('{"id": "1"}\n' + "x" * 100).encode(encoding))
            with pytest.raises(SourceRowError, match="line 2: the line is longer than 64"):
                read(JsonlItemSource(path, encoding=encoding, **CALLBACKS))


class TestCsv:
    @pytest.mark.parametrize(
        ("content", "line", "column", "problem"),
        [
            (b"", 1, None, "has no header"),
            (b"\n\n", 1, None, "has no header"),
            (b"id,text,id,text\n", 1, "id", "names columns more than once: 'id', 'text'"),
            (b"id,text\n1\n", 2, "text", "the row has 1 values, and the header names 2 columns"),
            (b"id,text\n1,a,b\n", 2, None, "the row has 3 values"),
            (b'id,text\n1,"a\nb"\n\n2\n', 5, "text", "the row has 1 values"),
            (b'id,text\n1,"open\n2,b\n', 2, None, "is not CSV"),
            (b'id,text\n1,"a"b\n', 2, None, "is not CSV"),
            (b"id,text\n1,a\rb\n", 2, None, "is not CSV"),
            (b"id,text\n1,\xff\n", 2, None, "the line is not utf-8: byte 0xff at position 3"),
            (b"id,te\xffxt\n1,a\n", 1, None, "the line is not utf-8"),
            (b"key,text\n1,a\n", 2, "id", "the columns are 'key', 'text'"),
            (b"id,text\n,a\n", 2, None, "every row needs an id"),
        ],
    )
    def test_a_bad_row_is_named(
        self, content: bytes, line: int, column: str | None, problem: str, tmp_path: Path
    ) -> None:
        path = written(tmp_path, "rows.csv", content)
        with pytest.raises(SourceRowError) as caught:
            read(CsvItemSource(path, **CALLBACKS))
        assert problem in str(caught.value)
        assert (caught.value.path, caught.value.line, caught.value.column) == (str(path), line, column)

    def test_quoted_values_hold_line_ends_commas_and_quotes(self, tmp_path: Path) -> None:
        path = written(tmp_path, "rows.csv", b'id,"te\nxt"\r\n1,"a\r\nb, ""c"""\r\n\r\n2,\r\n')
        items = read(CsvItemSource(path, **CALLBACKS))
        assert [item.payload for item in items] == [
            {"id": "1", "te\nxt": 'a\r\nb, "c"'},
            {"id": "2", "te\nxt": ""},
        ]

    def test_a_header_over_several_lines_is_read_again_after_a_seek(self, tmp_path: Path) -> None:
        source = CsvItemSource(written(tmp_path, "rows.csv", b'id,"te\nxt"\n1,a\n2,b\n'), **CALLBACKS)
        first = next(source.iter_from_checkpoint(0)).next_checkpoint
        assert [one.item.payload for one in source.iter_from_checkpoint(first)] == [
            {"id": "2", "te\nxt": "b"}
        ]

    def test_a_field_may_be_longer_than_pythons_usual_limit(self, tmp_path: Path) -> None:
        csv.field_size_limit(131_072)
        path = written(tmp_path, "rows.csv", b"id,text\n1," + b"x" * 200_000 + b"\n")
        assert len(read(CsvItemSource(path, **CALLBACKS))[0].payload["text"]) == 200_000

    def test_an_unnamed_index_column_is_fine(self, tmp_path: Path) -> None:
        path = written(tmp_path, "rows.csv", b",id\n0,a\n")
        assert read(CsvItemSource(path, **CALLBACKS))[0].payload == {"": "0", "id": "a"}

    def test_cut_utf16_is_an_error(self, tmp_path: Path) -> None:
        path = written(tmp_path, "rows.csv", "id,text\n1,a\n".encode("utf-16")[:-1])
        with pytest.raises(SourceRowError, match="is not utf-16"):
            read(CsvItemSource(path, encoding="utf-16", **CALLBACKS))


class TestParquet:
    def table(self, tmp_path: Path, columns: dict[str, Any], **options: Any) -> Path:
        path = tmp_path / "rows.parquet"
        pq.write_table(pa.table(columns), path, **options)
        return path

    def test_rows_hold_python_values(self, tmp_path: Path) -> None:
        moment = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
        values = {
            "id": "1",
            "day": date(2026, 1, 2),
            "at": moment,
            "price": Decimal("1.50"),
            "raw": b"\x00\xff",
            "nested": {"a": [1, 2]},
            "nothing": None,
        }
        source = ParquetItemSource(
            self.table(tmp_path, {name: [value] for name, value in values.items()}),
            **CALLBACKS,
            metadata_from_row=lambda row: row,
        )
        [item] = read(source)
        assert item.payload == values
        assert item.metadata == {
            "id": "1",
            "day": "2026-01-02",
            "at": "2026-01-02T03:04:05.000006+00:00",
            "price": "1.50",
            "raw": "AP8=",
            "nested": {"a": [1, 2]},
            "nothing": None,
            "batchor_lineage": {
                "source_path": str(tmp_path / "rows.parquet"),
                "row_index": 0,
                "row_group": 0,
                "row_in_group": 0,
            },
        }

    def test_nanoseconds_are_cut_to_microseconds(self, tmp_path: Path) -> None:
        columns = {
            "id": ["1"],
            "at": pa.array([1_700_000_000_123_456_789], pa.timestamp("ns", tz="UTC")),
            "took": pa.array([1_234_567], pa.duration("ns")),
            "time": pa.array([1_234_567], pa.time64("ns")),
        }
        [item] = read(ParquetItemSource(self.table(tmp_path, columns), **CALLBACKS))
        assert item.payload["at"] == datetime(2023, 11, 14, 22, 13, 20, 123456, tzinfo=UTC)
        assert item.payload["took"] == timedelta(microseconds=1234)
        assert item.payload["time"] == time(0, 0, 0, 1234)

    def test_numbers_that_are_none_are_missing_as_in_frames(self, tmp_path: Path) -> None:
        nan, far = float("nan"), float("inf")
        columns = {
            "id": ["1", "2"],
            "share": [nan, 0.5],
            "many": [[1.0, nan], [far]],
            "nested": [{"x": [{"y": nan}]}, {"x": [{"y": -far}]}],
            "small": pa.array([nan, 1.5], pa.float32()),
            "map": pa.array([[("a", nan)], []], pa.map_(pa.string(), pa.float64())),
        }
        seen: list[Any] = []
        rows: list[dict[str, Any]] = [
            {
                "id": "1",
                "share": None,
                "many": [1.0, None],
                "nested": {"x": [{"y": None}]},
                "small": None,
                "map": [("a", None)],
            },
            {
                "id": "2",
                "share": 0.5,
                "many": [None],
                "nested": {"x": [{"y": None}]},
                "small": 1.5,
                "map": [],
            },
        ]

        def noted(row: dict[str, Any]) -> str:
            seen.append(row)
            return str(row["id"])

        source = ParquetItemSource(
            self.table(tmp_path, columns),
            item_id_from_row=noted,
            payload_from_row=lambda row: row,
        )
        assert [item.payload for item in read(source)] == rows
        assert seen == rows

    def test_only_the_wanted_columns_are_read(self, tmp_path: Path) -> None:
        path = self.table(tmp_path, {"id": ["1"], "text": ["a"], "more": [{"x": 1, "y": 2}]})
        [item] = read(ParquetItemSource(path, columns=["id", "more.y"], **CALLBACKS))
        assert item.payload == {"id": "1", "more": {"y": 2}}

    def test_a_column_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        path = self.table(tmp_path, {"id": ["1"], "text": ["a"]})
        with pytest.raises(
            SourceRowError, match=r"no such column to read; the columns are 'id', 'text'"
        ) as caught:
            read(ParquetItemSource(path, columns=["id", "body"], **CALLBACKS))
        assert caught.value.column == "body"
        with pytest.raises(SourceRowError, match=r"column 'id': item_id_from_row reads a column"):
            read(ParquetItemSource(path, columns=["text"], **CALLBACKS))

    def test_a_column_name_twice_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "rows.parquet"
        pq.write_table(pa.Table.from_arrays([pa.array(["1"])] * 2, names=["id", "id"]), path)
        with pytest.raises(SourceRowError, match="two columns of this name"):
            read(ParquetItemSource(path, **CALLBACKS))

    @pytest.mark.parametrize("content", [b"", b"id,text\n1,a\n", b"PAR1" + b"\x00" * 40 + b"PAR1"])
    def test_another_kind_of_file_is_an_error(self, content: bytes, tmp_path: Path) -> None:
        with pytest.raises(SourceRowError, match="can't be read as Parquet"):
            read(ParquetItemSource(written(tmp_path, "rows.parquet", content), **CALLBACKS))

    def test_a_damaged_page_is_an_error(self, tmp_path: Path) -> None:
        path = self.table(tmp_path, {"id": [str(n) for n in range(1000)]}, compression="zstd")
        content = bytearray(path.read_bytes())
        content[60:160] = b"\x00" * 100
        path.write_bytes(content)
        with pytest.raises(SourceRowError):
            read(ParquetItemSource(path, **CALLBACKS))

    def test_row_indexes_count_through_the_row_groups(self, tmp_path: Path) -> None:
        path = self.table(tmp_path, {"id": [str(n) for n in range(2500)]}, row_group_size=1200)
        source = ParquetItemSource(path, **CALLBACKS)
        resumed = list(source.iter_from_checkpoint([1, 1100]))
        lineages: list[Any] = [one.item.metadata["batchor_lineage"] for one in resumed]
        assert [one["row_index"] for one in lineages] == list(range(2300, 2500))
        assert lineages[0]["row_group"] == 1
        assert lineages[-1]["row_in_group"] == 99
        assert list(source.iter_from_checkpoint([7, 0])) == []

    def test_the_error_names_the_row_of_the_whole_file(self, tmp_path: Path) -> None:
        path = self.table(tmp_path, {"id": ["1", "2", ""]}, row_group_size=2)
        with pytest.raises(SourceRowError) as caught:
            read(ParquetItemSource(path, **CALLBACKS))
        assert caught.value.line == 3


@pytest.mark.parametrize("source_type", [CsvItemSource, JsonlItemSource, ParquetItemSource])
class TestAnyFile:
    def test_a_missing_file_is_named(self, source_type: Any, tmp_path: Path) -> None:
        source = source_type(tmp_path / "absent", **CALLBACKS)
        for use in (source.source_identity, lambda: read(source)):
            with pytest.raises(SourceRowError, match=r"absent: can't be read.*No such file"):
                use()

    def test_a_folder_is_no_file(self, source_type: Any, tmp_path: Path) -> None:
        source = source_type(tmp_path, **CALLBACKS)
        for use in (source.source_identity, lambda: read(source)):
            with pytest.raises(SourceRowError, match="can't be read"):
                use()

    def test_the_path_is_made_absolute(
        self, source_type: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("HOME", "/home/of/somebody")
        assert source_type("rows", **CALLBACKS).path == tmp_path / "rows"
        assert str(source_type("~/rows", **CALLBACKS).path) == "/home/of/somebody/rows"


def jsonl(tmp_path: Path, **options: Any) -> JsonlItemSource[Any]:
    path = written(tmp_path, "rows.jsonl", b'{"id": "1", "key": 7}\n{"id": "2", "key": 8}\n')
    return JsonlItemSource(path, **{**CALLBACKS, **options})


def fails(row: dict[str, Any]) -> Any:
    raise ZeroDivisionError("of all things")


class TestCallbacks:
    @pytest.mark.parametrize("callback", ["item_id_from_row", "payload_from_row", "metadata_from_row"])
    def test_what_one_raises_is_chained_with_the_place(self, callback: str, tmp_path: Path) -> None:
        with pytest.raises(
            SourceRowError, match=rf"line 1: {callback} failed with ZeroDivisionError: of all"
        ) as caught:
            read(jsonl(tmp_path, **{callback: fails}))
        assert isinstance(caught.value.__cause__, ZeroDivisionError)

    def test_a_key_error_about_something_else_names_no_column(self, tmp_path: Path) -> None:
        with pytest.raises(SourceRowError, match="failed with KeyError") as caught:
            read(jsonl(tmp_path, payload_from_row=lambda row: {}[row["key"]]))
        assert caught.value.column is None

    @pytest.mark.parametrize("metadata", [None, "text", ["a"], 3])
    def test_metadata_that_is_no_dict_is_refused(self, metadata: Any, tmp_path: Path) -> None:
        with pytest.raises(SourceRowError, match=r"the result of metadata_from_row is .*not a dict"):
            read(jsonl(tmp_path, metadata_from_row=lambda row: metadata))

    def test_the_lineage_key_is_reserved(self, tmp_path: Path) -> None:
        with pytest.raises(SourceRowError, match="uses the reserved key 'batchor_lineage'"):
            read(jsonl(tmp_path, metadata_from_row=lambda row: {"batchor_lineage": {}}))

    def test_metadata_without_json_form_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(SourceRowError, match="a object has no JSON form"):
            read(jsonl(tmp_path, metadata_from_row=lambda row: {"it": object()}))

    def test_the_users_dict_is_not_changed(self, tmp_path: Path) -> None:
        shared: dict[str, Any] = {"a": 1}
        read(jsonl(tmp_path, metadata_from_row=lambda row: shared))
        assert shared == {"a": 1}


class TestLineage:
    def test_a_named_primary_key_is_recorded(self, tmp_path: Path) -> None:
        lineages: list[Any] = [
            item.metadata["batchor_lineage"] for item in jsonl(tmp_path, primary_key="key")
        ]
        assert [one["primary_key"] for one in lineages] == [7, 8]
        with pytest.raises(SourceRowError, match="column 'absent': primary_key reads a column"):
            read(jsonl(tmp_path, primary_key="absent"))

    def test_the_partition_is_given_or_comes_from_hive_folders(self, tmp_path: Path) -> None:
        lineage: Any = next(iter(jsonl(tmp_path, partition_id="2026-01-01"))).metadata["batchor_lineage"]
        assert lineage["partition_id"] == "2026-01-01"
        folder = tmp_path / "country=de" / "day=2026-01-01"
        folder.mkdir(parents=True)
        lineage = next(iter(jsonl(folder))).metadata["batchor_lineage"]
        assert lineage["partition_id"] == "country=de/day=2026-01-01"

    @pytest.mark.parametrize(
        ("path", "partition"),
        [
            ("/a/b.csv", None),
            ("/a/x=1/b.csv", "x=1"),
            ("/a/x=1/c/y=2/k=v.csv", "x=1/y=2"),
            ("/=1/x=/b", None),
        ],
    )
    def test_hive_folders_are_key_and_value(self, path: str, partition: str | None) -> None:
        assert hive_partition(Path(path)) == partition


class Size(Enum):
    LARGE = 3


@pytest.mark.parametrize(
    ("value", "safe"),
    [
        (None, None),
        (True, True),
        (1.5, 1.5),
        (float("nan"), None),
        (float("-inf"), None),
        (Size.LARGE, 3),
        ({1: (2, {3})}, {"1": [2, [3]]}),
        (frozenset("ba"), ["a", "b"]),
        (date(2026, 1, 2), "2026-01-02"),
        (time(1, 2), "01:02:00"),
        (timedelta(minutes=1.5), 90.0),
        (Decimal("0.10"), "0.10"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (PurePosixPath("a/b"), "a/b"),
        (bytearray(b"\xff"), "/w=="),
    ],
)
def test_python_values_have_a_json_form(value: Any, safe: Any) -> None:
    assert json_safe(value) == safe


class TestFingerprint:
    def test_only_content_counts(self, tmp_path: Path) -> None:
        path = written(tmp_path, "a", b"content")
        before = content_fingerprint(path)
        os.utime(path, (1, 1))
        assert content_fingerprint(path.rename(tmp_path / "b")) == before

    @pytest.mark.parametrize("content", [b"", b"x", b"x" * 9, b"x" * 10, b"x" * 11, b"x" * 57, b"x" * 1000])
    def test_changes_of_size_head_and_tail_are_noticed(
        self, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(fingerprint, "BLOCK", 10)
        monkeypatch.setattr(fingerprint, "WHOLE_FILE", 50)
        variants = {content, content + b"x", b"y" + content[1:], content[:-1] + b"z"}
        found = {content_fingerprint(written(tmp_path, "a", one)) for one in variants}
        assert len(found) == len(variants)

    def test_every_byte_of_a_small_file_counts(self, tmp_path: Path) -> None:
        found = {
            content_fingerprint(written(tmp_path, "a", b"x" * n + b"y" + b"x" * (30 - n))) for n in range(31)
        }
        assert len(found) == 31


@pytest.mark.parametrize(
    ("encoding", "safe"),
    [
        ("utf-8", True),
        ("UTF8", True),
        ("utf-8-sig", True),
        ("ascii", True),
        ("latin-1", True),
        ("cp1252", True),
        ("gb18030", True),
        ("euc_jp", True),
        ("utf-16", False),
        ("utf-16-le", False),
        ("utf-32", False),
        ("utf-7", False),
        ("cp037", False),
        ("iso2022_jp", False),
        ("hz", False),
    ],
)
def test_offsets_are_used_only_where_a_newline_byte_is_a_newline(encoding: str, safe: bool) -> None:
    assert has_safe_offsets(encoding) is safe


def test_an_unknown_encoding_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="no encoding 'utf-9'"):
        CsvItemSource(tmp_path / "rows.csv", encoding="utf-9", **CALLBACKS)


class TestComposite:
    def test_it_needs_sources_that_can_be_resumed(self) -> None:
        with pytest.raises(InvalidInputError, match="at least one source"):
            CompositeItemSource([])
        with pytest.raises(InvalidInputError, match="list can't be part"):
            CompositeItemSource([[]])  # type: ignore[list-item]

    def test_a_checkpoint_of_a_longer_composite_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidInputError, match="in source 3 of a composite of 1"):
            list(CompositeItemSource([jsonl(tmp_path)]).iter_from_checkpoint({"source": 3, "checkpoint": 0}))

    def test_its_identity_follows_the_order_of_its_parts(self, tmp_path: Path) -> None:
        one = jsonl(tmp_path)
        two = JsonlItemSource(written(tmp_path, "two.jsonl", b'{"id": "x"}'), **CALLBACKS)
        identity = CompositeItemSource([one, two]).source_identity()
        assert identity.source_kind == "composite"
        assert identity.source_ref == f"{one.path} + {two.path}"
        assert (
            identity.source_fingerprint
            != CompositeItemSource([two, one]).source_identity().source_fingerprint
        )


def test_a_large_row_group_is_streamed(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    texts = [os.urandom(1_000).hex() for _ in range(20_000)]
    table = pa.table({"id": [str(n) for n in range(20_000)], "text": texts})
    pq.write_table(table, path, row_group_size=20_000, compression="none", use_dictionary=False)
    del table, texts
    before = pa.total_allocated_bytes()
    source = ParquetItemSource(
        path, item_id_from_row=lambda row: row["id"], payload_from_row=lambda row: None
    )
    most = max(pa.total_allocated_bytes() - before for _ in source)
    assert most < path.stat().st_size / 3
