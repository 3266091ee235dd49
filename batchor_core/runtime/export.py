"""Bundles of a finished run: its artifacts with a manifest, and the pruning that follows.

A bundle is built beside its destination and renamed into place with the manifest written last, so a folder with a
manifest is complete. Exporting again gives the same bytes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import orjson

from batchor_core.artifacts.replacing import replacing
from batchor_core.artifacts.targets import is_flat_url
from batchor_core.core.arguments import shown
from batchor_core.core.boundaries import Boundary, at
from batchor_core.core.enums import RunLifecycleStatus
from batchor_core.core.exceptions import InvalidInputError, RunStateError, StorageError
from batchor_core.core.garbage_collection import collecting_less
from batchor_core.core.models import ArtifactExportResult, ArtifactPruneResult, TerminalResultsExportResult
from batchor_core.core.results import Order
from batchor_core.runtime.bundle_folder import building_folder, put_in_place
from batchor_core.runtime.engine import Engine
from batchor_core.runtime.line_order import in_input_order
from batchor_core.runtime.outputs import declared_output
from batchor_core.runtime.results import check_cursor, check_finished, json_lines, row_pages
from batchor_core.runtime.snapshots import snapshot_keys
from batchor_core.storage.records import RunArtifactInventory

_MANIFEST = "manifest.json"
_RESULTS = "results.jsonl"
_ARTIFACTS = "artifacts"

_BUFFER_BYTES = 256 * 1024


def export_terminal_results(
    engine: Engine,
    run_id: str,
    destination: Path,
    *,
    after_sequence: int,
    append: bool,
    limit: int | None,
    order: Order | None = None,
    raw_responses: bool = True,
) -> TerminalResultsExportResult:
    """Write terminal results as JSON lines. An error leaves the file as it was."""
    check_cursor(after_sequence, limit)
    order = _order(engine, run_id, order, is_whole=after_sequence == 0 and limit is None)
    kind = declared_output(engine.store.get_run_config(run_id=run_id)).kind
    path = _local(destination)
    count, cursor = 0, after_sequence

    def lines() -> Iterator[tuple[int, bytes]]:
        nonlocal count, cursor
        for page in row_pages(engine.store, run_id, after_sequence=after_sequence, limit=limit):
            indexes = (row.item_index for row in page)
            yield from zip(indexes, json_lines(engine if raw_responses else None, page, kind), strict=True)
            count += len(page)
            cursor = page[-1].sequence or cursor

    with collecting_less(), _appending(path) if append else _replacing(path) as file:
        file.writelines(in_input_order(lines()) if order == "input" else (line for _, line in lines()))
    return TerminalResultsExportResult(run_id, str(path), count, cursor)


def _order(engine: Engine, run_id: str, given: Order | None, *, is_whole: bool) -> Order:
    """The order of an export: the input's where possible, that is, where nothing is added to the file later."""
    if given not in (None, "input", "ended"):
        raise InvalidInputError(f"order must be 'input', 'ended' or None, not {shown(given)}")
    if given is None:
        summary = engine.store.get_run_summary(run_id=run_id)
        return "input" if is_whole and summary.status is not RunLifecycleStatus.RUNNING else "ended"
    if given == "input" and not is_whole:
        raise InvalidInputError(
            "a cursor or a limit needs the order in which items ended; leave out order='input', or after_sequence and limit"
        )
    return given


def _local(destination: Path) -> Path:
    if is_flat_url(str(destination)):
        raise InvalidInputError(
            f"{str(destination)!r} is a URL, and exports are written to this machine; give a path. to_parquet() takes URLs"
        )
    return destination.expanduser().absolute()


@contextmanager
def _appending(path: Path) -> Iterator[BinaryIO]:
    _make_folder(path.parent)
    is_new = not path.exists()
    with _opened(path, "ab") as file:
        before = file.tell()
        try:
            if before and not _ends_with_newline(path):
                file.write(b"\n")  # what a killed process left half-written must not swallow the next row
            yield file
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            file.truncate(before)
            if is_new:
                path.unlink(missing_ok=True)
            raise


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    with ExitStack() as stack:
        with _explained(path):
            temporary, final = stack.enter_context(replacing(path))
        with _opened(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        with _explained(path):
            temporary.replace(final)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"can't write {path}: {error.strerror}") from error


def _opened(path: Path, mode: Literal["ab", "wb"]) -> BinaryIO:
    with _explained(path):
        return path.open(mode, buffering=_BUFFER_BYTES)


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"can't create the folder {folder}: {error.strerror}") from error


@dataclass(frozen=True, slots=True)
class _Entry:
    path: str
    size_bytes: int
    sha256: str


