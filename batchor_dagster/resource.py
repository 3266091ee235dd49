"""The resource: where runs are stored, how the provider is reached, where results go."""

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import dagster as dg
from pydantic import Field, PrivateAttr

from batchor_core import (
    ArtifactStore,
    BatchRunner,
    LocalArtifactStore,
    MemoryStateStore,
    PostgresStorage,
    ProviderRegistry,
    SQLiteStorage,
    StateStore,
)
from batchor_core.core.caps import Cap
from batchor_core.core.enums import ProviderKind, StorageKind
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.models import ProviderConfig
from batchor_core.core.price_book import PriceBook
from batchor_core.core.reuse import ReuseScope, check_reuse
from batchor_core.runtime.engine import EngineSettings, RunProvider
from batchor_core.runtime.planning import Planning
from batchor_core.storage.existing import StoreToRead, postgres_to_read, sqlite_to_read
from batchor_core.storage.postgres import DSN_VARIABLE, SCHEMA_VARIABLE
from batchor_dagster.misspelt_names import refuse_unknown
from batchor_dagster.providers import (
    Providers,
    check_providers,
    registry_of,
    resolved,
    settings_of,
    with_settings,
)

_MEMORY_STORES: dict[str, MemoryStateStore] = {}
"""Memory stores of this process by root, since every Dagster step creates its resources again."""


class LiteralKeyWarning(UserWarning):
    """A key is a literal in the code, so that Dagster's config snapshots and the UI can show it."""


_BELONGS_TO = {
    "sqlite_path": StorageKind.SQLITE,
    "postgres_dsn": StorageKind.POSTGRES,
    "postgres_schema": StorageKind.POSTGRES,
}
"""Settings that only one kind of storage uses."""

_FOLDERS = ("root", "sqlite_path")
"""Settings that are paths on this machine, and can't be URLs."""


PRICES_DESCRIPTION = "A prices.toml with your own prices, which come before the public price list."
CAPS_DESCRIPTION = (
    "The most that may be spent: usd or rows, scope (run, asset, tag:NAME, store) and per (day) of each."
)


class BatchorResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Where runs are stored, how the provider is reached, where results go.

    All parts of a deployment that use it (steps, the sensor, the daemon) must reach the same store and the same folders:
    ``sqlite`` and folders suit one machine; several machines want ``postgres`` and shared storage.

    A setting that would have no effect together with the others is an error. Each setting that is left out may come from the
    environment.

    Example::

        BatchorResource(root="data", api_key=dg.EnvVar("OPENAI_API_KEY"))

    It knows OpenAI's provider, and every provider that an installed package registers under the entry point group
    ``batchor.providers``. ``providers`` adds your own, and sets keys and addresses for any of them::

        BatchorResource(
            root="data",
            providers={
                "acme": Provider(
                    AcmeProvider, AcmeConfig.from_payload, settings={"api_key": dg.EnvVar("ACME_API_KEY")}
                )
            },
        )
    """

    root: str = Field(
        default=".batchor",
        description="Folder of the SQLite file, artifacts and result files, unless they are set below.",
    )
    storage: str = Field(
        default="sqlite", description="sqlite, postgres or memory (for tests within one process)."
    )
    sqlite_path: str | None = Field(
        default=None, description="The SQLite file. Default: <root>/batchor.sqlite3."
    )
    postgres_dsn: str | None = Field(
        default=None,
        description="postgresql://..., preferably as EnvVar. Default: BATCHOR_POSTGRES_DSN.",
    )
    postgres_schema: str | None = Field(
        default=None,
        description="Database schema of the postgres store. Default: BATCHOR_POSTGRES_SCHEMA, otherwise batchor.",
    )
    artifacts: str | None = Field(
        default=None,
        description="Folder or fsspec URL of request and output files. Default: <root>/artifacts.",
    )
    parquet_base: str | None = Field(
        default=None, description="Folder or fsspec URL of result files. Default: <root>/results."
    )
    api_key: str | None = Field(
        default=None,
        description="OpenAI's key, always as EnvVar. Default: OPENAI_API_KEY. Keys of other providers belong in "
        "providers.",
        repr=False,
    )
    base_url: str | None = Field(
        default=None,
        description="Another OpenAI-compatible server. Default: OPENAI_BASE_URL, otherwise OpenAI.",
    )
    prices: str | None = Field(
        default=None,
        description=PRICES_DESCRIPTION,
    )
    caps: list[dict[str, Any]] | None = Field(
        default=None,
        description=CAPS_DESCRIPTION,
    )
    reuse: str | None = Field(
        default=None,
        description="Whose answers to equal requests runs may have, unless their asset or job says so: off, partition, asset or "
        "store. Default: asset.",
    )
    poll_interval_sec: float = Field(
        default=5.0, gt=0, description="Seconds between two cycles of an asset that waits for its run."
    )
    webserver_url: str = Field(
        default="",
        description="Prefix of links to the Dagster UI, for places where relative links don't work.",
    )
    # a dependency, not config: that can't hold classes, and the UI shows it. Dagster knows it by its annotation, so that
    # this module has no `from __future__ import annotations`.
    providers: dg.ResourceDependency[Any] = None  # type: ignore[assignment]

    _runner: BatchRunner | None = PrivateAttr(default=None)

    def __init__(self, **data: Any) -> None:
        refuse_unknown(type(self), data)
        super().__init__(**data)
        check_providers(self.providers)
        self._check()
        key = data.get("api_key")
        # Dagster makes the resource again with EnvVars resolved: a value that stands in the environment is one of those
        if isinstance(key, str) and not isinstance(key, dg.EnvVar) and key not in os.environ.values():
            warnings.warn(
                'BatchorResource(api_key="...") puts the key into Dagster\'s config, where the UI shows it. '
                'Write api_key=dg.EnvVar("OPENAI_API_KEY").',
                LiteralKeyWarning,
                stacklevel=2,
            )

    @classmethod
    def configure_at_launch(cls, **settings: Any) -> Any:
        """A resource whose other settings are given when a run is launched."""
        refuse_unknown(cls, settings)
        return super().configure_at_launch(**settings)

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
            registry = registry_of(self._providers)
            self._runner = BatchRunner(
                storage=self._open_storage(registry),
                provider_registry=registry,
                artifact_store=self._open_artifacts(),
                provider_factory=lambda config: registry.create(self._in_use(registry, config)),
                prices=self._prices(registry),
                caps=caps_of(self.caps or ()),
            )
        return self._runner

    @contextmanager
    def planning(self, config: ProviderConfig) -> Iterator[tuple[StateStore, Planning]]:
        """The store as it is, and what makes plans with it, for a job with this provider: nothing is created or written."""
        registry = registry_of(self._providers)
        store, note = self._store_to_read(registry)
        try:
            yield (
                store,
                Planning(
                    store,
                    RunProvider(lambda: registry.create(self._in_use(registry, config)), config),
                    self._prices(registry),
                    EngineSettings(),
                    notes=[] if note is None else [note],
                    caps=caps_of(self.caps or ()),
                ),
            )
        finally:
            store.close()

    def results_base(self) -> str:
        """Folder or URL of the result files."""
        return self._value("parquet_base") or str(self._root() / "results")

    def with_server(self, config: ProviderConfig) -> ProviderConfig:
        """A job's config, with this resource's server unless the job names one."""
        if config.provider_kind != ProviderKind.OPENAI or self.base_url is None:
            return config
        return with_settings(config, {"base_url": self.base_url}, where="BatchorResource")

    def reuse_scope(self) -> ReuseScope | None:
        """Whose answers runs may have, unless their asset or job says so."""
        if self.reuse is None or isinstance(self.reuse, dg.EnvVar):
            return None
        check_reuse(reuse=self.reuse, max_age=None, salt="", reuse_varying=False)
        return cast(ReuseScope, self.reuse)

    def _close(self) -> None:
        runner, self._runner = self._runner, None
        if runner is None:
            return
        runner.close()
        runner.storage.close()

    @property
    def _providers(self) -> Providers | None:
        return self.providers  # type: ignore[no-any-return]

    def _check(self) -> None:
        """Refuse settings that would have no effect, as far as they are known: EnvVars are known when they are used.

        Raises:
            InvalidInputError: Names the setting, and what to do.
        """
        if not isinstance(self.storage, dg.EnvVar):
            given = {name for name in _BELONGS_TO if getattr(self, name) is not None}
            check_storage(self.storage, given)
        caps_of(self.caps or ())
        self.reuse_scope()
        for name in _FOLDERS:
            value = getattr(self, name)
            if not isinstance(value, dg.EnvVar) and value is not None:
                _check_folder(name, value)
        twice = settings_of(self._providers, ProviderKind.OPENAI).keys() & self._openai_settings().keys()
        if twice:
            name = min(twice)
            raise InvalidInputError(
                f"BatchorResource.{name} and providers['openai'].settings[{name!r}] are the same setting: leave one of them out"
            )

    def _value(self, name: str) -> str | None:
        """A setting that may be left out."""
        value: str | None = getattr(self, name)
        return None if value is None else str(resolved(f"BatchorResource.{name}", value))

    def _root(self) -> Path:
        root = str(resolved("BatchorResource.root", self.root))
        _check_folder("root", root)
        return Path(root).expanduser().absolute()

    def _prices(self, registry: ProviderRegistry) -> PriceBook:
        return PriceBook(self._value("prices"), in_use=lambda config: self._in_use(registry, config))

    def _store_to_read(self, registry: ProviderRegistry) -> StoreToRead:
        match place := self._place():
            case Path():
                return sqlite_to_read(place, provider_registry=registry)
            case None:
                return StoreToRead(_MEMORY_STORES.get(str(self._root())) or MemoryStateStore())
            case _:
                return postgres_to_read(place, provider_registry=registry)

    def _open_storage(self, registry: ProviderRegistry) -> StateStore:
        match place := self._place():
            case Path():
                return SQLiteStorage(path=place, provider_registry=registry)
            case None:
                root = str(self._root())
                if (store := _MEMORY_STORES.get(root)) is not None:
                    return store  # making one, to throw it away, takes as long as a small run
                return _MEMORY_STORES.setdefault(root, MemoryStateStore())
            case _:
                return PostgresStorage.from_env(env=place, provider_registry=registry)

    def _place(self) -> Path | Mapping[str, str] | None:
        """The SQLite file, the environment that names a Postgres database, or None for memory."""
        given = {name: value for name in _BELONGS_TO if (value := self._value(name)) is not None}
        match check_storage(str(resolved("BatchorResource.storage", self.storage)), given):
            case StorageKind.SQLITE:
                path = given.get("sqlite_path")
                if path is not None:
                    _check_folder("sqlite_path", path)
                return self._root() / "batchor.sqlite3" if path is None else Path(path)
            case StorageKind.POSTGRES:
                variables = {
                    DSN_VARIABLE: given.get("postgres_dsn"),
                    SCHEMA_VARIABLE: given.get("postgres_schema"),
                }
                overriding = {name: value for name, value in variables.items() if value is not None}
                return os.environ | overriding
            case StorageKind.MEMORY:
                return None

    def _open_artifacts(self) -> ArtifactStore:
        where = self._value("artifacts") or str(self._root() / "artifacts")
        if "://" not in where:
            return LocalArtifactStore(where)
        from batchor_core.artifacts.object_store import ObjectStoreArtifactStore

        return ObjectStoreArtifactStore(where)

    def _openai_settings(self) -> dict[str, Any]:
        given = {"api_key": self.api_key, "base_url": self.base_url}
        return {name: value for name, value in given.items() if value is not None}

    def _in_use(self, registry: ProviderRegistry, config: ProviderConfig) -> ProviderConfig:
        """The config of a run, with this resource's settings where the job leaves them out."""
        kind = str(config.provider_kind)
        if not registry.knows(kind):
            raise InvalidInputError(
                f"no provider is registered as {kind!r} for this BatchorResource; known: {', '.join(map(repr, registry.kinds()))}. Give it with "
                f"BatchorResource(providers={{{kind!r}: Provider(factory, loader)}}), or install the package that registers it "
                "under the entry point group batchor.providers."
            )
        config = registry.known_config(config)
        if kind == ProviderKind.OPENAI:
            config = with_settings(config, self._openai_settings(), where="BatchorResource")
        return with_settings(
            config, settings_of(self._providers, kind), where=f"BatchorResource.providers[{kind!r}].settings"
        )


