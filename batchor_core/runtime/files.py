"""Fetching the result files of an ended batch, and keeping them as artifacts.

A file may be fetched several times, each time longer than before. Results that are stored already point into the artifact
by offset, so a newer version replaces it only if it begins with what is kept; any other is put behind it.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from batchor_core.core.exceptions import ProviderError, ProviderErrorKind
from batchor_core.providers.api import ResultFile
from batchor_core.runtime.drive import Drive
from batchor_core.storage.records import ActiveBatchRecord

_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class BatchFile:
    """One of a batch's result files, here on disk."""

    path: Path
    is_error_file: bool
    artifact_key: str | None
    """Where it is kept; None if the job keeps no raw files."""


@dataclass(frozen=True, slots=True)
class Download:
    """A batch's result files, output first, and the ids of those that the provider names and does not have.

    Of these are also files that it had, and has no more or with less in them; what was kept of them is among ``files``.
    """

    files: list[BatchFile]
    gone: list[str] = field(default_factory=list)


def download(drive: Drive, batch: ActiveBatchRecord, folder: Path) -> Download:
    """Fetch the result files of an ended batch, whole, and keep them as artifacts. May run in another thread."""
    wanted = (("output", batch.output_file_id), ("error", batch.error_file_id))
    keeps = drive.config.artifact_policy.persist_raw_output_artifacts
    files, gone = [], []
    for name, file_id in wanted:
        if not file_id:
            continue
        key = f"{drive.run_id}/responses/{batch.local_batch_id or batch.provider_batch_id}.{name}.jsonl"
        path = folder / f"{batch.provider_batch_id}.{name}.jsonl"
        is_kept = keeps and drive.artifacts.exists(key)
        # an artifact exists whole or not at all, so one from before a crash is as good as a new download, unless it is
        # known that more is to come
        if not is_kept or batch.ended_at is not None:
            try:
                drive.api.fetch(ResultFile(file_id, is_error_file=name == "error"), path)
            except ProviderError as error:
                if error.kind is not ProviderErrorKind.NOT_FOUND:
                    raise
                gone.append(file_id)
                if not is_kept:
                    continue
            else:
                if is_kept:
                    if not _keep_newer(drive, key, path):
                        gone.append(file_id)
                elif keeps:
                    drive.artifacts.put_file(key, path)
        files.append(BatchFile(path, name == "error", key if keeps else None))
    return Download(files, gone)


def _keep_newer(drive: Drive, key: str, path: Path) -> bool:
    """Replace an artifact with a newer version of the file, so that pointers into the artifact stay valid.

    Returns False for a version that is only the beginning of the kept file.
    """
    with drive.artifacts.stage_local_copy(key) as kept:
        old, new = kept.stat().st_size, path.stat().st_size
        shared = min(old, new)
        if _equal(kept, 0, path, shared):
            if new <= old:
                return new == old
        elif new <= old and _equal(kept, old - new, path, new):
            return True  # it was put behind an earlier version before
        else:
            _put_behind(kept, path)
    drive.artifacts.put_file(key, path)
    return True


def _equal(kept: Path, offset: int, path: Path, length: int) -> bool:
    """Whether ``length`` bytes of the artifact, from ``offset`` on, equal the beginning of the file."""
    with kept.open("rb") as one, path.open("rb") as other:
        one.seek(offset)
        while length > 0:
            block = min(_BLOCK, length)
            if one.read(block) != other.read(block):
                return False
            length -= block
    return True


def _put_behind(kept: Path, path: Path) -> None:
    """Prepend the kept file and an empty line to the file."""
    joined = path.with_name(f"{path.name}.joined")
    with joined.open("wb") as target:
        with kept.open("rb") as source:
            shutil.copyfileobj(source, target, _BLOCK)
        target.write(b"\n\n")
        with path.open("rb") as source:
            shutil.copyfileobj(source, target, _BLOCK)
    joined.replace(path)
