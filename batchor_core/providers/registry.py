"""Providers by name: those registered in this process, then those registered by installed packages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeAlias

from batchor_core.core.enums import ProviderKind
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.models import ProviderConfig
from batchor_core.core.types import JSONObject
from batchor_core.providers.api import BatchApi
from batchor_core.providers.base import BatchProvider

ProviderFactory: TypeAlias = Callable[[Any], BatchProvider | BatchApi]
"""Makes a provider from its config."""

ProviderConfigLoader: TypeAlias = Callable[[dict[str, Any]], ProviderConfig]
"""Makes a config from the JSON that its ``to_payload`` or ``to_public_payload`` wrote."""


ENTRY_POINT_GROUP = "batchor.providers"
"""Packages register a :class:`ProviderPlugin` here, under the provider's kind."""


@dataclass(frozen=True, slots=True)
class ProviderPlugin:
    """A provider as a package registers it.

    In the package's ``pyproject.toml``::

        [project.entry-points."batchor.providers"]
        acme = "acme_batchor:PLUGIN"

    Attributes:
        factory: Makes the provider from its config.
        loader: Makes the config from the output of its ``to_payload`` or ``to_public_payload``.
    """

    factory: ProviderFactory
    loader: ProviderConfigLoader


@dataclass(frozen=True, slots=True)
class UnregisteredProviderConfig(ProviderConfig):
    """The stored settings of a provider that this process does not know.

    Attributes:
        kind: The name it was registered under elsewhere.
        payload: Its settings, without secrets.
    """

    kind: str
    payload: JSONObject

    @property
    def provider_kind(self) -> str:
        """The name it was registered under elsewhere."""
        return self.kind

    def to_payload(self) -> JSONObject:
        """The settings as they were stored."""
        return dict(self.payload)


class ProviderRegistry:
    """Finds the factory and the config loader of a provider by its kind. A new registry is empty.

    Args:
        entry_point_group: Entry point group of installed packages with providers. Their code is imported when their
            kind is first needed. None ignores packages. A kind registered by :meth:`register` takes precedence.
    """

    def __init__(self, *, entry_point_group: str | None = None) -> None:
        self._plugins: dict[str, ProviderPlugin] = {}
        self._group = entry_point_group

    def register(
        self, *, kind: ProviderKind | str, factory: ProviderFactory, loader: ProviderConfigLoader
    ) -> None:
        """Register a provider under any name; a second registration of a name replaces the first."""
        if not isinstance(kind, str) or not kind:
            raise TypeError(f"kind must be a non-empty string, not {kind!r}")
        self._plugins[str(kind)] = ProviderPlugin(factory, loader)

    def kinds(self) -> list[str]:
        """Every kind that :meth:`create` knows, those of installed packages included; imports none of them."""
        return sorted(self._plugins.keys() | {point.name for point in self._entry_points()})

    def knows(self, kind: ProviderKind | str) -> bool:
        """Whether :meth:`create` knows a kind. Installed packages are looked through only where it was not registered."""
        return str(kind) in self._plugins or bool(self._entry_points(str(kind)))

    def create(self, config: ProviderConfig) -> BatchProvider | BatchApi:
        """Make the provider that ``config`` describes.

        Raises:
            InvalidInputError: Nothing is registered under its kind, or the package that registers it can't be imported.
        """
        return self._plugin(config.provider_kind).factory(self.known_config(config))

    def known_config(self, config: ProviderConfig) -> ProviderConfig:
        """The config itself, or the loaded one if it was stored before its kind was known here.

        Raises:
            InvalidInputError: Nothing is registered under its kind.
        """
        if isinstance(config, UnregisteredProviderConfig):
            return self._plugin(config.kind).loader(config.to_payload())
        return config

    def dump_config(self, config: ProviderConfig, *, include_secrets: bool = True) -> JSONObject:
        """Return ``{"provider_kind": ..., "config": ...}``, with secrets unless told otherwise."""
        payload = config.to_payload() if include_secrets else config.to_public_payload()
        return {"provider_kind": str(config.provider_kind), "config": payload}

    def load_config(self, payload: JSONObject) -> ProviderConfig:
        """Read what :meth:`dump_config` wrote.

        Raises:
            TypeError: ``provider_kind`` or ``config`` is of the wrong type.
            InvalidInputError: Nothing is registered under that kind.
        """
        kind, config = payload.get("provider_kind"), payload.get("config")
        if not isinstance(kind, str):
            raise TypeError(f"provider_kind must be a string, not {type(kind).__name__}")
        if not isinstance(config, dict):
            raise TypeError(f"config must be an object, not {type(config).__name__}")
        return self._plugin(kind).loader(config)

    def load_stored_config(self, payload: JSONObject) -> ProviderConfig:
        """Like :meth:`load_config`, but a kind that this process does not have is kept unchanged.

        So a stored run can be read where its provider is unknown; only driving it needs the provider.
        """
        kind, config = payload.get("provider_kind"), payload.get("config")
        if isinstance(kind, str) and isinstance(config, dict):
            try:
                self._plugin(kind)
            except InvalidInputError:  # create() reports it to whoever drives the run
                return UnregisteredProviderConfig(kind, config)
        return self.load_config(payload)

    def _plugin(self, kind: ProviderKind | str) -> ProviderPlugin:
        kind = str(kind)
        found = self._plugins.get(kind)
        if found is not None:
            return found
        points = self._entry_points(kind)
        if not points:
            known = ", ".join(repr(name) for name in self.kinds()) or "none"
            raise InvalidInputError(
                f"no provider is registered as {kind!r}; known: {known}. "
                "Add yours with registry.register(kind=..., factory=..., loader=...)"
                + (
                    f", or install the package that registers it as a {self._group} entry point."
                    if self._group
                    else "."
                )
            )
        if len({_package(point) for point in points}) > 1:
            packages = " and ".join(sorted({_package(point) for point in points}))
            raise InvalidInputError(
                f"the provider {kind!r} is registered by {packages}. Uninstall all but one, or choose one with "
                "registry.register(kind=..., factory=..., loader=...)."
            )
        plugin = _loaded(points[0], kind)
        self._plugins[kind] = plugin
        return plugin

    def _entry_points(self, kind: str | None = None) -> list[EntryPoint]:
        if self._group is None:
            return []
        found = entry_points(group=self._group)
        return list(found if kind is None else found.select(name=kind))


