"""The lines of a batch's result files, one by one, as the provider's reader understands them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple, assert_never

import orjson
from msgspec import DecodeError, Struct
from msgspec.json import Decoder

from batchor_core.core.answers import Answer, names_two_rows, parse_line, parse_line_exactly, unread
from batchor_core.core.jsontext import loads_exactly
from batchor_core.core.outputs import OutputKind
from batchor_core.core.types import JSONObject
from batchor_core.runtime.drive import Drive
from batchor_core.runtime.engine import log
from batchor_core.runtime.files import BatchFile, Download
from batchor_core.runtime.line_size import LONG_LINE_BYTES, MAX_LINE_BYTES, fits_memory
from batchor_core.runtime.provider_errors import as_provider_error
from batchor_core.storage.records import RawResponseRef

_READ_BUFFER = 1 << 18
_SKIP_BYTES = 1024 * 1024
_PLAIN_OUTPUTS = (OutputKind.TEXT, OutputKind.MODEL, OutputKind.VECTOR)
"""Outputs that are made of an answer's text or vector and of nothing else of its line."""
_UNREAD: JSONObject = {}
_PAGE_BYTES = 2 * 1024 * 1024
"""Of a file as text that a provider's own method is given at a time. Its records take up several times as much."""
_NOWHERE: tuple[JSONObject | None, RawResponseRef | None] = (None, None)


class Line(NamedTuple):
    """One line of a batch's files.

    ``raw`` says where it lies in the kept file; None if there is no such file, or if the line is not strict JSON and has
    to be kept as it was understood. ``record`` is empty where it was not needed: ``raw`` leads to it. ``length`` is about
    its share of memory.
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
    """Read line by line, whatever the size of the files. Rows whose lines can't be read count as missing in the end."""
    is_exact = drive.output.kind is OutputKind.BODY
    read = _reader(drive)
    is_plain = drive.output.kind in _PLAIN_OUTPUTS
    for file in download.files:
        reading.begin_file()
        is_kept = file.artifact_key is not None
        # of a good answer whose line is kept nobody asks for the record
        read_line = drive.api.read_line if is_kept and is_plain else None
        with _local_path(drive, file) as path, path.open("rb", buffering=_READ_BUFFER) as lines:
            offset = 0
            while True:
                length, line = _bounded_line(lines)
                if not length:
                    break
                record: JSONObject | None
                answer = None if line is None or read_line is None else _plain(read_line, line)
                if answer is not None:
                    record, is_strict = _UNREAD, True
                else:
                    record, is_strict = (None, False) if line is None else _decoded(line, is_exact=is_exact)
                if record is None:
                    reading.note(line)
                line = None  # a giant one must not stay beside what was made of it
                if record is not None:
                    answer = answer or _read(drive, read, record)
                    kept = is_kept and is_strict
                    raw = RawResponseRef(file.is_error_file, offset, length) if kept else None
                    yield Line(answer, record, raw, length)
                    del answer  # as above
                record = None
                offset += length


def _reader(drive: Drive) -> Callable[[JSONObject], Answer]:
    match drive.output.kind:
        case OutputKind.BODY:
            return drive.api.read_body
        case OutputKind.TOOL:
            return drive.api.read_calls
        case OutputKind.TEXT | OutputKind.MODEL | OutputKind.VECTOR:
            return drive.api.read
        case unknown:
            assert_never(unknown)


def _plain(read_line: Callable[[bytes], Answer | None], line: bytes) -> Answer | None:
    return None if names_two_rows(line) else read_line(line)


def _read(drive: Drive, read: Callable[[JSONObject], Answer], record: JSONObject) -> Answer:
    try:
        return read(record)
    except Exception as error:  # one line that a provider's reader fails on is not the batch
        log.debug("a line could not be read", exc_info=True)
        return unread(drive.api.custom_id_of(record), error)


