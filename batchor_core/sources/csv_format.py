"""The format of a CSV file: the options of Python's ``csv``, how they change a source's identity, and hints."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from batchor_core.core.exceptions import InvalidInputError

_DELIMITERS = (";", "\t", "|", ",")
_QUOTING = {csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONE}


@dataclass(frozen=True, slots=True)
class CsvFormat:
    """The options of a CSV file, with the names of Python's ``csv``.

    Attributes:
        delimiter: Between two values; None is a comma, unless the header shows that the file has another.
        quotechar: Around values that hold a delimiter or a line end.
        escapechar: Takes its meaning from the next character.
        doublequote: A quote within a quoted value is written twice.
        skipinitialspace: Spaces after a delimiter are skipped.
        quoting: ``csv.QUOTE_MINIMAL``, or ``csv.QUOTE_NONE`` if quotes are ordinary characters.
        strict: Refuse malformed CSV instead of guessing.
    """

    delimiter: str | None = None
    quotechar: str | None = '"'
    escapechar: str | None = None
    doublequote: bool = True
    skipinitialspace: bool = False
    quoting: int = csv.QUOTE_MINIMAL
    strict: bool = True

    def __post_init__(self) -> None:
        for name in ("delimiter", "quotechar", "escapechar"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or len(value) != 1 or value in "\r\n\0"):
                raise InvalidInputError(
                    f"{name} must be one character other than a line end, and is {value!r}"
                    + (r"; a tab is '\t'" if value in ("\\t", "tab", "TAB") else "")
                )
        for name in ("doublequote", "skipinitialspace", "strict"):
            if not isinstance(getattr(self, name), bool):
                raise InvalidInputError(f"{name} must be True or False, and is {getattr(self, name)!r}")
        if isinstance(self.quoting, bool) or self.quoting not in _QUOTING:
            raise InvalidInputError(
                f"quoting must be csv.QUOTE_MINIMAL, csv.QUOTE_ALL or csv.QUOTE_NONE, and is {self.quoting!r}. Values are "
                "always strings, so that ids keep their digits; convert them to numbers in payload_from_row"
            )
        if self.quotechar is None and self.quoting != csv.QUOTE_NONE:
            raise InvalidInputError("without a quotechar, quoting must be csv.QUOTE_NONE")
        special = [self.separator, self.escapechar]
        special += [self.quotechar] if self.quoting != csv.QUOTE_NONE else []
        given = [character for character in special if character is not None]
        if len(set(given)) < len(given):
            raise InvalidInputError(
                f"delimiter, quotechar and escapechar must differ, and are {', '.join(map(repr, given))}"
            )

    @property
    def separator(self) -> str:
        """The delimiter that is in force."""
        return "," if self.delimiter is None else self.delimiter

    def reader(self, lines: Iterable[str]) -> Iterator[list[str]]:
        """Python's reader of these lines."""
        return csv.reader(
            lines,
            delimiter=self.separator,
            quotechar=self.quotechar,
            escapechar=self.escapechar,
            doublequote=self.doublequote,
            skipinitialspace=self.skipinitialspace,
            quoting=self._typed_quoting(),
            strict=self.strict,
        )

    def _typed_quoting(self) -> Any:
        # all is minimal to a reader
        return csv.QUOTE_NONE if self.quoting == csv.QUOTE_NONE else csv.QUOTE_MINIMAL

    def changed_options(self) -> dict[str, Any]:
        """The options that change the rows of a file, compared with the defaults."""
        mine = {field.name: getattr(self, field.name) for field in fields(self)}
        mine["delimiter"] = self.separator
        mine["quoting"] = int(self._typed_quoting())
        usual = {field.name: field.default for field in fields(self)} | {"delimiter": ","}
        del mine["strict"]  # it changes whether there is a row, not which
        return {name: value for name, value in mine.items() if value != usual[name]}


def other_delimiter(header: Sequence[str], used: str) -> str | None:
    """A delimiter that the header's names contain although another one was used to split them."""
    text = "".join(header)
    counts = {one: text.count(one) for one in _DELIMITERS if one != used and one in text}
    return max(counts, key=lambda one: counts[one]) if counts else None


