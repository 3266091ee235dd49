"""What a run costs, on the command line."""

from __future__ import annotations

import csv
import json
import re
from decimal import Decimal

import pytest

from batchor_core.core.words import usd_text
from tests.unit.cli.conftest import ROWS, Terminal

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


def test_a_cap_that_is_reached_is_raised_by_hand(terminal: Terminal) -> None:
    refused = terminal.type("cap", "store", "--rows", "2")
    assert (refused.exit_code, (terminal.folder / "runs.sqlite3").exists()) == (2, False)
    assert "there is no database at" in refused.stderr
    assert terminal.type("cap", "store", "--rows", "2", "--create").exit_code == 0
    paused = terminal.run("--run-id", "capped")
    assert paused.exit_code == 1
    assert (
        "the cap of 2 rows for store is reached: 2 rows used, and the next row may need 1 row"
        in paused.stderr
    )
    assert terminal.paid == 2
    raised = terminal.type("cap", "store", "--rows", "10")
    assert "10 rows" in raised.stdout
    terminal.type("resume", "capped")
    assert terminal.run("--run-id", "capped").exit_code == 0
    assert terminal.paid == 3
    assert "10 rows for store: 3 rows used" in terminal.type("show", "capped").stdout
    assert "no caps" in terminal.type("cap", "store", "--remove").stdout


def test_resume_takes_another_cap(terminal: Terminal) -> None:
    terminal.write("prices.toml", *PRICES)
    words = ("--prices", "prices.toml", "--cap", "0.000001", "--run-id", "capped")
    paused = terminal.run(*words)
    assert (paused.exit_code, terminal.paid) == (1, 0)
    assert "is reached: $0.00 used, and the next row may need $0.00" in paused.stderr
    assert terminal.type("resume", "capped", "--cap", "$1,000").exit_code == 0
    assert terminal.run(*words).exit_code == 0
    assert terminal.paid == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("cap", "store"), "a cap has usd or rows"),
        (("cap", "team", "--rows", "1"), "the scope of a cap must be store, run"),
        (("cap", "store", "--usd", "much"), "'much' is no amount of US dollars"),
        (("cap", "store", "--usd", "1,5"), "'1,5' is no amount of US dollars; write it like 1.50"),
        (("cap", "store", "--usd", "0,500"), "no amount of US dollars"),
        (("cap", "store", "--usd", "1", "--remove"), "leave out --usd, --rows and --day"),
        (("cap", "store", "--day", "--remove"), "leave out --usd, --rows and --day"),
        (("cap", "--usd", "1"), "say whose cap it is: batchor cap SCOPE"),
        (("cap", "--rows", "1"), "say whose cap it is"),
        (("cap", "--day"), "say whose cap it is"),
        (("cap", "--remove"), "say whose cap it is"),
    ],
)
def test_what_is_no_cap_is_refused(terminal: Terminal, words: tuple[str, ...], message: str) -> None:
    refused = terminal.type(*words)
    assert refused.exit_code == 2
    assert message in refused.stderr


def test_a_cap_for_a_run_that_is_not_there_is_kept_with_a_note(terminal: Terminal) -> None:
    kept = terminal.type("cap", "run:later", "--rows", "2", "--create")
    assert kept.exit_code == 0
    assert "there is no run later yet" in kept.stderr
    assert terminal.run("--run-id", "later").exit_code == 1
    assert terminal.paid == 2
    assert terminal.type("cap", "run:later", "--rows", "3").stderr == ""


def test_a_cap_that_is_not_there_can_not_be_removed(terminal: Terminal) -> None:
    terminal.type("cap", "store", "--rows", "2", "--create")
    refused = terminal.type("cap", "stor", "--remove")
    assert refused.exit_code == 2
    assert "there is no cap for 'stor'; did you mean 'store'?" in refused.stderr
    assert "2 rows" in terminal.type("cap").stdout


def test_a_cap_in_dollars_needs_prices(terminal: Terminal) -> None:
    refused = terminal.run("--cap", "5")
    assert (refused.exit_code, terminal.paid) == (2, 0)
    assert "the cap of $5.00 for run:" in refused.stderr
    assert "no batch price known for the server 127.0.0.1" in refused.stderr


def test_what_reused_rows_save_is_shown(terminal: Terminal) -> None:
    terminal.write("prices.toml", *PRICES)
    options = ("--prices", "prices.toml", "--reuse", "store")
    first = json.loads(terminal.run("--json", *options).stdout)
    terminal.write("rows.csv", *ROWS, "d,pot,Fine")
    done = terminal.run("--out", "out.csv", "--json", *options)
    second = json.loads(done.stdout)
    assert (terminal.paid, second["cost"]["usd"]) == (3, 0)
    assert first["cost"]["usd"] < second["usd_saved"] < 2 * first["cost"]["usd"]
    shown = usd_text(Decimal(str(second["usd_saved"])))
    assert f"  that saved {shown}\n" in done.stderr
    for command in ("show", "report"):
        assert re.search(
            rf"saved\W+{re.escape(shown)}", terminal.type(command, second["run_id"]).stdout, re.I
        )
    with (terminal.folder / "out.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[-4:] == ["cost_usd", "metadata", "reused_run_id", "reused_item_id"]
    assert [(row["cost_usd"], row["reused_item_id"]) for row in rows] == [("0.0", name) for name in "abcc"]
    row = json.loads(terminal.type("row", second["run_id"], "d", "--json").stdout)
    paid = json.loads(terminal.type("row", first["run_id"], "c", "--json").stdout)
    assert row["result"]["saved_usd"] == paid["result"]["cost_usd"]
    cost = usd_text(Decimal(str(paid["result"]["cost_usd"])))
    assert (
        f"the answer of row c of run {first['run_id']}, which cost {cost}"
        in terminal.type("row", second["run_id"], "d").stdout
    )
