"""CSV in every dialect: the rows, the place to go on from, what identifies the source, and hints where the dialect is wrong."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchor_core.core.exceptions import InvalidInputError, SourceRowError
from batchor_core.sources.files import CsvItemSource

CALLBACKS: dict[str, Any] = {"item_id_from_row": lambda row: row["id"], "payload_from_row": lambda row: row}

DIALECTS: dict[str, dict[str, Any]] = {
    "semicolons": {"delimiter": ";"},
    "tabs": {"delimiter": "\t"},
    "bars, single quotes": {"delimiter": "|", "quotechar": "'"},
    "escaped": {"escapechar": "\\", "doublequote": False},
    "never quoted": {"delimiter": "\t", "quoting": csv.QUOTE_NONE, "escapechar": "\\", "quotechar": None},
    "all quoted": {"quoting": csv.QUOTE_ALL},
    "section sign": {"delimiter": "§"},
}
TEXTS = st.text(
    st.sampled_from(list("ab,;|\t\"'\\\n§ é\u2028😀")) | st.characters(exclude_categories=["Cs"]), max_size=10
)


def source(path: Path, **options: Any) -> CsvItemSource[Any]:
    return CsvItemSource(path, **{**CALLBACKS, **options})


def written(tmp_path: Path, text: str, encoding: str = "utf-8") -> Path:
    path = tmp_path / "rows.csv"
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-8-sig"])
@pytest.mark.parametrize("dialect", DIALECTS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
@given(texts=st.lists(TEXTS.filter(lambda text: not {"\r", "\0"} & set(text)), max_size=6), data=st.data())
def test_every_dialect_goes_on_from_any_row(
    dialect: str, encoding: str, texts: list[str], data: st.DataObject, tmp_path: Path
) -> None:
    options = DIALECTS[dialect]
    text = io.StringIO(newline="")
    writer = csv.writer(text, **options)
    writer.writerow(["id", "text"])
    writer.writerows([f"row{number}", one] for number, one in enumerate(texts))
    made = source(written(tmp_path, text.getvalue(), encoding), encoding=encoding, **options)

    read = list(made.iter_from_checkpoint(made.initial_checkpoint()))
    assert [one.item.payload for one in read] == [
        {"id": f"row{number}", "text": one} for number, one in enumerate(texts)
    ]
    stop = data.draw(st.integers(0, len(texts)))
    checkpoint = read[stop - 1].next_checkpoint if stop else made.initial_checkpoint()
    assert [one.item for one in made.iter_from_checkpoint(checkpoint)] == [one.item for one in read[stop:]]
    places = made.places(range(len(texts)))
    assert places is not None
    assert (places.count, len(places.found)) == (len(texts), len(texts))


def test_spaces_after_a_delimiter_are_passed_over_if_asked(tmp_path: Path) -> None:
    path = written(tmp_path, 'id, text\n1, "a, b"\n')
    assert next(iter(source(path, skipinitialspace=True))).payload == {"id": "1", "text": "a, b"}


def test_improper_csv_is_guessed_at_if_asked(tmp_path: Path) -> None:
    path = written(tmp_path, 'id,text\n1,"a"b\n')
    assert next(iter(source(path, strict=False))).payload["text"] == "ab"


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"delimiter": ";;"}, "delimiter must be one character other than a line end, and is ';;'"),
        ({"delimiter": "\\t"}, r"a tab is '\\t'"),
        ({"delimiter": ""}, "delimiter must be one character"),
        ({"delimiter": "\n"}, "delimiter must be one character"),
        ({"delimiter": 5}, "delimiter must be one character"),
        ({"quotechar": "''"}, "quotechar must be one character"),
        ({"escapechar": "\r"}, "escapechar must be one character"),
        ({"quotechar": ","}, "must differ, and are ',', ','"),
        ({"delimiter": ";", "escapechar": ";"}, "must differ"),
        ({"quotechar": None}, "without a quotechar, quoting must be csv.QUOTE_NONE"),
        ({"quoting": csv.QUOTE_NONNUMERIC}, "Values are always strings, so that ids keep their digits"),
        ({"quoting": True}, "quoting must be"),
        ({"doublequote": "no"}, "doublequote must be True or False"),
        ({"strict": None}, "strict must be True or False"),
        ({"encoding": "utf-9"}, "there is no encoding 'utf-9'"),
        ({"encoding": None}, "there is no encoding None"),
        ({"encoding": "base64"}, "there is no encoding 'base64'"),
        ({"encoding": "idna"}, "there is no encoding 'idna'"),
    ],
)
def test_an_option_that_can_not_work_is_refused_at_once(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidInputError, match=problem):
        source(Path("rows.csv"), **options)


@pytest.mark.parametrize(
    ("header", "used", "named"),
    [
        (
            "id;text",
            {},
            r"the header is the single column 'id;text', and holds semicolons. Give delimiter=';'",
        ),
        ("id\ttext", {}, r"holds tabs. Give delimiter='\\t'"),
        ("id|text|more", {}, r"holds vertical bars. Give delimiter='\|'"),
    ],
)
def test_a_header_of_one_column_with_another_delimiter_is_refused(
    header: str, used: dict[str, Any], named: str, tmp_path: Path
) -> None:
    first: Any = lambda row: next(iter(row.values()))  # noqa: E731  names no column, so that nothing else would notice
    with pytest.raises(SourceRowError, match=named) as caught:
        list(source(written(tmp_path, f"{header}\n1;a\n"), item_id_from_row=first, **used))
    assert caught.value.line == 1


def test_one_column_with_another_delimiter_is_fine_for_who_says_so(tmp_path: Path) -> None:
    path = written(tmp_path, "id;text\na\n")
    made = source(path, delimiter=",", item_id_from_row=lambda row: row["id;text"])
    assert [item.item_id for item in made] == ["a"]


@pytest.mark.parametrize(
    ("text", "options", "problem"),
    [
        ("id,text\n1,a\n", {"delimiter": ";"}, "The header holds commas; if that separates the columns"),
        ("id;text,more\n1;a,b\n", {}, "The header holds semicolons; if that separates the columns"),
        ("id, text\n1, a\n", {"payload_from_row": lambda row: row["text"]}, "Did you mean ' text'"),
        ("id,text\n1,a,b\n", {}, "A value that holds ',' has to be quoted"),
        ("id,text\r1,a\r2,b\r", {}, "a carriage return stands alone in it. If carriage returns end the rows"),
        ('id,text\n1,"a\n2,b\n', {}, "a quoted value that begins in this row has no end"),
        ('id,text\n1,"a" b\n', {}, "a value goes on after its closing quote"),
    ],
)
def test_what_is_wrong_is_said_with_what_to_do(
    text: str, options: dict[str, Any], problem: str, tmp_path: Path
) -> None:
    with pytest.raises(SourceRowError, match=r"rows\.csv, line [12]") as caught:
        list(source(written(tmp_path, text), **options))
    assert problem in str(caught.value)


@pytest.mark.parametrize("other", [";", "|", "\t", ","])
def test_values_that_are_all_quoted_show_the_delimiter_too(other: str, tmp_path: Path) -> None:
    path = written(tmp_path, f'"id"{other}"text"\n"1"{other}"a"\n')
    used = {"delimiter": ";"} if other == "," else {}
    with pytest.raises(SourceRowError, match=r"rows\.csv, line 1") as caught:
        list(source(path, **used))
    assert f"Give delimiter={other!r}" in str(caught.value)
    assert [item.item_id for item in source(path, delimiter=other)] == ["1"]


def test_a_header_without_quotes_shows_the_delimiter_of_quoted_values(tmp_path: Path) -> None:
    path = written(tmp_path, 'id;text\n"1";"a"\n')
    with pytest.raises(SourceRowError, match=r"line 2: .*Give delimiter=';'"):
        list(source(path, delimiter=","))


def test_a_stray_quote_in_a_file_with_the_right_delimiter_is_told_as_one(tmp_path: Path) -> None:
    path = written(tmp_path, '"id","text; more"\n"1","a";"b"\n')
    with pytest.raises(SourceRowError, match="a value goes on after its closing quote"):
        list(source(path))


@pytest.mark.parametrize(
    ("mark", "delimiter"), [(";", None), (";", ";"), ("\t", None), (",", None), (";", "|")]
)
def test_a_line_for_excel_is_no_header(mark: str, delimiter: str | None, tmp_path: Path) -> None:
    text = f"id{mark}text\n1{mark}a\n"
    with pytest.raises(SourceRowError, match=r"line 1: .*tells Excel the delimiter.*Remove it") as caught:
        list(source(written(tmp_path, f"sep={mark}\n{text}"), delimiter=delimiter))
    is_told = f"give delimiter={mark!r}" in str(caught.value)
    assert is_told is (mark != (delimiter or ","))
    assert [item.item_id for item in source(written(tmp_path, text), delimiter=mark)] == ["1"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"id": 1}', "JsonlItemSource"),
        ('{"id": "a;b", "text": "c"}\n', "JsonlItemSource"),
        ('[{"id": 1}]', "JsonlItemSource"),
        ('{\n  "id": 1\n}\n', "JsonlItemSource"),
        ("[\n", "JsonlItemSource"),
        ("<html>\n", "HTML or XML"),
        ("<!DOCTYPE html>\n<html></html>\n", "HTML or XML"),
        ('<?xml version="1.0"?>\n', "HTML or XML"),
    ],
)
def test_a_file_of_another_format_is_named(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(SourceRowError, match=rf"line 1: .*{told}"):
        list(source(written(tmp_path, text)))


@pytest.mark.parametrize("header", ["<id>,<text>", "[id],[text]", "{id},{text}", "sep=x,text"])
def test_odd_names_of_columns_are_fine(header: str, tmp_path: Path) -> None:
    made = source(
        written(tmp_path, f"{header}\n1,a\n"), item_id_from_row=lambda row: next(iter(row.values()))
    )
    assert [item.item_id for item in made] == ["1"]


def test_a_value_beyond_the_limit_is_an_error_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batchor_core.sources.text_files.MAX_LINE_BYTES", 10)
    csv.field_size_limit(10)
    try:
        with pytest.raises(SourceRowError, match=r"line 2: .*A quote that is never closed may take the rest"):
            list(source(written(tmp_path, 'id,text\n1,"' + "a\n" * 20)))
    finally:
        csv.field_size_limit(131_072)


def fingerprint(path: Path, **options: Any) -> str:
    return source(path, **options).source_identity().source_fingerprint


def test_options_that_change_rows_are_part_of_the_identity_and_others_are_not(tmp_path: Path) -> None:
    path = written(tmp_path, "id,text\n1,a\n")
    usual = fingerprint(path)
    assert ";" not in usual  # as runs of earlier versions have stored it
    same: list[dict[str, Any]] = [
        {"delimiter": ","},
        {"quotechar": '"'},
        {"quoting": csv.QUOTE_ALL},
        {"strict": False},
        {"encoding": "utf8"},
        {"encoding": "utf-8-sig"},
    ]
    other: list[dict[str, Any]] = [
        {"delimiter": ";"},
        {"delimiter": "\t"},
        {"quotechar": "'"},
        {"quoting": csv.QUOTE_NONE},
        {"escapechar": "\\"},
        {"doublequote": False},
        {"skipinitialspace": True},
        {"encoding": "cp1252"},
        {"encoding": "latin-1"},
    ]
    assert {fingerprint(path, **options) for options in same} == {usual}
    assert len({usual, *(fingerprint(path, **options) for options in other)}) == len(other) + 1
