"""The lines of a batch's result files, one by one, as the provider's reader understands them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import orjson

from batchor_core.core.answers import Answer, names_two_rows, parse_line, parse_line_exactly, unread
from batchor_core.core.jsontext import loads_exactly
from batchor_core.core.outputs import OutputKind
from batchor_core.core.types import JSONObject
from batchor_core.runtime.engine import Drive, as_provider_error, log
from batchor_core.runtime.files import BatchFile, Download
from batchor_core.runtime.line_size import LONG_LINE_BYTES, MAX_LINE_BYTES, fits_memory
from batchor_core.storage.records import RawResponseRef

_READ_BUFFER = 1 << 18
_SKIP_BYTES = 1024 * 1024


class Line(NamedTuple):
    """One line of a batch's files.

    ``raw`` says where it lies in the kept file; None if there is no such file, or if the line is not strict JSON and has
    to be kept as it was understood. ``length`` is about its share of memory.
    """

    answer: Answer
    record: JSONObject
    raw: RawResponseRef | None
    length: int


@dataclass(slots=True)
class Reading:
    """What was found in a batch's files beside lines that can be read.

    Attributes:
        unreadable: Whole lines that hold no record, or one that names no row.
        is_cut: Whether a file breaks off in the middle of its last line.
        is_replaced: Whether a file that held results, or may have, holds none in its newest version.
    """

    unreadable: int = 0
    is_cut: bool = False
    is_replaced: bool = False
    _since_blank: int | None = None
    """Unreadable lines since an empty one, as long as no record has followed; an empty line may lie between two versions of a
    file (see files.py), and lines of the older one would count twice."""

    def begin_file(self) -> None:
        """What follows is another file."""
        self.is_replaced |= bool(self._since_blank)
        self._since_blank = None

    def end(self) -> None:
        """Everything has been read."""
        self.begin_file()

    def note(self, line: bytes | None) -> None:
        """A line that can't be read; None for one that is too long to be looked at."""
        if line == b"\n":
            self._since_blank = self._since_blank or 0
        elif line is None or line.endswith(b"\n"):
            if line is None or not line.isspace():
                self._spoilt()
        elif not line.isspace():
            self.is_cut = True

    def found(self, custom_id: str) -> None:
        """A record, and the row that it names: without one it is no result, but an error in its place."""
        if not custom_id:
            self._spoilt()
        elif self._since_blank is not None:
            self.unreadable, self._since_blank = self._since_blank, None

    def _spoilt(self) -> None:
        self.unreadable += 1
        if self._since_blank is not None:
            self._since_blank += 1


def read_lines(drive: Drive, download: Download, reading: Reading) -> Iterator[Line]:
    """Every line that can be read; ``reading`` tells of the rest."""
    lines = _streamed if drive.api.streams else _parsed
    return lines(drive, download, reading)


def _streamed(drive: Drive, download: Download, reading: Reading) -> Iterator[Line]:
    """Line by line, whatever the size of the files. Rows of lines that can't be read are found missing in the end."""
    is_exact = drive.output.kind is OutputKind.BODY
    read = drive.api.read_body if is_exact else drive.api.read
    for file in download.files:
        reading.begin_file()
        is_kept = file.artifact_key is not None
        with _local_path(drive, file) as path, path.open("rb", buffering=_READ_BUFFER) as lines:
            offset = 0
            while True:
                length, line = _bounded_line(lines)
                if not length:
                    break
                record, is_strict = (None, False) if line is None else _decoded(line, is_exact=is_exact)
                if record is None:
                    reading.note(line)
                line = None  # a giant one must not stay beside what was made of it
                if record is not None:
                    answer = _read(drive, read, record)
                    kept = is_kept and is_strict
                    raw = RawResponseRef(file.is_error_file, offset, length) if kept else None
                    yield Line(answer, record, raw, length)
                    del answer  # as above
                record = None
                offset += length


def _read(drive: Drive, read: Callable[[JSONObject], Answer], record: JSONObject) -> Answer:
    try:
        return read(record)
    except Exception as error:  # one line that a provider's reader fails on is not the batch
        log.debug("a line could not be read", exc_info=True)
        return unread(drive.api.custom_id_of(record), error)


def _bounded_line(file: BinaryIO) -> tuple[int, bytes | None]:
    """The next line with its length; of one that is too long the length alone, without ever having the whole in memory.

    The length is 0 at the end. Binary lines end at \\n alone; text lines would also end at U+2028 and U+0085, which models
    write.
    """
    line = file.readline(MAX_LINE_BYTES + 1)
    length = len(line)
    if length <= MAX_LINE_BYTES:
        return length, line if fits_memory(line) else None
    while not line.endswith(b"\n") and (line := file.readline(_SKIP_BYTES)):
        length += len(line)
    return length, None


def _decoded(line: bytes, *, is_exact: bool) -> tuple[JSONObject | None, bool]:
    """The record of a line, and whether it is strict JSON; ``is_exact`` keeps numbers that a float can't hold."""
    if names_two_rows(line):
        return None, False
    try:
        record = loads_exactly(line) if is_exact else orjson.loads(line)
    except ValueError:
        if len(line) >= LONG_LINE_BYTES:
            return None, False
        return parse_line_exactly(line) if is_exact else parse_line(line), False
    return (record if isinstance(record, dict) else None), True


def _parsed(drive: Drive, download: Download, reading: Reading) -> Iterator[Line]:
    """Both files at once, by the provider's own method: for providers that have the documented methods alone."""
    texts: dict[bool, str] = {}
    for file in download.files:
        with _local_path(drive, file) as path:
            texts[file.is_error_file] = path.read_bytes().decode("utf-8", "surrogatepass")
    try:
        answers = drive.api.read_files(texts)
    except Exception as raised:
        raise as_provider_error(raised) from raised
    _note_unreadable(reading, list(texts.values()), len(answers))
    for answer, record in answers:
        yield Line(answer, record, None, 0)


def _note_unreadable(reading: Reading, texts: list[str], records: int) -> None:
    """Find lines that a provider's parser has left out, if its files are JSON lines and it has left out any."""
    for text in texts:
        last = text.rpartition("\n")[2]
        reading.is_cut |= bool(last.strip()) and parse_line(last) is None
    lines = [line for text in texts for line in text.split("\n") if line.strip()]
    if lines and not records:
        reading.unreadable = len(lines)  # whatever it is, there is no result in it
    elif len(lines) > records:
        unreadable = sum(parse_line(line) is None for line in lines)
        if len(lines) - unreadable >= records:
            reading.unreadable = max(0, unreadable - reading.is_cut)


@contextmanager
def _local_path(drive: Drive, file: BatchFile) -> Iterator[Path]:
    if file.artifact_key is None:
        yield file.path
    else:
        with drive.artifacts.stage_local_copy(file.artifact_key) as path:
            yield path
