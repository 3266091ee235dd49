"""Opening a file that a source reads, decompressed, and saying what is wrong with it."""

from __future__ import annotations

import codecs
import errno
import io
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from batchor_core.core.exceptions import BatchorError, SourceRowError
from batchor_core.sources.locations import Location, is_remote, is_web, shown

HEAD_BYTES = 4096
_BUFFER_BYTES = 256 * 1024

_DECOMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bz2",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
}
"""First bytes of what Arrow decompresses, by its names for it."""

_OTHER_FORMATS = {
    b"\xfd7zXZ\x00": "compressed with xz; decompress it first, or compress it with gzip or Zstandard",
    b"PK\x03\x04": "a ZIP archive, as Excel workbooks are too; extract or export it first",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook; export it as CSV first",
    b"PAR1": "a Parquet file; read it with ParquetItemSource",
    b"ARROW1": "an Arrow file; write it as Parquet and read that with ParquetItemSource",
    b"ORC": "an ORC file; write it as Parquet and read that with ParquetItemSource",
    b"Obj\x01": "an Avro file; write it as Parquet or JSONL first",
    b"SQLite format 3\x00": "a SQLite database; export the rows first",
    b"%PDF": "a PDF document, which has no rows",
}
_MARKS = {  # the longer ones first, since UTF-32's begins with UTF-16's
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def open_file(path: Location, *, encoding: str | None) -> BinaryIO:
    """The file, open at its beginning, and decompressed.

    Args:
        path: From :func:`~batchor_core.sources.locations.location`.
        encoding: Of a text file; None for Parquet, which says itself when it is no Parquet.

    Raises:
        SourceRowError: It is not there, may not be read, is not a regular file, or is not text of the encoding.
    """
    with readable(path):
        if not is_remote(path) and not stat.S_ISREG(path.stat().st_mode):
            raise SourceRowError(
                "can't be read: it is a pipe, socket or device, which can't be read again after a crash. Write it to a file first",
                path=shown(path),
            )
        file = buffered(path) if encoding is not None else io.BufferedReader(_opened(path))
    try:
        with readable(path):
            head = file.peek(HEAD_BYTES)[:HEAD_BYTES]
            if encoding is not None and (codec := _compression(head)) is not None:
                file = _decompressed(file, codec)
                head = file.peek(HEAD_BYTES)[:HEAD_BYTES]
            problem = head_problem(head, encoding)
        if problem is not None:
            raise SourceRowError(problem, path=shown(path))
    except BaseException:
        file.close()
        raise
    return file


def buffered(path: Location) -> io.BufferedReader:
    """The file as it is, to be read from its beginning. A web server's comes as one stream, since it may have no ranges."""
    return io.BufferedReader(_opened(path, block_size=0) if is_web(path) else _opened(path), _BUFFER_BYTES)


def _opened(path: Any, **options: Any) -> Any:
    """Without a buffer of ours where the file is here; fsspec's files have one of their own."""
    return path.open("rb", **options) if is_remote(path) else path.open("rb", buffering=0)


@contextmanager
def readable(path: Location) -> Iterator[None]:
    """Whatever the system, or a server, says about a file becomes an error of ours."""
    try:
        yield
    except BatchorError:
        raise
    except OSError as error:
        raise SourceRowError(f"can't be read: {os_problem(path, error)}", path=shown(path)) from error
    except Exception as error:  # each server's library has classes of its own for what goes wrong
        if not is_remote(path):
            raise
        said = _without_secrets(path, f"{type(error).__name__}: {error}")
        raise SourceRowError(f"can't be read: {said}", path=shown(path)) from error


def skip(file: BinaryIO, count: int) -> None:
    """Go on by so many bytes, or to the end, by reading: streams can't be sought in."""
    while count > 0 and (read := len(file.read(min(count, _BUFFER_BYTES)))):
        count -= read


def _compression(head: bytes) -> str | None:
    return next((codec for magic, codec in _DECOMPRESSED.items() if head.startswith(magic)), None)


def _decompressed(file: io.BufferedReader, codec: str) -> io.BufferedReader:
    import pyarrow as pa  # takes 0.2 s to import

    stream: Any = pa.CompressedInputStream(pa.PythonFile(file, mode="r"), codec)
    return io.BufferedReader(stream, _BUFFER_BYTES)


def _without_secrets(path: Location, said: str) -> str:
    return said.replace(str(path), shown(path)) if is_remote(path) else said


def os_problem(path: Location, error: OSError) -> str:
    """What an operating system's error about a file means, and what to do."""
    said = error.strerror or _without_secrets(path, str(error))
    if "compressed stream" in said or "inflate failed" in said:  # pyarrow's words
        return f"it is compressed, and cut off or damaged ({said}). Write or copy it again"
    if is_remote(path):
        if not isinstance(error, FileNotFoundError):
            return said
        if (cause := error.__cause__) is not None:  # fsspec calls files missing that it could not ask for
            said = _without_secrets(path, f"{type(cause).__name__}: {cause}")
            return (
                f"there is no such file, or it can't be reached ({said}). Check the URL, and who may read it"
            )
        return "there is no such file. Check the URL, and who may read it"
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR:
            near = next((parent for parent in path.parents if parent.is_dir()), path.parent)
            missing = (
                "the folder is there, the file is not"
                if near == path.parent
                else f"{near} is the last folder there"
            )
            return f"{said} ({missing}). Check the path, and that this machine has the file"
        case errno.EACCES | errno.EPERM:
            return f"{said}. The user of this process needs the right to read it and to enter its folders"
        case _:
            return said


def head_problem(head: bytes, encoding: str | None) -> str | None:
    """Why a file that begins like this is not what its source reads, if it is not."""
    if encoding is None:
        codec = _compression(head)
        inside = "Parquet files are compressed inside, and can't be read so: decompress it first"
        return f"is compressed with {codec}. {inside}" if codec is not None else None
    if head[257:262] == b"ustar":
        return "is a tar archive; extract it first"
    for magic, what in _OTHER_FORMATS.items():
        if head.startswith(magic):
            return f"is {what}"
    codec = codecs.lookup(encoding).name.removesuffix("-sig")
    if head.startswith(codecs.BOM_UTF8) and codec != "utf-8":
        return f"is utf-8 and not {codec}, as its first bytes say; leave encoding out"
    if codec.startswith(("utf-16", "utf-32")):
        return None
    for mark, meant in _MARKS.items():
        if head.startswith(mark):
            return f"is {meant} and not {codec}, as its first bytes say; give encoding={meant!r}"
    return _unmarked_utf16(head, codec)


def _unmarked_utf16(head: bytes, codec: str) -> str | None:
    for first, meant in ((1, "utf-16-le"), (0, "utf-16-be")):
        every_second = head[first::2]
        zeros = every_second.count(0)
        if zeros >= 4 and zeros * 10 >= len(every_second) * 6 and head.strip(b"\0"):
            return f"is {meant} and not {codec}: every other byte is zero; give encoding={meant!r}"
    return None


_HALF_PAIR = re.compile(rb"\xed[\xa0-\xbf][\x80-\xbf]")


def not_encoded(line: bytes, at: int, codec: str) -> str:
    """Bytes that are not of the encoding that the file was said to have."""
    if codec == "utf-8" and _HALF_PAIR.match(line, at):
        return (
            f"is not {codec}: half of a surrogate pair, which is no character, is written as bytes at position {at + 1}. "
            'Whoever wrote the file used "surrogatepass"; write it with errors="replace"'
        )
    return (
        f"is not {codec}: byte 0x{line[at]:02x} at position {at + 1}. Give encoding=... as the file was written in "
        "('cp1252' for files from Western Windows, 'latin-1', 'utf-16'), or convert it to UTF-8"
    )
