"""The page of all commands is the commands'."""

from __future__ import annotations

from dataclasses import fields

from batchor_core.cli.profiles import Profile
from tests.unit.cli.reference import PAGE, page


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m tests.unit.cli.reference"


def test_the_page_names_every_setting_of_a_profile() -> None:
    text = page()
    assert [one.name for one in fields(Profile) if one.name != "source" and f"`{one.name}`" not in text] == []
