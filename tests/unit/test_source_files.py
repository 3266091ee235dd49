"""What is no file that a source can read is named, with the reason and what to do instead."""

from __future__ import annotations

import errno
import gzip
import lzma
import os
from pathlib import Path
from typing import Any

import pytest

from batchor_core.core.exceptions import InvalidInputError, SourceRowError
from batchor_core.sources.files import CsvItemSource, JsonlItemSource, ParquetItemSource
from batchor_core.sources.opening import head_problem, os_problem

CALLBACKS: dict[str, Any] = {"item_id_from_row": lambda row: row["id"], "payload_from_row": lambda row: row}
SOURCES: list[Any] = [CsvItemSource, JsonlItemSource, ParquetItemSource]
TEXT = b'{"id": "1"}\n' * 20


@pytest.fixture(params=SOURCES)
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


def problem_of(kind: Any, path: Any, **options: Any) -> str:
    """What a source says of a file, the same before a run begins and while it reads."""
    source = kind(path, **CALLBACKS, **options)
    with pytest.raises(SourceRowError) as early:
        source.source_identity()
    with pytest.raises(SourceRowError) as late:
        list(source)
    assert str(early.value) == str(late.value)
    assert str(early.value).startswith(str(path))
    return str(early.value)


@pytest.mark.parametrize(
    ("url", "error", "problem"),
    [
        ("nonsense://b/r", InvalidInputError, "Protocol not known: nonsense"),
        ("gs://user:secret@b/r", ImportError, r"^gs://b/r: .*Install .*gcsfs for gs://"),
        (Path("s3://bucket/rows.csv"), InvalidInputError, "without its second slash.* give the URL as a str"),
    ],
)
def test_a_url_that_can_not_be_read_is_refused_at_once(
    kind: Any, url: Any, error: type[Exception], problem: str
) -> None:
    with pytest.raises(error, match=problem) as caught:
        kind(url, **CALLBACKS)
    assert "secret" not in str(caught.value)


def test_a_file_url_is_a_path(kind: Any, tmp_path: Path) -> None:
    assert kind((tmp_path / "a b.csv").as_uri(), **CALLBACKS).path == tmp_path / "a b.csv"


@pytest.mark.parametrize("path", [None, 5, b"rows.csv", "", "a\0b", ["a.csv"], "~nobody-here/rows.csv"])
def test_what_is_no_path_is_refused_at_once(kind: Any, path: Any) -> None:
    with pytest.raises(InvalidInputError, match="path"):
        kind(path, **CALLBACKS)


def test_a_server_that_can_not_be_reached_is_not_a_missing_file_alone(kind: Any) -> None:
    source = kind("http://user:secret@127.0.0.1:1/rows", **CALLBACKS)
    with pytest.raises(SourceRowError, match=r"it can't be reached \(ClientConnectorError: ") as caught:
        source.source_identity()
    assert "secret" not in str(caught.value)


def test_storage_options_are_a_dict(kind: Any) -> None:
    with pytest.raises(InvalidInputError, match="storage_options must be a dict"):
        kind("memory://rows", **CALLBACKS, storage_options="key")


def test_a_folder_without_files_of_the_kind_is_named_with_what_it_holds(kind: Any, tmp_path: Path) -> None:
    (tmp_path / "part-1.data").write_bytes(b"")
    said = problem_of(kind, tmp_path)
    assert f"no file in this folder has a name that ends with {kind.suffixes[0]}" in said
    assert "(it holds part-1.data ...). A pattern such as" in said


@pytest.mark.parametrize("pattern", ["*.csv", "part-?.csv", "part-[12].csv", "**/x", "no/such/folder/*"])
def test_a_pattern_that_matches_nothing_is_named(kind: Any, pattern: str, tmp_path: Path) -> None:
    assert "no file matches this pattern" in problem_of(kind, tmp_path / pattern)


def test_a_missing_file_is_named_with_what_is_there(kind: Any, tmp_path: Path) -> None:
    assert "the folder is there, the file is not" in problem_of(kind, tmp_path / "rows.csv")
    assert f"{tmp_path} is the last folder there" in problem_of(kind, tmp_path / "a" / "b" / "rows.csv")
    (tmp_path / "file").write_bytes(b"")
    assert f"{tmp_path} is the last folder there" in problem_of(kind, tmp_path / "file" / "rows.csv")


