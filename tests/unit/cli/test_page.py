"""The commands of the pages exist, with their options; tests/acceptance/test_pages.py types them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from batchor_core.cli.app import app
from tests.unit.cli.reference import _info, _parameters

NAMES = (
    "docs/how-to/use-the-command-line.md",
    "docs/how-to/embed-texts.md",
    "docs/how-to/plan-a-run.md",
    "README.md",
)
PAGES = [Path(__file__).parents[3] / name for name in NAMES]


def commands() -> Iterator[list[str]]:
    """Every ``batchor`` command of the pages: in blocks, and in the text."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        lines = [
            line
            for block in re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)
            for line in block.replace("\\\n", "").split("\n")
        ]
        for line in [*lines, *re.findall(r"`(batchor [a-z][^`]*)`", text)]:
            if line.startswith("batchor "):
                yield shlex.split(line, comments=True)[1:]


def test_every_command_of_the_pages_is_there_with_its_options() -> None:
    known = {
        str(command.name): {
            name
            for one in _parameters(command)
            for name in (_info(one).default, *(_info(one).param_decls or ()))
        }
        for command in app.registered_commands
    }
    seen = set()
    for name, *words in commands():
        if name.startswith("-"):
            continue
        seen.add(name)
        assert name in known
        assert [word for word in words if word.startswith("-") and word not in known[name]] == [], name
    assert set(known) - seen <= {"show"}
