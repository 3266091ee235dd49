"""What a run costs, on the command line."""

from __future__ import annotations

import csv
import json

import pytest

from tests.unit.cli.conftest import Terminal

PRICES = ['["openai/gpt-5-mini"]', "input_tokens = 1", "output_tokens = 1"]


@pytest.mark.parametrize("where", ["option", "profile"])
def test_a_run_is_priced_by_your_own_table(terminal: Terminal, where: str) -> None:
    terminal.write("prices.toml", *PRICES)
    options = ["--prices", "prices.toml"] if where == "option" else []
    if where == "profile":
        terminal.write("batchor.toml", 'prices = "prices.toml"', terminal.read("batchor.toml"))
    done = terminal.run("--out", "out.csv", "--json", *options)
    assert done.exit_code == 0, done.output
    summary = json.loads(done.stdout)
    usd = (summary["usage"]["input_tokens"] + summary["usage"]["output_tokens"]) / 1_000_000
    assert summary["cost"] == {"usd": pytest.approx(usd), "missing": []}
    with (terminal.folder / "out.csv").open(newline="", encoding="utf-8") as file:
        assert sum(float(row["cost_usd"]) for row in csv.DictReader(file)) == pytest.approx(usd)
    shown = f"${usd:.4f}"
    assert f"tokens, {shown}" in done.stderr
    for command in (("show", terminal.run_id()), ("runs",), ("watch", "--once"), ("spending", "--by", "run")):
        assert shown in terminal.type(*command).stdout, command
    [line] = json.loads(terminal.type("spending", "--by", "model", "--json").stdout)
    assert (line["key"], line["cost"]["usd"]) == ("openai/gpt-5-mini", pytest.approx(usd))
    assert json.loads(terminal.type("spending", "--since", "2999-01-01", "--json").stdout) == []
    row = json.loads(terminal.type("row", terminal.run_id(), "a", "--json").stdout)
    assert 0 < row["result"]["cost_usd"] < usd


def test_without_a_price_the_reason_is_shown(terminal: Terminal) -> None:
    terminal.run()
    shown = terminal.type("show", terminal.run_id()).stdout
    assert "unknown: no batch price known for the server 127.0.0.1" in shown
    assert "unknown" in terminal.type("spending").stdout


def test_a_table_that_can_not_be_used_is_named_before_anything_is_sent(terminal: Terminal) -> None:
    terminal.write("prices.toml", '["openai/gpt-5-mini"]', "inptu_tokens = 1")
    refused = terminal.run("--prices", "prices.toml")
    assert refused.exit_code == 2
    assert "prices.toml: ['openai/gpt-5-mini']: there is no key 'inptu_tokens'" in refused.stderr
    assert (terminal.paid, terminal.runs()) == (0, [])