def test_a_pipe_is_refused_instead_of_waited_for(kind: Any, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "it is a pipe, socket or device" in problem_of(kind, tmp_path / "pipe")


def test_missing_rights_are_named() -> None:
    said = os_problem(Path("/data/rows.csv"), PermissionError(errno.EACCES, "Permission denied"))
    assert (
        said
        == "Permission denied. The user of this process needs the right to read it and to enter its folders"
    )


def test_what_is_compressed_around_parquet_or_with_something_else_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv.gz"
    path.write_bytes(gzip.compress(TEXT))
    assert "is compressed with gzip. Parquet files are compressed inside" in problem_of(
        ParquetItemSource, path
    )
    path.write_bytes(lzma.compress(TEXT))
    assert "is compressed with xz; decompress it first" in problem_of(CsvItemSource, path)


@pytest.mark.parametrize(
    ("head", "encoding", "problem"),
    [
        (b"\x28\xb5\x2f\xfd....", None, "is compressed with zstd"),
        (b"rows.csv".ljust(257, b"\0") + b"ustar", "utf-8", "is a tar archive"),
        (b"\x1f\x8b\x08", None, "is compressed with gzip. Parquet"),
        (b"PK\x03\x04...", "utf-8", "is a ZIP archive, as Excel workbooks are too"),
        (b"PAR1....", "utf-8", "is a Parquet file; read it with ParquetItemSource"),
        (b"PAR1....", None, None),
        (b"SQLite format 3\x00", "utf-8", "is a SQLite database"),
        (
            "id,text\n".encode("utf-16"),
            "utf-8",
            "is utf-16 and not utf-8, as its first bytes say; give encoding='utf-16'",
        ),
        ("id,text\n".encode("utf-32"), "utf-8", "is utf-32 and not utf-8"),
        ("id,text\n".encode("utf-16"), "cp1252", "is utf-16 and not cp1252"),
        ("id,text\n".encode("utf-16"), "utf-16", None),
        ("id,text\n".encode("utf-16-le"), "utf-8", "is utf-16-le and not utf-8: every other byte is zero"),
        ("id,text\n".encode("utf-16-be"), "utf-8", "is utf-16-be and not utf-8"),
        ("id,text\n".encode("utf-8-sig"), "utf-8", None),
        ("id,text\n".encode("utf-8-sig"), "latin-1", "is utf-8 and not iso8859-1, as its first bytes say"),
        (b"id,text\n1,a\x00b\n", "utf-8", None),
        (b"\0" * 100, "utf-8", None),
        (b"", "utf-8", None),
    ],
)
def test_the_first_bytes_say_what_a_file_is(head: bytes, encoding: str | None, problem: str | None) -> None:
    said = head_problem(head, encoding)
    assert said is None if problem is None else (said or "").startswith(problem)


def test_an_empty_file_is_named_where_it_can_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_bytes(b"")
    for kind, problem in ((CsvItemSource, "has no header"), (ParquetItemSource, "it is empty")):
        with pytest.raises(SourceRowError, match=problem):
            list(kind(path, **CALLBACKS))
    assert list(JsonlItemSource(path, **CALLBACKS)) == []


def test_another_byte_order_in_the_encodings_name_leaves_no_mark_in_the_header(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes("\ufeffid,text\n1,a\n".encode("utf-16-le"))
    [item] = CsvItemSource(path, encoding="utf-16-le", **CALLBACKS)
    assert item.payload == {"id": "1", "text": "a"}


@pytest.mark.parametrize("given", ["id", 5, ["id"]])
@pytest.mark.parametrize("function", ["item_id_from_row", "payload_from_row", "metadata_from_row"])
def test_a_function_that_is_none_is_refused_at_once(kind: Any, function: str, given: Any) -> None:
    with pytest.raises(InvalidInputError, match=f"{function} must be a function of a row, and is") as caught:
        kind("rows", **{**CALLBACKS, function: given})
    if given == "id":
        assert "lambda row: row['id']" in str(caught.value)


def test_other_arguments_are_refused_at_once(kind: Any) -> None:
    for wrong in ({"primary_key": 5}, {"partition_id": ["a"]}):
        with pytest.raises(InvalidInputError, match="must be a str or None"):
            kind("rows", **CALLBACKS, **wrong)
    for columns in ("id", [1]):
        with pytest.raises(InvalidInputError, match="columns must be a list of column names"):
            ParquetItemSource("rows", **CALLBACKS, columns=columns)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"id": "a", "t": "x\ty"}\n', r"within a string are escaped \(\\t\)"),
        ("a.jsonl", b'{"id": "a", "t": None}\n', "None is Python's: write rows with json.dumps"),
        ("a.jsonl", b'{"id": "a", "t": ' + b"[" * 2_000 + b"]" * 2_000 + b"}\n", "nest about 1,000 deep"),
        (
            "a.jsonl",
            b'{"id": "a", "t": "\xed\xa0\xbd"}\n',
            "half of a surrogate pair, .* bytes at position 19",
        ),
        ("a.csv", b"id:t\n1:x\n", "The header holds colons; .* delimiter=':'"),
        ("a.csv", b"id t\n1 x\n", "The header holds blanks; .* delimiter=' '"),
        ("a.csv.gz", gzip.compress(bytes(range(256)) * 400)[:-300], "compressed, and cut off or damaged"),
    ],
)
def test_frequent_mistakes_come_with_what_to_do(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    kind = CsvItemSource if ".csv" in name else JsonlItemSource
    source = kind(path, item_id_from_row=lambda row: str(row["id"]), payload_from_row=dict)
    with pytest.raises(SourceRowError, match=message):
        list(source)