def check_storage(storage: str, given: Iterable[str]) -> StorageKind:
    """The kind of store that ``storage`` names.

    Args:
        storage: The resource's setting.
        given: Names of the other settings that are set.

    Raises:
        InvalidInputError: There is no such kind, or it doesn't use one of the settings.
    """
    try:
        kind = StorageKind(storage)
    except ValueError:
        raise InvalidInputError(
            f"BatchorResource.storage must be sqlite, postgres or memory, not {storage!r}"
        ) from None
    for name in sorted(given):
        if _BELONGS_TO[name] is not kind:
            raise InvalidInputError(
                f"BatchorResource.{name} has no effect with storage={str(kind)!r}: leave it out, or set "
                f"storage={str(_BELONGS_TO[name])!r}"
            )
    return kind


def caps_of(given: Iterable[dict[str, Any]]) -> list[Cap]:
    """The caps of a resource.

    Raises:
        InvalidInputError: One of them is none; names it.
    """
    caps = []
    for number, settings in enumerate(given):
        try:
            caps.append(Cap(**settings))
        except (TypeError, InvalidInputError) as error:
            raise InvalidInputError(
                f"BatchorResource.caps[{number}], {settings!r}, is no cap such as {{'usd': 50, 'scope': 'asset', 'per': 'day'}}: "
                f"{error}"
            ) from None
    return caps


def _check_folder(name: str, value: str) -> None:
    if "://" in value:
        raise InvalidInputError(
            f"BatchorResource.{name} is a path on this machine, not a URL such as {value!r}. Only artifacts and parquet_base "
            "may be URLs; the store is SQLite in a folder, or Postgres."
        )
