"""How a CSV file is written: the options of Python's ``csv``, what they change of a source's identity, and hints."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

from batchor_core.core.exceptions import InvalidInputError

_DELIMITERS = (";", "\t", "|", ",")
_QUOTING = {csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONE}


@dataclass(frozen=True, slots=True)
class CsvFormat:
    """The options of a CSV file, under the names that Python's ``csv`` has for them.

    Attributes:
        delimiter: Between two values; None is a comma, unless the header shows that the file has another.
        quotechar: Around values that hold a delimiter or a line end.
        escapechar: Takes its meaning from the next character.
        doublequote: A quote within a quoted value is written twice.
        skipinitialspace: Spaces after a delimiter are passed over.
        quoting: ``csv.QUOTE_MINIMAL``, or ``csv.QUOTE_NONE`` where quotes are ordinary characters.
        strict: Refuse what is no proper CSV instead of guessing.
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
                    f"{name} must be one character and no line end, and is {value!r}"
                    + (r"; a tab is '\t'" if value in ("\\t", "tab", "TAB") else "")
                )
        for name in ("doublequote", "skipinitialspace", "strict"):
            if not isinstance(getattr(self, name), bool):
                raise InvalidInputError(f"{name} must be True or False, and is {getattr(self, name)!r}")
        if isinstance(self.quoting, bool) or self.quoting not in _QUOTING:
            raise InvalidInputError(
                f"quoting must be csv.QUOTE_MINIMAL, csv.QUOTE_ALL or csv.QUOTE_NONE, and is {self.quoting!r}. Values are "
                "always strings, so that ids keep their digits; make numbers of them in payload_from_row"
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
        return (
            csv.QUOTE_NONE if self.quoting == csv.QUOTE_NONE else csv.QUOTE_MINIMAL
        )  # all is minimal to a reader

    def changed_options(self) -> dict[str, Any]:
        """The options that make other rows of a file than the usual ones do."""
        mine = {field.name: getattr(self, field.name) for field in fields(self)}
        mine["delimiter"] = self.separator
        mine["quoting"] = int(self._typed_quoting())
        usual = {field.name: field.default for field in fields(self)} | {"delimiter": ","}
        del mine["strict"]  # it changes whether there is a row, not which
        return {name: value for name, value in mine.items() if value != usual[name]}


def other_delimiter(header: Sequence[str], used: str) -> str | None:
    """The delimiter that the names of a header hold although another one was used to tell them apart."""
    text = "".join(header)
    counts = {one: text.count(one) for one in _DELIMITERS if one != used and one in text}
    return max(counts, key=lambda one: counts[one]) if counts else None


def delimiter_hint(header: Sequence[str], used: str) -> str:
    """What to say where columns are missing and the file may have another delimiter; empty if nothing speaks for that."""
    other = other_delimiter(header, used)
    if other is None:
        return ""
    return f"The header holds {_name(other)}; if that separates the columns, give delimiter={other!r}"


def one_column_problem(header: Sequence[str], form: CsvFormat) -> str | None:
    """Why a header of one column is refused, if it is: nobody named a delimiter, and it holds one of the usual others."""
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
    return {";": "semicolons", "\t": "tabs", "|": "vertical bars", ",": "commas"}[delimiter]


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:80]}...")


def csv_problem(error: csv.Error, form: CsvFormat) -> str:
    """What Python's words about a record mean, and what to do."""
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
    if "expected after" in said:
        return (
            f"is not CSV: a value goes on after its closing quote ({said}). Quotes within quoted values must be doubled (or "
            'give escapechar="\\\\"); if quotes are ordinary characters in this file, give quoting=csv.QUOTE_NONE'
        )
    return f"is not CSV: {said}"
