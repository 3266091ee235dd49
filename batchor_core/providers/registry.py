"""Which provider belongs to which name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from batchor_core.core.enums import ProviderKind
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.models import ProviderConfig
from batchor_core.core.types import JSONObject
from batchor_core.providers.base import BatchProvider

ProviderFactory: TypeAlias = Callable[[Any], BatchProvider]
"""Makes a provider from its config."""

ProviderConfigLoader: TypeAlias = Callable[[dict[str, Any]], ProviderConfig]
"""Makes a config from the JSON that its ``to_payload`` or ``to_public_payload`` wrote."""


class _Entry(NamedTuple):
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
    """Finds the factory and the config loader of a provider by its kind. Starts empty."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    def register(
        self, *, kind: ProviderKind | str, factory: ProviderFactory, loader: ProviderConfigLoader
    ) -> None:
        """Register a provider under any name; a second registration of a name replaces the first."""
        if not isinstance(kind, str) or not kind:
            raise TypeError(f"kind must be a non-empty string, not {kind!r}")
        self._entries[str(kind)] = _Entry(factory, loader)

    def create(self, config: ProviderConfig) -> BatchProvider:
        """Make the provider that ``config`` describes.

        Raises:
            InvalidInputError: Nothing is registered under its kind.
        """
        return self._entry(config.provider_kind).factory(config)

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
        return self._entry(kind).loader(config)

    def load_stored_config(self, payload: JSONObject) -> ProviderConfig:
        """Like :meth:`load_config`, but a kind that nothing is registered under is kept as it is.

        So a stored run can be read where its provider is unknown; only driving it needs the provider.
        """
        kind, config = payload.get("provider_kind"), payload.get("config")
        if isinstance(kind, str) and kind not in self._entries and isinstance(config, dict):
            return UnregisteredProviderConfig(kind, config)
        return self.load_config(payload)

    def _entry(self, kind: ProviderKind | str) -> _Entry:
        try:
            return self._entries[str(kind)]
        except KeyError:
            known = ", ".join(repr(name) for name in sorted(self._entries)) or "none"
            raise InvalidInputError(
                f"no provider is registered as {str(kind)!r}; known: {known}. "
                "Add yours with registry.register(kind=..., factory=..., loader=...)."
            ) from None


def build_default_provider_registry() -> ProviderRegistry:
    """Return a registry that knows the built-in OpenAI provider."""
    from batchor_core.providers.openai import OpenAIBatchProvider, OpenAIProviderConfig

    registry = ProviderRegistry()
    registry.register(
        kind=ProviderKind.OPENAI, factory=OpenAIBatchProvider, loader=OpenAIProviderConfig.from_payload
    )
    return registry
