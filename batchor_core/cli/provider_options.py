"""The provider of a new run, by options: settings of its config, and fields of each request."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from batchor_core.cli.profiles import near
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.models import ProviderConfig
from batchor_core.providers.registry import build_default_provider_registry

_BODY_FIELDS = "request_options"
_LIKENESS = 0.85


def parsed_options(given: Sequence[str]) -> dict[str, Any]:
    """``KEY=VALUE`` as key and value: JSON if it is valid JSON, a string otherwise.

    Raises:
        InvalidInputError: One has no ``=``.
    """
    options: dict[str, Any] = {}
    for one in given:
        key, equals, value = one.partition("=")
        if not equals or not key.strip():
            raise InvalidInputError(f"--option {one!r}: write KEY=VALUE, such as temperature=0")
        try:
            options[key.strip()] = json.loads(value)
        except ValueError:
            options[key.strip()] = value
    return options


def config_of(kind: str, settings: Mapping[str, Any], options: Mapping[str, Any]) -> ProviderConfig:
    """A provider's config.

    Args:
        kind: Under which the provider is registered.
        settings: Those with options of their own, such as the model.
        options: Settings of the config by their names; any other is a field of each request, if the provider has such.

    Raises:
        InvalidInputError: There is no such provider or setting, or a value can't be used.
    """
    registry = build_default_provider_registry()
    config = _loaded(registry, kind, settings)
    known = config.to_public_payload()
    for name in settings:
        if name not in known:
            raise InvalidInputError(f"the provider {kind} has no setting {name}{near(name, known)}")
    changed, fields = dict(settings), {}
    for name, value in options.items():
        if "api_key" in name:
            raise InvalidInputError("the API key is read only from the environment, never from an option")
        if name in known:
            changed[name] = value
            continue
        close = difflib.get_close_matches(name, known, n=1, cutoff=_LIKENESS)
        if close or _BODY_FIELDS not in known:
            hint = f"; did you mean {close[0]!r}?" if close else near(name, known)
            raise InvalidInputError(f"--option {name}: the provider {kind} has no such setting{hint}")
        fields[name] = value
    if fields:
        changed[_BODY_FIELDS] = {**changed.get(_BODY_FIELDS, {}), **fields}
    return _loaded(registry, kind, changed)


def _loaded(registry: Any, kind: str, settings: Mapping[str, Any]) -> ProviderConfig:
    try:
        config: ProviderConfig = registry.load_config({"provider_kind": kind, "config": dict(settings)})
    except (TypeError, ValueError) as error:
        if isinstance(error, InvalidInputError):
            raise
        raise InvalidInputError(f"provider {kind}: {error}") from None
    return config
