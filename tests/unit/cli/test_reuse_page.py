"""The page about paying only for what changed is typed: a table, a first run, three changed rows, the second bill."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.unit.cli.conftest import Terminal

PAGE = Path(__file__).parents[3] / "docs/how-to/pay-only-for-what-changed.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_the_program_shows_whose_answers_it_has(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", terminal.server.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-local")
    monkeypatch.setenv("HOME", str(terminal.folder))
    [program] = (compile(block, str(PAGE), "exec") for block in blocks("python"))
    exec(program, {})
    assert capsys.readouterr().out.endswith("None\n0 0\n")
    exec(program, {})
    assert capsys.readouterr().out.endswith("item_id='p2')\n2 0\n")
    assert terminal.paid == 2


def test_the_second_bill_is_that_of_the_changed_rows(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    (terminal.folder / "batchor.toml").unlink()
    monkeypatch.setenv("OPENAI_BASE_URL", terminal.server.base_url)
    monkeypatch.setenv("HOME", str(terminal.folder))
    table = [
        *blocks("text")[0].splitlines(),
        *(f"p{n},plate,Plate number {n} is fine." for n in range(3, 101)),
    ]
    first, second = (shlex.split(block)[1:] for block in blocks("sh"))
    terminal.write("rows.csv", *table)
    done = terminal.type(*first)
    assert (done.exit_code, terminal.paid) == (0, 100), done.output
    changed = [*table[:5], *(f"{line} It broke." for line in table[5:8]), *table[8:]]
    terminal.write("rows.csv", *changed)
    done = terminal.type(*second)
    assert (done.exit_code, terminal.paid) == (0, 103), done.output
    assert blocks("console")[0].strip() in done.stderr
    assert len(terminal.read("tuesday.jsonl").splitlines()) == 100
