"""What exports wrote, and what a pruning removed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TerminalResultsExportResult:
    """What one call of ``export_terminal_results`` wrote.

    Attributes:
        run_id: The run.
        destination_path: Absolute path of the JSONL file.
        exported_count: Rows written by this call.
        next_after_sequence: Cursor for the next call.
    """

    run_id: str
    destination_path: str
    exported_count: int
    next_after_sequence: int


@dataclass(frozen=True, slots=True)
class ArtifactExportResult:
    """What ``export_artifacts`` wrote.

    Attributes:
        run_id: The run.
        destination_dir: Absolute path of ``<destination>/<run_id>/``.
        manifest_path: Absolute path of its ``manifest.json``.
        results_path: Absolute path of its ``results.jsonl``.
        exported_artifact_paths: Keys of the copied artifacts.
    """

    run_id: str
    destination_dir: str
    manifest_path: str
    results_path: str
    exported_artifact_paths: list[str]


@dataclass(frozen=True, slots=True)
class ArtifactPruneResult:
    """What ``prune_artifacts`` removed.

    Attributes:
        run_id: The run.
        removed_artifact_paths: Keys of the deleted files.
        missing_artifact_paths: Keys recorded in the store whose files were missing.
        cleared_item_pointers: Items whose request pointer was cleared.
        cleared_batch_pointers: Batches whose output or error pointer was cleared.
    """

    run_id: str
    removed_artifact_paths: list[str]
    missing_artifact_paths: list[str]
    cleared_item_pointers: int
    cleared_batch_pointers: int = 0
