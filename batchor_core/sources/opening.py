"""Opening the one local file that a source reads, and saying what is wrong with anything else."""

from __future__ import annotations

import codecs
import errno
import os
import re
import stat
from pathlib import Path
from typing import BinaryIO

from batchor_core.core.exceptions import InvalidInputError, SourceRowError

HEAD_BYTES = 4096

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")
_SUPPORTED = "Sources read single, uncompressed files of the local file system"
_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "Zstandard",
    b"\x04\x22\x4d\x18": "LZ4",
}
_OTHER_FORMATS = {
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


def local_path(path: object) -> Path:
    """The absolute path of a source's file, which need not be there yet.

    Raises:
        InvalidInputError: It is no path, or a URL.
    """
    if not isinstance(path, str | os.PathLike) or not isinstance(written := os.fspath(path), str):
        raise InvalidInputError(f"a source's path must be a str or a Path, and is {path!r}")
    if not written or "\0" in written:
        raise InvalidInputError(f"{written!r} is no path of a file")
    found = Path(written).expanduser().absolute()
    url = _URL.match(written)
    if url is not None and not found.exists():
        scheme = url[1].lower()
        what = (
            "give the path without file://"
            if scheme == "file"
            else "download the file first and give the path of the copy"
        )
        raise InvalidInputError(f"{written!r} is a URL. {_SUPPORTED}: {what}.")
    return found


def open_file(path: Path, *, encoding: str | None) -> BinaryIO:
    """The file, open at its beginning.

    Args:
        path: From :func:`local_path`.
        encoding: Of a text file; None for Parquet, which says itself when it is no Parquet.

    Raises:
        SourceRowError: It is not there, may not be read, is no regular file, is compressed, or is not text of the encoding.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise SourceRowError(f"can't be read: {_no_file_problem(path)}", path=str(path))
        file = path.open("rb")
    except OSError as error:
        raise SourceRowError(f"can't be read: {os_problem(path, error)}", path=str(path)) from error
    try:
        head = file.read(HEAD_BYTES)
        file.seek(0)
        problem = head_problem(head, encoding)
    except OSError as error:
        file.close()
        raise SourceRowError(f"can't be read: {os_problem(path, error)}", path=str(path)) from error
    if problem is not None:
        file.close()
        raise SourceRowError(problem, path=str(path))
    return file


def _no_file_problem(path: Path) -> str:
    if not path.is_dir():
        return "it is a pipe, socket or device, which can't be read again after a crash. Write it to a file first"
    inside = sorted(one.name for one in path.iterdir() if one.is_file())[:3]
    shown = f" (it holds {', '.join(inside)} ...)" if inside else ""
    return f"it is a folder{shown}. {_SUPPORTED}: give one source for each file to a CompositeItemSource"


def os_problem(path: Path, error: OSError) -> str:
    """What an operating system's error about a file means, and what to do."""
    said = error.strerror or str(error)
    match error.errno:
        case errno.ENOENT if any(sign in path.name for sign in "*?["):
            return (
                f"{said}. It looks like a pattern. {_SUPPORTED}: give one source for each of "
                "sorted(Path(folder).glob(pattern)) to a CompositeItemSource"
            )
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
    for magic, name in _COMPRESSED.items():
        if head.startswith(magic):
            return f"is compressed with {name}. {_SUPPORTED}: decompress it first"
    if encoding is None:
        return None
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


def not_encoded(line: bytes, at: int, codec: str) -> str:
    """Bytes that are not of the encoding that the file was said to have."""
    return (
        f"is not {codec}: byte 0x{line[at]:02x} at position {at + 1}. Give encoding=... as the file was written in "
        "('cp1252' for files from Western Windows, 'latin-1', 'utf-16'), or convert it to UTF-8"
    )
