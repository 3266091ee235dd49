"""Checks of a runner's arguments."""

from __future__ import annotations

import os
from typing import Any

from batchor_core.artifacts.base import ArtifactStore
from batchor_core.core.arguments import check_function, check_instance, shown
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.providers.registry import ProviderRegistry
from batchor_core.runtime.engine import EngineSettings
from batchor_core.storage.registry import StorageRegistry
from batchor_core.storage.state import StateStore


def check_runner_arguments(
    *,
    storage: Any,
    provider_registry: Any,
    storage_registry: Any,
    provider_factory: Any,
    observer: Any,
    sleep: Any,
    artifact_store: Any,
    temp_root: Any,
    settings: Any,
) -> None:
    """Refuse arguments of the wrong type, which would otherwise be noticed only in the middle of a run.

    Raises:
        InvalidInputError: One of them is; names it and what belongs there.
    """
    if isinstance(storage, os.PathLike):
        raise InvalidInputError(
            f"storage is a path; for a SQLite file pass storage=SQLiteStorage(path={os.fspath(storage)!r})"
        )
    if isinstance(storage, str) and not storage:
        raise InvalidInputError(
            "storage is an empty string; pass a store or the name of a kind, or leave it out for the default SQLite file"
        )
    if storage is not None and not isinstance(storage, str):
        check_instance("storage", storage, StateStore)
    for name, value in (("provider_factory", provider_factory), ("observer", observer), ("sleep", sleep)):
        if value is not None:
            check_function(name, value)
    for name, value, kind in (
        ("provider_registry", provider_registry, ProviderRegistry),
        ("storage_registry", storage_registry, StorageRegistry),
        ("settings", settings, EngineSettings),
    ):
        if value is not None:
            check_instance(name, value, kind)
    if artifact_store is not None:
        is_path = isinstance(artifact_store, str | os.PathLike)
        hint = "; for a folder give temp_root, or LocalArtifactStore(folder)" if is_path else ""
        check_instance("artifact_store", artifact_store, ArtifactStore, hint=hint)
    if temp_root is not None and not isinstance(temp_root, str | os.PathLike):
        raise InvalidInputError(f"temp_root must be the path of a folder, not {shown(temp_root)}")
