"""Providers that installed packages bring: found by their kind, imported when they are needed, named when they can't be."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from batchor_core import BatchItem, BatchJob, BatchRunner, SQLiteStorage
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.providers.registry import (
    ProviderPlugin,
    ProviderRegistry,
    UnregisteredProviderConfig,
    build_default_provider_registry,
)
from tests.support.fixtures import Install
from tests.support.shelf_provider import KEY, ShelfConfig, ShelfProvider


def test_a_package_registers_its_provider(install: Install, tmp_path: Path) -> None:
    install()
    registry = build_default_provider_registry()
    assert registry.kinds() == ["anthropic", "command", "gemini", "openai", "shelf"]
    config = ShelfConfig(str(tmp_path), api_key=KEY)
    assert isinstance(registry.create(config), ShelfProvider)
    assert registry.load_config(registry.dump_config(config)) == config


def test_a_package_is_imported_when_its_kind_is_asked_for_and_not_before(
    install: Install, tmp_path: Path
) -> None:
    install(code="raise RuntimeError('imported')\n")
    registry = build_default_provider_registry()
    assert "shelf" in registry.kinds()
    assert "shelf_batchor" not in sys.modules
    with pytest.raises(InvalidInputError, match=r"'shelf' of shelf-batchor 1.0 .*RuntimeError: imported"):
        registry.create(ShelfConfig(str(tmp_path)))


def test_a_run_is_read_and_resumed_by_a_process_that_has_only_the_package(
    install: Install, tmp_path: Path
) -> None:
    install()
    folder = str(tmp_path / "shelf")
    job: BatchJob[Any, Any] = BatchJob(
        items=[BatchItem("1", "hey")],
        build_prompt=lambda item: item.payload,
        provider_config=ShelfConfig(folder, api_key=KEY),
    )
    with BatchRunner(storage=SQLiteStorage(path=tmp_path / "runs.sqlite3"), temp_root=tmp_path) as runner:
        runner.start(job, run_id="r")
    with BatchRunner(storage=SQLiteStorage(path=tmp_path / "runs.sqlite3"), temp_root=tmp_path) as another:
        run = another.get_run("r")
        assert run.config.provider_config == ShelfConfig(folder)
        assert [result.output_text for result in run.wait().results()] == ["HEY!"]


def test_a_run_whose_package_is_broken_can_still_be_read(install: Install, tmp_path: Path) -> None:
    install(code="import no_such_module\n")
    stored = {"provider_kind": "shelf", "config": {"folder": "x"}}
    config = build_default_provider_registry().load_stored_config(stored)
    assert config == UnregisteredProviderConfig("shelf", {"folder": "x"})
    with pytest.raises(InvalidInputError, match="No module named 'no_such_module'"):
        build_default_provider_registry().create(config)


def test_two_packages_for_one_kind_are_both_named(install: Install, tmp_path: Path) -> None:
    install()
    install(name="another", value="another_batchor:PLUGIN")
    registry = build_default_provider_registry()
    with pytest.raises(
        InvalidInputError, match=r"registered by another 1.0 and shelf-batchor 1.0. Uninstall"
    ):
        registry.create(ShelfConfig(str(tmp_path)))
    registry.register(kind="shelf", factory=ShelfProvider, loader=ShelfConfig.from_payload)  # type: ignore[arg-type]
    assert isinstance(registry.create(ShelfConfig(str(tmp_path))), ShelfProvider)


def test_no_package_replaces_a_provider_that_is_registered_here(install: Install) -> None:
    install(kind="openai", code="raise RuntimeError('imported')\n")
    registry = build_default_provider_registry()
    assert (
        registry.load_config({"provider_kind": "openai", "config": {"model": "m"}}).provider_kind == "openai"
    )


def test_an_entry_point_must_name_a_plugin(install: Install, tmp_path: Path) -> None:
    install(code="from tests.support.shelf_provider import ShelfProvider as PLUGIN\n")
    with pytest.raises(
        InvalidInputError, match=r"shelf_batchor:PLUGIN\) is a type, and must be .*ProviderPlugin"
    ):
        build_default_provider_registry().create(ShelfConfig(str(tmp_path)))


def test_an_unknown_kind_says_how_to_bring_it(tmp_path: Path) -> None:
    with pytest.raises(
        InvalidInputError,
        match=r"'shelf'; known: 'anthropic', 'command', 'gemini', 'openai'.*registry.register.*batchor.providers entry point",
    ):
        build_default_provider_registry().create(ShelfConfig(str(tmp_path)))


def test_a_registry_of_ones_own_looks_for_no_packages(install: Install, tmp_path: Path) -> None:
    install()
    assert ProviderRegistry().kinds() == []
    with pytest.raises(InvalidInputError, match=r"known: none\. Add yours with registry.register\(.*\)\.$"):
        ProviderRegistry().create(ShelfConfig(str(tmp_path)))


def test_a_config_that_was_stored_before_its_kind_was_known_is_loaded_when_it_is_needed(
    tmp_path: Path,
) -> None:
    seen: list[object] = []

    def factory(config: ShelfConfig) -> Any:
        seen.append(config)
        return ShelfProvider(config)

    registry = ProviderRegistry()
    registry.register(kind="shelf", factory=factory, loader=ShelfConfig.from_payload)
    registry.create(UnregisteredProviderConfig("shelf", {"folder": str(tmp_path), "mark": "?"}))
    assert seen == [ShelfConfig(str(tmp_path), mark="?")]


def test_a_plugin_is_a_factory_and_a_loader() -> None:
    plugin = ProviderPlugin(factory=ShelfProvider, loader=ShelfConfig.from_payload)  # type: ignore[arg-type]
    assert plugin.loader({"folder": "x"}) == ShelfConfig("x")