def _bounded_line(file: BinaryIO) -> tuple[int, bytes | None]:
    """The next line and its length; of a line that is too long only the length, without holding it in memory.

    The length is 0 at the end of the file. Binary lines end only at \\n; text lines would also end at U+2028 and U+0085,
    which models write.
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
    """Parse with the provider's own method, which takes the texts of files: for providers with only the documented methods.

    It gets page after page if every line is a row of its own, so that memory does not grow with the batch. Otherwise, and if
    the files are small, it gets everything at once.
    """
    with ExitStack() as stack:
        files = [(file, stack.enter_context(_local_path(drive, file))) for file in download.files]
        if sum(path.stat().st_size for _, path in files) > _PAGE_BYTES and _hold_a_row_each(
            [path for _, path in files]
        ):
            for file, path in files:
                yield from _parsed_by_pages(drive, file, path, reading)
            return
        texts = {file.is_error_file: _text(path.read_bytes()) for file, path in files}
    for answer, record in _answers(drive, texts, reading):
        yield Line(answer, record, None, 0)


def _parsed_by_pages(drive: Drive, file: BatchFile, path: Path, reading: Reading) -> Iterator[Line]:
    is_kept = file.artifact_key is not None
    with path.open("rb", buffering=_READ_BUFFER) as lines:
        offset = 0
        while page := lines.readlines(_PAGE_BYTES):
            written = _written(page, file, offset) if is_kept else {}
            for answer, record in _answers(drive, {file.is_error_file: _text(b"".join(page))}, reading):
                there, raw = written.get(answer.custom_id, _NOWHERE)
                if not _is_same(there, record):
                    raw = None  # the provider has changed the record: it is not what the file holds
                yield Line(answer, record, raw, 0 if raw is None else raw.length)
            offset += sum(map(len, page))


def _written(
    page: list[bytes], file: BatchFile, offset: int
) -> dict[str, tuple[JSONObject | None, RawResponseRef | None]]:
    """The records of a page's lines and their positions, by custom_id, without lines that are not strict JSON."""
    found: dict[str, tuple[JSONObject | None, RawResponseRef | None]] = {}
    for line in page:
        # a giant line is not decoded a second time beside the provider's record of it
        record, is_strict = _decoded(line, is_exact=False) if len(line) < LONG_LINE_BYTES else (None, False)
        if record is not None and is_strict:
            raw = RawResponseRef(file.is_error_file, offset, len(line))
            found[str(record.get("custom_id"))] = (record, raw)
        offset += len(line)
    return found


def _is_same(one: JSONObject | None, other: JSONObject) -> bool:
    try:
        return one == other
    except RecursionError:  # nested deeply
        return False


def _hold_a_row_each(paths: list[Path]) -> bool:
    """Whether each line of the files is a JSON object with a custom_id that no other line has."""
    seen: set[str] = set()
    rows = 0
    for path in paths:
        with path.open("rb", buffering=_READ_BUFFER) as lines:
            for line in lines:
                if line.isspace():
                    continue
                try:
                    seen.add(_NAME.decode(line).custom_id)
                except (DecodeError, UnicodeDecodeError, RecursionError):
                    return False
                rows += 1
                if len(seen) < rows:
                    return False
    return True


class _Named(Struct):
    custom_id: str


_NAME = Decoder(_Named)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


def _answers(drive: Drive, texts: dict[bool, str], reading: Reading) -> list[tuple[Answer, JSONObject]]:
    try:
        answers = drive.api.read_files(texts)
    except Exception as raised:
        raise as_provider_error(raised) from raised
    _note_unreadable(reading, list(texts.values()), len(answers))
    return answers


def _note_unreadable(reading: Reading, texts: list[str], records: int) -> None:
    """Count the lines that a provider's parser left out, if its files are JSON lines."""
    for text in texts:
        last = text.rpartition("\n")[2]
        reading.is_cut |= bool(last.strip()) and parse_line(last) is None
    lines = [line for text in texts for line in text.split("\n") if line.strip()]
    if lines and not records:
        reading.unreadable += len(lines)  # whatever it is, there is no result in it
    elif len(lines) > records:
        unreadable = sum(parse_line(line) is None for line in lines)
        if len(lines) - unreadable >= records:
            reading.unreadable += max(0, unreadable - reading.is_cut)


@contextmanager
def _local_path(drive: Drive, file: BatchFile) -> Iterator[Path]:
    if file.artifact_key is None:
        yield file.path
    else:
        with drive.artifacts.stage_local_copy(file.artifact_key) as path:
            yield path