def export_artifacts(engine: Engine, run_id: str, destination: Path) -> ArtifactExportResult:
    """Copy every artifact, write all results, and remember in the store that it was done."""
    check_finished(engine.store.get_run_summary(run_id=run_id))
    root = _local(destination)
    _make_folder(root)
    bundle = root / run_id
    with building_folder(bundle) as building:
        keys = _keys_to_export(engine, run_id, bundle)
        for key in keys:
            engine.artifacts.export_to_directory(key, building / _ARTIFACTS)
        with at(Boundary.WRITE_RESULTS):
            export_terminal_results(
                engine, run_id, building / _RESULTS, after_sequence=0, append=False, limit=None, order="input"
            )
        with at(Boundary.WRITE_MANIFEST):
            _write_manifest(building, run_id, [f"{_ARTIFACTS}/{key}" for key in keys])
        put_in_place(building, bundle)
    engine.store.mark_artifacts_exported(run_id=run_id, export_root=str(bundle))
    engine.emit(run_id, "artifacts_exported", destination=str(bundle), count=len(keys))
    return ArtifactExportResult(run_id, str(bundle), str(bundle / _MANIFEST), str(bundle / _RESULTS), keys)


def _keys_to_export(engine: Engine, run_id: str, bundle: Path) -> list[str]:
    """The artifacts of a bundle. A prune that was killed halfway leaves pointers to request files that no longer exist.

    Raises:
        RunStateError: The existing bundle holds more.
    """
    inventory = engine.store.get_artifact_inventory(run_id=run_id)
    keys = sorted([*_keys(inventory), *snapshot_keys(engine, run_id)])
    there = [key for key in keys if engine.artifacts.exists(key)]
    _check_replaceable(run_id, bundle, there)
    # a raw output that is nowhere any more is a loss, which the copying will report
    dispensable = {*inventory.request_artifact_paths}.difference(there)
    return [key for key in keys if key not in dispensable]


def _check_replaceable(run_id: str, bundle: Path, keys: list[str]) -> None:
    """Refuse to replace a bundle with one that holds less: it may have the only copy of files that were pruned later."""
    try:
        listed = {entry["path"] for entry in orjson.loads((bundle / _MANIFEST).read_bytes())["files"]}
    except (OSError, ValueError, KeyError, TypeError):
        return  # no bundle yet, or not a whole one
    if listed - {_RESULTS, *(f"{_ARTIFACTS}/{key}" for key in keys)}:
        raise RunStateError(
            run_id,
            f"the bundle at {bundle} holds files that have been pruned since, so it is not replaced; "
            "export to another folder",
        )


def _write_manifest(bundle: Path, run_id: str, artifacts: list[str]) -> None:
    entries = [_entry(bundle, name) for name in [_RESULTS, *artifacts]]
    manifest = {
        "run_id": run_id,
        "files": [
            {"path": entry.path, "size_bytes": entry.size_bytes, "sha256": entry.sha256} for entry in entries
        ],
    }
    with _replacing(bundle / _MANIFEST) as file:
        file.write(orjson.dumps(manifest, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def _entry(bundle: Path, name: str) -> _Entry:
    path = bundle / name
    with path.open("rb") as file:
        return _Entry(name, path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())


def prune_artifacts(engine: Engine, run_id: str, *, include_raw_outputs: bool) -> ArtifactPruneResult:
    """Delete snapshots of rows, request files, and raw outputs that lie in an exported bundle. A file first, its pointer second."""
    check_finished(engine.store.get_run_summary(run_id=run_id))
    inventory = engine.store.get_artifact_inventory(run_id=run_id)
    raw = (
        sorted({*inventory.output_artifact_paths, *inventory.error_artifact_paths})
        if include_raw_outputs
        else []
    )
    if raw:
        _check_exported(run_id, inventory, raw)
    removed: list[str] = []
    missing: list[str] = []
    for key in [*reversed(snapshot_keys(engine, run_id)), *inventory.request_artifact_paths, *raw]:
        (removed if engine.artifacts.delete(key) else missing).append(key)
    items = engine.store.clear_request_artifact_pointers(
        run_id=run_id, artifact_paths=inventory.request_artifact_paths
    )
    batches = engine.store.clear_batch_artifact_pointers(run_id=run_id, artifact_paths=raw) if raw else 0
    engine.emit(run_id, "artifacts_pruned", count=len(removed))
    return ArtifactPruneResult(run_id, removed, missing, items, batches)


def _check_exported(run_id: str, inventory: RunArtifactInventory, keys: list[str]) -> None:
    """Raw outputs are the only copy of what was paid for, so check the bundle itself, not only the record of its export."""
    if inventory.export_root is None:
        raise RunStateError(
            run_id, "raw outputs are pruned only after export_artifacts(), which has not been called"
        )
    root = Path(inventory.export_root)
    try:
        files = orjson.loads((root / _MANIFEST).read_bytes())["files"]
        sizes = {entry["path"]: entry["size_bytes"] for entry in files}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunStateError(
            run_id, f"the bundle at {root} can no longer be read; call export_artifacts() again"
        ) from error
    for key in keys:
        name = f"{_ARTIFACTS}/{key}"
        if name not in sizes or not _has_size(root / name, sizes[name]):
            raise RunStateError(
                run_id, f"{key} is not in the bundle at {root}; call export_artifacts() again"
            )


def _has_size(path: Path, size_bytes: int) -> bool:
    try:
        return path.stat().st_size == size_bytes
    except OSError:
        return False


def _keys(inventory: RunArtifactInventory) -> list[str]:
    return sorted(
        {
            *inventory.request_artifact_paths,
            *inventory.output_artifact_paths,
            *inventory.error_artifact_paths,
        }
    )
