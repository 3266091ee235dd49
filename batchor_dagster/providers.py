"""How a deployment creates its providers: the classes of each kind, and settings, such as keys, that don't belong in a job."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import dagster as dg

from batchor_core.core.exceptions import InvalidInputError, MissingCredentialsError
from batchor_core.core.models import ProviderConfig
from batchor_core.providers.registry import (
    ProviderConfigLoader,
    ProviderFactory,
    ProviderRegistry,
    build_default_provider_registry,
)


@dataclass(frozen=True)
class Provider:
    """One kind of provider in ``BatchorResource(providers={kind: Provider(...)})``.

    Give both classes for your own provider, or only settings for a provider that an installed package registers::

        Provider(AcmeProvider, AcmeConfig.from_payload, settings={"api_key": dg.EnvVar("ACME_API_KEY")})
        Provider(settings={"api_key": dg.EnvVar("ACME_API_KEY"), "base_url": "https://eu.acme.example"})

    The settings are never part of Dagster's config, so the UI doesn't show them.

    Attributes:
        factory: Makes the provider from its config. If left out, the kind must already be registered.
        loader: Makes the config from its stored form; required together with ``factory``.
        settings: Fields of the provider's config, for jobs that leave them at their defaults: keys, addresses. An ``EnvVar``
            is read when the provider is first needed.
    """

    factory: ProviderFactory | None = None
    loader: ProviderConfigLoader | None = None
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if (self.factory is None) != (self.loader is None):
            raise InvalidInputError(
                "Provider takes factory and loader together: the loader makes the config of a run that another process resumes"
            )


Providers: TypeAlias = ProviderRegistry | Mapping[str, Provider]


def check_providers(given: object) -> None:
    """Raise unless this is a registry or a mapping of kinds to providers.

    Raises:
        InvalidInputError: It is neither.
    """
    if given is None or isinstance(given, ProviderRegistry):
        return
    if isinstance(given, Mapping) and all(
        isinstance(kind, str) and kind and isinstance(provider, Provider) for kind, provider in given.items()
    ):
        return
    raise InvalidInputError(
        "BatchorResource.providers must map kinds to Provider(...), such as "
        f'{{"acme": Provider(AcmeProvider, AcmeConfig.from_payload)}}, or be a ProviderRegistry; it is {given!r}'
    )


def registry_of(given: Providers | None) -> ProviderRegistry:
    """The registry that a resource uses: the one it was given, or the default one with its providers added."""
    if isinstance(given, ProviderRegistry):
        return given
    registry = build_default_provider_registry()
    for kind, provider in (given or {}).items():
        if provider.factory is not None and provider.loader is not None:
            registry.register(kind=kind, factory=provider.factory, loader=provider.loader)
    return registry


def settings_of(given: Providers | None, kind: str) -> Mapping[str, Any]:
    """The resource's settings for one kind."""
    provider = given.get(kind) if isinstance(given, Mapping) else None
    return provider.settings if provider is not None else {}


def with_settings(config: ProviderConfig, settings: Mapping[str, Any], *, where: str) -> ProviderConfig:
    """A job's config with the deployment's settings in the fields that the job left at their defaults.

    Raises:
        InvalidInputError: The config has no such field, or every job must set it, so that the setting would be ignored.
    """
    if not settings:
        return config
    name_of_class = type(config).__name__
    given: Any = config
    if not dataclasses.is_dataclass(given):
        raise InvalidInputError(
            f"{where} has settings, but {name_of_class} is not a dataclass, so they can't be applied. Pass them to the provider in its "
            "factory instead."
        )
    defaults = {f.name: _default(f) for f in dataclasses.fields(given) if f.init}
    changes: dict[str, Any] = {}
    for name, setting in settings.items():
        place = f"{where}.{name}"
        if name not in defaults:
            near = difflib.get_close_matches(name, defaults, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; it has {', '.join(defaults)}"
            raise InvalidInputError(f"{place}: {name_of_class} has no field {name!r}{hint}")
        if defaults[name] is dataclasses.MISSING:
            raise InvalidInputError(
                f"{place}: every {name_of_class} sets {name} itself, so this setting would never be used. Leave it out."
            )
        if getattr(config, name) == defaults[name]:
            changes[name] = resolved(place, setting, error=MissingCredentialsError)
    replace: Any = dataclasses.replace  # its type knows dataclasses only by their own class
    made: ProviderConfig = replace(config, **changes)
    return made


def _default(f: dataclasses.Field[Any]) -> Any:
    if f.default_factory is not dataclasses.MISSING:
        return f.default_factory()
    return f.default


def resolved(name: str, setting: Any, *, error: type[InvalidInputError] = InvalidInputError) -> Any:
    """A setting's value, with an EnvVar resolved. Dagster resolves those only in its own config.

    Raises:
        InvalidInputError: It is empty, or an EnvVar whose variable is not set. There is no fallback.
    """
    value: Any = setting
    if isinstance(setting, dg.EnvVar):
        value = setting.get_value()
        if not value or not value.strip():
            state = "not set" if value is None else "empty"
            raise error(
                f"{name} is EnvVar({setting.env_var_name!r}), and that variable is {state}. Set it, or leave {name} out."
            )
    if isinstance(value, str) and not value.strip():
        raise error(f"{name} is empty. Give it a value, or leave it out.")
    return value
