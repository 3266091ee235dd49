from __future__ import annotations

from typing import Any

import pytest

from batchor_core.core.enums import ProviderKind
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.providers.openai import OpenAIBatchProvider, OpenAIProviderConfig
from batchor_core.providers.registry import ProviderRegistry, build_default_provider_registry
from batchor_core.testing.fake_config import FakeProviderConfig
from batchor_core.testing.fake_provider import FakeProvider, register_fake_provider


def test_the_default_registry_knows_openai() -> None:
    registry = build_default_provider_registry()
    config = OpenAIProviderConfig(model="gpt-4.1")
    assert isinstance(registry.create(config), OpenAIBatchProvider)
    assert registry.load_config(registry.dump_config(config)) == config


def test_any_string_is_a_kind() -> None:
    registry = register_fake_provider(ProviderRegistry())
    assert isinstance(registry.create(FakeProviderConfig()), FakeProvider)


def test_one_provider_can_serve_every_run() -> None:
    provider = FakeProvider()
    assert register_fake_provider(provider=provider).create(FakeProviderConfig()) is provider


def test_the_envelope_is_plain() -> None:
    dumped = build_default_provider_registry().dump_config(OpenAIProviderConfig(model="m", api_key="k"))
    assert set(dumped) == {"provider_kind", "config"}
    assert type(dumped["provider_kind"]) is str
    assert dumped["config"]["api_key"] == "k"


def test_an_unknown_kind_names_the_known_ones() -> None:
    registry = build_default_provider_registry()
    with pytest.raises(InvalidInputError, match=r"'fake'.*known: 'anthropic', 'command', 'gemini', 'openai'"):
        registry.create(FakeProviderConfig())
    with pytest.raises(ValueError, match="known: none"):
        ProviderRegistry().load_config({"provider_kind": ProviderKind.OPENAI, "config": {}})


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"provider_kind": 1, "config": {}},
        {"provider_kind": "openai"},
        {"provider_kind": "openai", "config": []},
    ],
)
def test_an_envelope_of_wrong_types_is_a_type_error(payload: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        build_default_provider_registry().load_config(payload)


@pytest.mark.parametrize("kind", ["", None, 3])
def test_a_kind_is_a_name(kind: Any) -> None:
    with pytest.raises(TypeError):
        ProviderRegistry().register(kind=kind, factory=FakeProvider, loader=FakeProviderConfig.from_payload)


def test_stored_settings_of_an_unknown_provider_are_kept_as_they_are() -> None:
    stored = register_fake_provider().dump_config(FakeProviderConfig(model="m"), include_secrets=False)
    registry = build_default_provider_registry()
    loaded = registry.load_stored_config(stored)
    assert registry.dump_config(loaded) == stored
    with pytest.raises(InvalidInputError):
        registry.create(loaded)
    assert register_fake_provider().load_stored_config(stored) == FakeProviderConfig(model="m")
    with pytest.raises(TypeError):
        registry.load_stored_config({"provider_kind": "fake"})
