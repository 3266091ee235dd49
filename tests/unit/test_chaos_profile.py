"""The crash harness knows providers by their profiles alone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from batchor_core.core.boundaries import Boundary
from batchor_core.providers.api import FoundBy
from tests.chaos import suites
from tests.chaos.profile import PROFILES, Request, profile
from tests.chaos.scenario import SCENARIOS, http, row

CHAOS = Path(suites.__file__).parent
OTHERS = sorted(set(PROFILES) - {"openai"})


@pytest.mark.parametrize("name", OTHERS)
def test_nothing_of_the_harness_knows_another_provider_but_its_line_of_registration(name: str) -> None:
    word = re.compile(rf"\b{name}\b", re.I)
    lines = [
        f"{path.name}: {line.strip()}"
        for path in sorted(CHAOS.glob("*.py"))
        if path.name != f"{name}_profile.py" and not path.name.startswith("test_")
        for line in path.read_text(encoding="utf-8").splitlines()
        if word.search(line)
    ]
    assert lines == [f'profile.py: "{name}": "{PROFILES[name]}",']


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_has_what_every_provider_needs(name: str) -> None:
    found = profile(name)
    assert found.name == name
    assert found.has(Request.CREATE, Request.LIST, Request.POLL, Request.DOWNLOAD)
    config = found.config("http://127.0.0.1:1", 0)
    assert found.registry().load_config(found.registry().dump_config(config)) == config


@pytest.mark.parametrize("name", PROFILES)
def test_a_provider_without_uploads_is_spared_what_only_uploads_come_by(name: str) -> None:
    found = profile(name)
    spared = {Boundary.DELETE_FILE, Boundary.REMOVE_FILE, Boundary.LOOK_AT_FILE, Boundary.POSTPONE}
    uploads = found.has(Request.UPLOAD)
    assert {place.partition(":")[0] for place in suites.places(found)} == {*Boundary} - {
        *suites.ELSEWHERE
    } - (set() if uploads else spared)
    assert (SCENARIOS["file-late"] in suites.scenarios(found)) is uploads
    assert SCENARIOS["request-lost"] in suites.scenarios(found)


def test_faults_become_routes_and_custom_ids_as_they_are_sent() -> None:
    openai = profile("openai")
    assert openai.fault(http("cut", "create")) == {
        "scope": "http",
        "kind": "cut",
        "method": "POST",
        "path": "/v1/batches",
    }
    assert openai.fault(row("blank", custom_id="*-0-*"))["custom_id"] == "*-0-*"
    by_rows = [name for name in OTHERS if profile(name).limits.found_by is FoundBy.ROWS]
    assert by_rows
    for name in by_rows:
        custom_id = profile(name).fault(row("blank", custom_id="*-0-*"))["custom_id"]
        assert custom_id == "*-0-*_????????????????"