def _package(point: EntryPoint) -> str:
    return (
        f"{point.dist.name} {point.dist.version}" if point.dist is not None else f"a package ({point.value})"
    )


def _loaded(point: EntryPoint, kind: str) -> ProviderPlugin:
    where = f"the provider {kind!r} of {_package(point)} ({point.value})"
    try:
        plugin = point.load()
    except Exception as error:
        # somebody else's module: whatever it raises, the message must name the package
        raise InvalidInputError(
            f"{where} can't be imported: {type(error).__name__}: {error}. Install it completely, or another version of it."
        ) from error
    if not isinstance(plugin, ProviderPlugin):
        raise InvalidInputError(
            f"{where} is a {type(plugin).__name__}, and must be a batchor_core.providers.registry.ProviderPlugin"
        )
    return plugin


def build_default_provider_registry() -> ProviderRegistry:
    """Return a registry with the built-in providers and those that installed packages register."""
    from batchor_core.providers.anthropic import AnthropicBatchApi, AnthropicProviderConfig
    from batchor_core.providers.command.config import KIND, CommandProviderConfig
    from batchor_core.providers.gemini import GeminiBatchApi, GeminiProviderConfig
    from batchor_core.providers.openai import OpenAIBatchProvider, OpenAIProviderConfig

    registry = ProviderRegistry(entry_point_group=ENTRY_POINT_GROUP)
    registry.register(
        kind=ProviderKind.OPENAI, factory=OpenAIBatchProvider, loader=OpenAIProviderConfig.from_payload
    )
    registry.register(
        kind="anthropic", factory=AnthropicBatchApi, loader=AnthropicProviderConfig.from_payload
    )
    registry.register(kind="gemini", factory=GeminiBatchApi, loader=GeminiProviderConfig.from_payload)
    registry.register(kind=KIND, factory=_command_api, loader=CommandProviderConfig.from_payload)
    return registry


def _command_api(config: Any) -> BatchApi:
    from batchor_core.providers.command.api import (
        CommandApi,  # it needs locks of files, which Windows has not
    )

    return CommandApi(config)
