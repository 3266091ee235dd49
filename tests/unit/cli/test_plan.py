"""``batchor plan``: the same line as ``batchor run``, with nothing sent and nothing written."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest
from sqlalchemy import text

from batchor_core import SQLiteStorage
from tests.postgres_server import postgres_dsn, postgres_engine
from tests.unit.cli.conftest import Terminal, Typing

PRICES = ['["openai/gpt-5-mini"]', "input_tokens = 1", "output_tokens = 1"]
LINE = ("rows.csv", "--prompt-text", "About {{ product }}: {{ text }}", "--out", "out.csv")


def test_a_plan_needs_no_key_and_no_store(typing: Typing) -> None:
    typing.key = ""
    typing.write("prices.toml", *PRICES)
    before = {path: path.read_bytes() for path in typing.folder.rglob("*")}
    planned = typing.type("plan", *LINE, "--prices", "prices.toml", "--option", "max_output_tokens=50")
    assert planned.exit_code == 0, planned.output
    for shown in ("new", "from $0.0000", "150 (from 0 to 150)", "Nothing was sent."):
        assert shown in planned.stdout
    assert "warning: the length of answers is not known" in planned.stderr
    assert {path: path.read_bytes() for path in typing.folder.rglob("*")} == before


def test_a_plan_counts_what_is_answered_already(terminal: Terminal) -> None:
    assert terminal.type("run", *LINE, "--reuse", "store").exit_code == 0
    terminal.write("rows.csv", *terminal.read("rows.csv").splitlines(), "d,mug,New")
    terminal.key = ""
    store = (terminal.folder / "runs.sqlite3").read_bytes()
    files = sorted(terminal.folder.rglob("*"))
    planned = json.loads(terminal.type("plan", *LINE, "--reuse", "store", "--json").stdout)
    assert [planned[f"rows{kind}"] for kind in ("", "_new", "_reused")] == [4, 1, 3]
    assert planned["output_basis"] == "3 earlier answers of the same model and output"
    assert planned["cost"] is None
    assert "no batch price known" in planned["no_list_price"]
    assert (terminal.folder / "runs.sqlite3").read_bytes() == store
    assert (sorted(terminal.folder.rglob("*")), terminal.paid) == (files, 3)


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("--cap", "0.00001", "--prices", "prices.toml"), 1, "the run would stop at the cap"),
        (("--cap", "5"), 1, "would be refused: the cap of $5.00"),
        (("--cap", "1e999999"), 2, "a number from 0 to 1,000,000"),
        (("--run-id", "a/b"), 2, "run id 'a/b' is not usable"),
        (("--repair", "1"), 2, "the job has no model"),
        (("--db", "."), 2, "is a folder"),
        (("--prompt-text", "{{ nothing }}"), 2, "names 'nothing', which row 'a' does not have"),
    ],
)
def test_exit_codes(typing: Typing, words: tuple[str, ...], code: int, told: str) -> None:
    typing.write("prices.toml", *PRICES)
    planned = typing.type("plan", *LINE, *words)
    assert (planned.exit_code, told in planned.stderr) == (code, True), planned.output


def test_an_old_store_is_not_migrated(typing: Typing) -> None:
    path = typing.folder / "runs.sqlite3"
    with SQLiteStorage(path=path).engine.begin() as connection:
        connection.execute(text("UPDATE batchor_schema_version SET version_num = '0005'"))
    planned = typing.type("plan", *LINE)
    assert "is of an earlier version" in planned.stderr
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("SELECT version_num FROM batchor_schema_version").fetchall() == [("0005",)]


def test_no_tables_are_made_in_postgres(typing: Typing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHOR_POSTGRES_DSN", postgres_dsn())
    planned = typing.type("plan", *LINE, "--postgres", "--postgres-schema", "never_made")
    assert planned.exit_code == 0, planned.output
    with postgres_engine().connect() as connection:
        made = text("SELECT count(*) FROM pg_namespace WHERE nspname = 'never_made'")
        assert connection.execute(made).scalar() == 0
