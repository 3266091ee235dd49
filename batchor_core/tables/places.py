"""Where a file is: on this machine, or behind a URL that fsspec knows. fsspec is asked for URLs alone."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from batchor_core.artifacts.replacing import replacing
from batchor_core.artifacts.targets import is_flat_url
from batchor_core.core.boundaries import Boundary, at
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.url_errors import url_errors


class Place(NamedTuple):
    """A path, and the file system that it is a path of.

    Attributes:
        files: fsspec's file system; None for this machine's own.
        path: The path in it.
    """

    files: Any
    path: str

    def open(self) -> BinaryIO:
        """The file, for reading."""
        if self.files is None:
            return Path(self.path).open("rb")
        opened: BinaryIO = self.files.open(self.path, "rb")
        return opened


def place_of(where: str) -> Place:
    """The place that a path or URL stands for.

    Raises:
        ImportError: fsspec or its package for the protocol is missing; says what to install.
        InvalidInputError: fsspec does not know the protocol.
    """
    if not where or "\0" in where:
        raise InvalidInputError(f"{where!r} is not the path of a file")
    if is_flat_url(where):
        raise InvalidInputError(
            f"{where!r} is a URL without its second slash, as Path() makes it; give the URL as a str"
        )
    if "://" not in where:
        return Place(None, str(Path(where).expanduser().absolute()))
    with url_errors(f"can't reach {where!r}"):
        import fsspec

        files, path = fsspec.core.url_to_fs(where)
    protocols = {files.protocol} if isinstance(files.protocol, str) else set(files.protocol)
    return Place(None if "file" in protocols else files, str(path))


@contextlib.contextmanager
def whole_file(where: str) -> Iterator[Path]:
    """A local path to write to; what is written there appears at ``where`` when the block ends well, else not at all."""
    try:
        place = place_of(where)
        with _renamed(Path(place.path)) if place.files is None else _uploaded(place) as local:
            yield local
    except OSError as error:  # a full disk does not say which file it is about
        error.add_note(f"while writing {where}; what was there before is untouched")
        raise


@contextlib.contextmanager
def _uploaded(place: Place) -> Iterator[Path]:
    # An upload in parts is a whole object or none, but fsspec's own files complete it even when the writer has raised.
    with tempfile.TemporaryDirectory(prefix="batchor-") as folder:
        local = Path(folder, "results")
        yield local
        place.files.makedirs(place.path.rpartition("/")[0], exist_ok=True)
        with at(Boundary.WRITE_TABLE):
            place.files.put_file(str(local), place.path)


@contextlib.contextmanager
def _renamed(target: Path) -> Iterator[Path]:
    with replacing(target) as (temporary, final):
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        with at(Boundary.WRITE_TABLE):
            temporary.replace(final)
