"""Lines of a text file, with the byte offset to go on from after each."""

from __future__ import annotations

import codecs
import io
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO, Generic, TypeVar

from batchor_core.core.exceptions import InvalidInputError, SourceRowError
from batchor_core.core.types import JSONValue
from batchor_core.sources.base import checkpoint_index
from batchor_core.sources.locations import Location, shown
from batchor_core.sources.opening import not_encoded, open_file, readable, skip

MAX_LINE_BYTES = 64 * 1024 * 1024
"""A longer line is an error: it would otherwise be read into memory whole, whatever its size."""

LineT = TypeVar("LineT", str, bytes)


@dataclass(frozen=True, slots=True)
class Place:
    """Between two rows: how many rows, bytes and lines lie before it."""

    row: int = 0
    offset: int = 0
    line: int = 0

    @classmethod
    def of(cls, checkpoint: JSONValue) -> Place:
        """Where to begin reading for a checkpoint that carries an offset; else the beginning."""
        if not isinstance(checkpoint, dict):
            return cls()
        if not {"row", "offset"} <= checkpoint.keys():
            raise InvalidInputError(
                f"{checkpoint!r} is not a checkpoint of this source: it needs 'row' and 'offset'"
            )
        row = checkpoint_index(checkpoint["row"])
        return cls(
            row=row,
            offset=checkpoint_index(checkpoint["offset"]),
            line=checkpoint_index(
                checkpoint.get("line", row)
            ),  # without it, line numbers in errors are a guess
        )


class Lines(Generic[LineT]):
    """The lines of a file from a place on, split at ``\\n`` bytes alone, line ends kept, without a byte order mark.

    U+2028, U+0085 and their like, which ``str.splitlines`` would split at, are part of a line. While it is iterated,
    ``offset`` and ``line`` tell where the last line ended. Where the encoding has no safe offsets (UTF-16, ISO-2022),
    places carry the row alone, and reading begins at the start of the file.
    """

    def __init__(self, path: Location, encoding: str, place: Place, *, kind: type[LineT]) -> None:
        self.place = place
        self.offset = place.offset
        self.line = place.line
        self._path = path
        self._kind: type[str] | type[bytes] = kind
        self._codec = codec_of(encoding)
        self._has_offsets = has_safe_offsets(encoding)

    def checkpoint(self, row: int) -> JSONValue:
        """The checkpoint of ``row``, if that is the row after the line that was read last."""
        return {"row": row, "offset": self.offset, "line": self.line} if self._has_offsets else row

    def __iter__(self) -> Generator[LineT]:
        with open_file(self._path, encoding=self._codec) as file, readable(self._path):
            yield from self._from_offset(file) if self._has_offsets else self._decoded(file)

    def _from_offset(self, file: BinaryIO) -> Iterator[LineT]:
        self._go_to(file, self.place.offset)
        for raw in iter(partial(file.readline, MAX_LINE_BYTES), b""):
            self.offset += len(raw)
            self.line += 1
            if len(raw) == MAX_LINE_BYTES and not raw.endswith(b"\n"):
                raise self._error(f"is longer than {MAX_LINE_BYTES:,} bytes")
            if self.line == 1 and self._codec == "utf-8":
                raw = raw.removeprefix(codecs.BOM_UTF8)
            yield self._as_kind(raw)

    def _as_kind(self, raw: bytes) -> LineT:
        if self._kind is bytes and self._codec == "utf-8":
            return raw  # type: ignore[return-value]
        text = self._decode(raw)
        return text if self._kind is str else text.encode("utf-8", "surrogatepass")  # type: ignore[return-value]

    def _decode(self, raw: bytes) -> str:
        try:
            return raw.decode(self._codec)
        except UnicodeDecodeError as error:
            raise self._error(not_encoded(raw, error.start, self._codec)) from error

    def _decoded(self, file: BinaryIO) -> Iterator[LineT]:
        with io.TextIOWrapper(file, self._codec, newline="\n") as text:
            try:
                for line in iter(partial(text.readline, MAX_LINE_BYTES), ""):
                    self.line += 1
                    if len(line) == MAX_LINE_BYTES and not line.endswith("\n"):
                        raise self._error(f"is longer than {MAX_LINE_BYTES:,} characters")
                    if self.line == 1:
                        line = line.removeprefix("\ufeff")  # where the encoding's name tells the byte order
                    yield self._text(line)
            except UnicodeError as error:  # it reads ahead, so the line is the first that it may be
                raise self._error(f"or a later one is not {self._codec}: {error}", ahead=1) from error

    def _text(self, line: str) -> LineT:
        return line if self._kind is str else line.encode("utf-8", "surrogatepass")  # type: ignore[return-value]

    def _go_to(self, file: BinaryIO, offset: int) -> None:
        if offset == 0:
            return
        try:
            file.seek(offset - 1)
        except (ValueError, OSError):  # a compressed or a web server's file is read over
            skip(file, offset - 1)
        before = file.read(1)
        if before != b"\n" and (not before or file.read(1)):
            raise InvalidInputError(
                f"{shown(self._path)}: the checkpoint's offset {offset:,} is not between two lines, so this is not the file "
                "that it was made for"
            )

    def _error(self, message: str, *, ahead: int = 0) -> SourceRowError:
        return SourceRowError(f"the line {message}", path=shown(self._path), line=self.line + ahead)


def codec_of(encoding: str) -> str:
    """Python's name for an encoding; that of a byte order mark, which is cut off here in any case, is not part of it.

    Raises:
        InvalidInputError: There is no such encoding.
    """
    try:
        name = codecs.lookup(encoding).name
        has_safe_offsets(encoding)
    except (LookupError, TypeError, UnicodeError) as error:  # some codecs are for other things than files
        raise InvalidInputError(
            f"there is no encoding {encoding!r}; common ones are 'utf-8', 'utf-16', 'cp1252' and 'latin-1'"
        ) from error
    return name.removesuffix("-sig")


def has_safe_offsets(encoding: str) -> bool:
    """Whether a newline byte is always a newline, and decoding can begin after any of them."""
    name = codecs.lookup(encoding).name
    if name.startswith("iso2022"):  # shifts between character sets, and the shift may reach over a line end
        return False
    letters = "".join(map(chr, range(128)))
    return name == "utf-8-sig" or letters.encode(name, "replace") == letters.encode("ascii")
