"""One resource: where runs are kept, how the provider is reached, where results go."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field, PrivateAttr

from batchor_core import (
    ArtifactStore,
    BatchRunner,
    LocalArtifactStore,
    MemoryStateStore,
    OpenAIProviderConfig,
    PostgresStorage,
    SQLiteStorage,
    StateStore,
    build_default_provider_registry,
)
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.models import ProviderConfig
from batchor_core.providers.api import BatchApi
from batchor_core.providers.base import BatchProvider

_MEMORY_STORES: dict[str, MemoryStateStore] = {}
"""Stores of this process by root, since every Dagster step makes its resources anew."""


class LiteralKeyWarning(UserWarning):
    """A key was written into the code, where Dagster's config snapshots and the UI can show it."""


class BatchorResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Where runs are kept, how the provider is reached, where results go.

    All parts of a deployment that use it (steps, the sensor, the daemon) must reach the same store and the same folders:
    ``sqlite`` and folders suit one machine; several machines want ``postgres`` and shared storage.

    Example::

        BatchorResource(root="data", api_key=dg.EnvVar("OPENAI_API_KEY"))
    """

    root: str = Field(
        default=".batchor",
        description="Folder for what has no place of its own below: the SQLite file, artifacts, result files.",
    )
    storage: str = Field(
        default="sqlite", description="sqlite, postgres or memory (for tests within one process)."
    )
    sqlite_path: str | None = Field(default=None, description="The SQLite file; <root>/batchor.sqlite3.")
    postgres_dsn: str | None = Field(
        default=None,
        description="postgresql://..., best given as EnvVar; BATCHOR_POSTGRES_DSN where it is left out.",
    )
    postgres_schema: str = Field(default="batchor", description="Database schema of the postgres store.")
    artifacts: str | None = Field(
        default=None, description="Folder or fsspec URL for request and output files; <root>/artifacts."
    )
    parquet_base: str | None = Field(
        default=None, description="Folder or fsspec URL for result files; <root>/results."
    )
    api_key: str | None = Field(
        default=None,
        description="The provider's key, always as EnvVar; OPENAI_API_KEY where it is left out.",
        repr=False,
    )
    base_url: str | None = Field(
        default=None,
        description="Another OpenAI-compatible server; OPENAI_BASE_URL, then OpenAI's own where it is left out.",
    )
    poll_interval_sec: float = Field(
        default=5.0, gt=0, description="Seconds between two cycles of an asset that waits for its run."
    )
    webserver_url: str = Field(
        default="", description="Put before links to the Dagster UI, where relative ones would not do."
    )

    _runner: BatchRunner | None = PrivateAttr(default=None)

    def __init__(self, **data: Any) -> None:
        super().__init__(**data)
        key = data.get("api_key")
        # Dagster makes the resource again with EnvVars resolved: a value that stands in the environment is one of those
        if isinstance(key, str) and not isinstance(key, dg.EnvVar) and key not in os.environ.values():
            warnings.warn(
                'BatchorResource(api_key="...") puts the key into Dagster\'s config, where the UI shows it. '
                'Write api_key=dg.EnvVar("OPENAI_API_KEY").',
                LiteralKeyWarning,
                stacklevel=2,
            )

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """Dagster calls this at the end of a step: the runner's connections are closed."""
        self._close()

    @contextmanager
    def runner(self) -> Iterator[BatchRunner]:
        """A runner for the length of a block.

        Blocks may be nested: they share one runner, and the outermost closes it.
        """
        if self._runner is not None:
            yield self._runner
            return
        try:
            yield self.get_runner()
        finally:
            self._close()

    def get_runner(self) -> BatchRunner:
        """The runner of this resource, made at the first call; closed when Dagster tears the resource down."""
        if self._runner is None:
            self._runner = BatchRunner(
                storage=self._open_storage(),
                artifact_store=self._open_artifacts(),
                provider_factory=self._make_provider,
            )
        return self._runner

    def results_base(self) -> str:
        """Folder or URL under which result files lie."""
        return self.parquet_base or str(Path(self.root).expanduser().absolute() / "results")

    def with_server(self, config: ProviderConfig) -> ProviderConfig:
        """The config of a job, with this resource's server where the job names none of its own."""
        if isinstance(config, OpenAIProviderConfig):
            return dataclasses.replace(config, base_url=config.base_url or _resolved(self.base_url))
        return config

    def _close(self) -> None:
        runner, self._runner = self._runner, None
        if runner is None:
            return
        runner.close()
        if not isinstance(runner.storage, MemoryStateStore):
            runner.storage.close()

    def _open_storage(self) -> StateStore:
        root = Path(self.root).expanduser().absolute()
        match self.storage:
            case "sqlite":
                return SQLiteStorage(path=self.sqlite_path or root / "batchor.sqlite3")
            case "postgres":
                dsn = _resolved(self.postgres_dsn)
                return (
                    PostgresStorage(dsn=dsn, schema=self.postgres_schema)
                    if dsn
                    else PostgresStorage.from_env()
                )
            case "memory":
                return _MEMORY_STORES.setdefault(str(root), MemoryStateStore())
            case other:
                raise InvalidInputError(
                    f"BatchorResource.storage must be sqlite, postgres or memory, not {other!r}"
                )

    def _open_artifacts(self) -> ArtifactStore:
        where = self.artifacts or str(Path(self.root).expanduser().absolute() / "artifacts")
        if "://" not in where:
            return LocalArtifactStore(where)
        from batchor_core.artifacts.object_store import ObjectStoreArtifactStore

        return ObjectStoreArtifactStore(where)

    def _make_provider(self, config: ProviderConfig) -> BatchProvider | BatchApi:
        """The provider of a job, with this resource's key and server where the job names none of its own."""
        config = self.with_server(config)
        if isinstance(config, OpenAIProviderConfig):
            config = dataclasses.replace(config, api_key=config.api_key or _resolved(self.api_key) or "")
        return build_default_provider_registry().create(config)


def _resolved(setting: str | None) -> str | None:
    """A setting's value where the resource is used outside Dagster, which would have resolved an EnvVar itself."""
    return setting.get_value() if isinstance(setting, dg.EnvVar) else setting
