"""A file that comes with a folder does not decide alone where the user's key is sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchor_core.cli.profiles import Profile
from batchor_core.cli.trust import TRUSTED_HOSTS, check_server
from batchor_core.core.exceptions import InvalidInputError
from tests.unit.cli.conftest import Terminal

GATEWAY = "https://gateway.example.com/v1"


@pytest.mark.parametrize("address", [GATEWAY, "http://127.evil.example/v1", "http://localhost.example/v1"])
@pytest.mark.parametrize("field", ["base_url", "options"])
def test_a_server_that_only_a_file_names_is_refused(tmp_path: Path, address: str, field: str) -> None:
    named = {"base_url": address}
    profile = Profile(
        **(named if field == "base_url" else {"options": named}), source=tmp_path / "batchor.toml"
    )
    with pytest.raises(InvalidInputError, match=f"{TRUSTED_HOSTS}=.*--base-url {address}"):
        check_server(address, profile, typed={})
    check_server(address, profile, typed=named)


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:8099/v1", "http://localhost:1/v1", "http://[::1]:1/v1"]
)
def test_this_machine_needs_no_trust(address: str) -> None:
    check_server(address, Profile(base_url=address), typed={})


def test_a_trusted_host_may_be_named_by_any_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TRUSTED_HOSTS, "other.example, GATEWAY.example.com")
    check_server(GATEWAY, Profile(base_url=GATEWAY), typed={})


def test_the_environments_own_server_is_not_the_files() -> None:
    check_server(GATEWAY, Profile(model="gpt-5-mini"), typed={})
    check_server(GATEWAY, Profile(base_url="http://127.0.0.1:1/v1"), typed={})


def test_a_run_in_a_foreign_folder_sends_nothing(terminal: Terminal) -> None:
    terminal.write("batchor.toml", "db = 'runs.sqlite3'", "model = 'gpt-5-mini'", f"base_url = '{GATEWAY}'")
    refused = terminal.run()
    assert refused.exit_code == 2
    assert GATEWAY in refused.stderr
    assert terminal.paid == 0
    allowed = terminal.run("--base-url", terminal.server.base_url)
    assert allowed.exit_code == 0, allowed.output


@pytest.mark.parametrize("where", ["base_url", "options"])
def test_a_file_does_not_override_the_server_that_was_typed(terminal: Terminal, where: str) -> None:
    table = ["[options]"] if where == "options" else []
    terminal.write(
        "batchor.toml",
        "db = 'runs.sqlite3'",
        "model = 'gpt-5-mini'",
        *table,
        f"base_url = '{GATEWAY}'",
    )
    refused = terminal.run("--base-url", "")  # of a variable that is not set
    assert refused.exit_code == 2
    assert GATEWAY in refused.stderr
    assert terminal.run("--base-url", terminal.server.base_url).exit_code == 0
    assert terminal.paid == 3


def test_a_file_does_not_override_the_model_that_was_typed(terminal: Terminal) -> None:
    terminal.write("batchor.toml", terminal.read("batchor.toml"), "model = 'gpt-5'")  # of its options
    assert terminal.run("-m", "gpt-5-mini", "--run-id", "typed").exit_code == 0
    assert {body["model"] for body in terminal.asked.values()} == {"gpt-5-mini"}