def delimiter_hint(header: Sequence[str], used: str) -> str:
    """A hint if columns are missing and the file may have another delimiter; empty if there is no sign of that."""
    other = other_delimiter(header, used)
    if other is None and len(header) == 1:  # what names may hold too is worth a hint and no more
        other = next((one for one in ":\x01 " if one != used and one in header[0]), None)
    if other is None:
        return ""
    return f"The header holds {_name(other)}; if that separates the columns, give delimiter={other!r}"


def header_problem(header: Sequence[str], form: CsvFormat) -> str | None:
    """Why the first row can't be the names of columns, if it can't."""
    written = form.separator.join(header).strip(" \r\n")
    if (sep := _SEP.fullmatch(written)) is not None:
        option = "" if sep[1] == form.separator else f" and give delimiter={sep[1]!r}"
        return (
            f"the first line is {written!r}, which tells Excel the delimiter and names no columns. Remove it{option}: "
            "tail -n +2 old.csv > new.csv"
        )
    if _JSON.match(written) is not None:
        return (
            "the first line is JSON, not a CSV header. A file with an object on each line is read with JsonlItemSource; a file "
            "that is one JSON document has to be converted first"
        )
    if _MARKUP.match(written) is not None:
        return (
            "the first line is HTML or XML, not a CSV header. If the file was downloaded, it may be an error or login page; "
            "download it again, or export it as CSV"
        )
    return _one_column_problem(header, form)


_SEP = re.compile(r"sep=([^\w\s]|\t)", re.IGNORECASE)
_JSON = re.compile(r"""\{\s*("|\}|$)|\[\s*(["{\[]|-?\d|$)""")
_MARKUP = re.compile(r"<(\?xml|!doctype|!--|(html|head|body)\b)", re.IGNORECASE)


def _one_column_problem(header: Sequence[str], form: CsvFormat) -> str | None:
    """Why a header of one column is refused, if it is: no delimiter was given, and it contains another common one."""
    if len(header) != 1 or form.delimiter is not None:
        return None
    other = other_delimiter(header, form.separator)
    if other is None:
        return None
    return (
        f"the header is the single column {_shortened(header[0])}, and holds {_name(other)}. Give delimiter={other!r}, or "
        "delimiter=',' if it is one column"
    )


def _name(delimiter: str) -> str:
    return {
        ";": "semicolons",
        "\t": "tabs",
        "|": "vertical bars",
        ",": "commas",
        ":": "colons",
        " ": "blanks",
    }.get(delimiter, repr(delimiter))


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:80]}...")


def _quoted_delimiter(first_line: str, form: CsvFormat) -> str | None:
    """The delimiter that makes columns of the first line although the one in force does not."""

    def columns(delimiter: str) -> int:
        try:
            return len(next(replace(form, delimiter=delimiter, strict=True).reader([first_line]), []))
        except (csv.Error, InvalidInputError):
            return 0

    counts = {one: columns(one) for one in (*_DELIMITERS, form.separator)}
    best = max(counts, key=lambda one: counts[one])
    return best if counts[form.separator] < 2 <= counts[best] else None


def csv_problem(error: csv.Error, form: CsvFormat, first_line: str) -> str:
    """What Python's words about a record mean, and what to do.

    Args:
        error: What Python raised.
        form: The options in force.
        first_line: Of the file; it may show that another delimiter is meant.
    """
    said = str(error)
    if "new-line character" in said:
        return (
            "is not CSV: a carriage return stands alone in it. If carriage returns end the rows, as in files of old Macs, "
            r"convert them (tr '\r' '\n' < old.csv > new.csv); if it belongs to a value, that value has to be quoted"
        )
    if "field larger" in said:
        return f"is not CSV that can be read: {said}. A quote that is never closed may take the rest of the file for one value"
    if "end of data" in said:
        return (
            "is not CSV: a quoted value that begins in this row has no end. Quotes within quoted values must be doubled"
            ' (or give escapechar="\\\\"); if quotes are ordinary characters in this file, give quoting=csv.QUOTE_NONE'
        )
    if "expected after" in said and (other := _quoted_delimiter(first_line, form)) is not None:
        return (
            f"is not CSV with the delimiter {form.separator!r} ({said}): {_name(other)} separate the columns of the first line. "
            f"Give delimiter={other!r}"
        )
    if "expected after" in said:
        return (
            f"is not CSV: a value goes on after its closing quote ({said}). Quotes within quoted values must be doubled (or "
            'give escapechar="\\\\"); if quotes are ordinary characters in this file, give quoting=csv.QUOTE_NONE'
        )
    return f"is not CSV: {said}"
