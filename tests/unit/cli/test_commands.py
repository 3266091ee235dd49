"""The commands about stored runs: look, read, control, export, prune, delete."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest

from batchor_core.storage.sqlite import SQLiteStorage
from batchor_core.testing.openai_server import RowFault
from tests.unit.cli.conftest import Terminal, Typing


@pytest.fixture
def mixed(terminal: Terminal) -> Terminal:
    """A run ``mixed`` with a row that failed after two attempts."""
    terminal.server.faults.add(RowFault("status", custom_id="b-*", status=500, message="no luck"))
    assert terminal.run("--run-id", "mixed", "--max-attempts", "2", "--keep", "product").exit_code == 1
    terminal.server.faults.clear()
    return terminal


def test_results_by_pages(mixed: Terminal) -> None:
    page = mixed.type("results", "mixed", "--limit", "2", "--json")
    lines = [json.loads(line) for line in page.stdout.splitlines()]
    assert [line["sequence"] for line in lines] == [1, 2]
    assert "batchor results mixed --limit 2 --after 2" in page.stderr
    rest = mixed.type("results", "mixed", "--limit", "2", "--after", "2")
    assert "no luck" in rest.stdout
    assert rest.stderr == ""
    failed = mixed.type("results", "mixed", "--failed", "--json").stdout.splitlines()
    assert [json.loads(line)["item_id"] for line in failed] == ["b"]


def test_a_row_with_every_attempt(mixed: Terminal) -> None:
    row = json.loads(mixed.type("row", "mixed", "b", "--json").stdout)
    assert row["metadata"]["product"] == "cup"
    assert row["request"]["body"]["input"] == "About cup: It leaks"
    assert [(line["attempt"], line["kind"]) for line in row["lines"]] == [
        (1, "request"),
        (1, "error"),
        (2, "request"),
        (2, "error"),
    ]
    assert len({line["provider_batch_id"] for line in row["lines"]}) == 2
    assert row["lines"][3]["line"]["custom_id"].startswith("b-1-1-")
    assert (row["result"]["attempt_count"], row["result"]["error"]["message"]) == (2, "no luck")
    answered = json.loads(mixed.type("row", "mixed", "a", "--json").stdout)
    assert answered["result"]["usage"]["output_tokens"] > 0
    shown = mixed.type("row", "mixed", "b")
    assert "attempt 2, error, batch batch_" in shown.stdout
    assert mixed.type("row", "mixed", "nobody").exit_code == 2


def test_a_row_of_pruned_files_and_one_that_has_not_ended(terminal: Terminal) -> None:
    terminal.run("--run-id", "r")
    assert "files deleted" in terminal.type("prune", "r").stdout
    kinds = [line["kind"] for line in json.loads(terminal.type("row", "r", "a", "--json").stdout)["lines"]]
    assert kinds == ["output"]
    terminal.run("--run-id", "open", "--detach")
    assert "it has not ended yet" in terminal.type("row", "open", "a").stdout


def test_a_report_is_markdown_or_json(mixed: Terminal) -> None:
    text = mixed.type("report", "mixed").stdout
    assert "| Failed | 1 (33.3 %) |" in text
    assert re.search(r"\| \w+ \| 1 \| b \| no luck \|", text)
    report = json.loads(mixed.type("report", "mixed", "--json").stdout)
    assert (report["failed"], len(report["batches"]), report["cost_usd"]) == (1, 2, None)
    assert report["cost_note"] == "no batch price known for the server 127.0.0.1"
    assert mixed.type("report", "nobody").exit_code == 2


def test_export_to_a_file_or_a_folder(mixed: Terminal) -> None:
    assert json.loads(mixed.type("export", "mixed", "out.csv", "--json").stdout)["rows_written"] == 3
    rows = list(csv.DictReader(mixed.read("out.csv").splitlines()))
    assert [(row["item_id"], row["error_message"]) for row in rows] == [
        ("a", ""),
        ("b", "no luck"),
        ("c", ""),
    ]
    assert "exported to" in mixed.type("export", "mixed", "bundle").stdout
    assert (mixed.folder / "bundle" / "mixed" / "manifest.json").exists()
    assert mixed.type("prune", "mixed", "--raw").exit_code == 0


def test_a_run_that_goes_on_is_exported_only_so_far(terminal: Terminal) -> None:
    terminal.run("--run-id", "open", "--detach")
    assert terminal.type("export", "open", "out.jsonl").exit_code == 2
    assert terminal.type("export", "open", "out.jsonl", "--partial").exit_code == 0
    assert terminal.read("out.jsonl") == ""


def test_a_model_that_can_not_be_imported_is_said_and_named(terminal: Terminal) -> None:
    terminal.write(
        "schema.json",
        json.dumps({"type": "object", "properties": {"mood": {"type": "string"}}, "required": ["mood"]}),
    )
    assert terminal.run("--run-id", "r", "--schema", "schema.json").exit_code == 0
    untyped = terminal.type("export", "r", "out.csv")
    assert "name it with --schema" in untyped.stderr
    assert "mood" not in terminal.read("out.csv").splitlines()[0]
    typed = terminal.type("export", "r", "out.csv", "--schema", "schema.json")
    assert typed.stderr == ""
    assert "mood" in terminal.read("out.csv").splitlines()[0]


class TestCancelling:
    @pytest.fixture
    def openai_server_options(self) -> dict[str, object]:
        return {"manual": True}

    def test_it_is_for_good_asks_first_and_reaches_the_provider(self, terminal: Terminal) -> None:
        terminal.run("--run-id", "r", "--detach")
        assert terminal.type("cancel", "r", answer="n\n").exit_code == 1
        asked = terminal.type("cancel", "r", answer="y\n")
        assert "being cancelled" in asked.stdout
        assert "It can't be resumed" in asked.stderr
        (batch,) = terminal.server.books.batches
        assert batch.status.value == "cancelling", (
            "no process drives the run, so the command itself asked for it"
        )
        terminal.server.advance(10)
        assert terminal.run("--run-id", "r").exit_code == 1
        assert terminal.paid == 0
        assert terminal.type("resume", "r").exit_code == 2

    def test_without_a_key_the_batches_go_on_and_that_is_said(self, terminal: Terminal) -> None:
        terminal.run("--run-id", "r", "--detach")
        terminal.key = ""
        cancelled = terminal.type("cancel", "r", "--yes")
        assert cancelled.exit_code == 0
        assert "keep running at the provider until a process with a key drives the run" in cancelled.stderr


def test_deleting_asks_first_and_says_what_is_lost(terminal: Terminal) -> None:
    terminal.run("--run-id", "r")
    asked = terminal.type("delete", "r", answer="n\n")
    assert asked.exit_code == 1
    assert "the results of 3 rows" in asked.stderr
    assert terminal.type("delete", "r", "--yes").exit_code == 0
    assert terminal.runs() == []
    assert list((terminal.folder / "runs.artifacts").rglob("*.jsonl")) == []


def test_a_run_at_the_provider_is_not_deleted(terminal: Terminal) -> None:
    terminal.run("--run-id", "r", "--detach")
    refused = terminal.type("delete", "r", "--yes")
    assert refused.exit_code == 2
    assert "cancel it, and let it end" in refused.stderr
    assert terminal.run("--run-id", "r").exit_code == 0
    assert list((terminal.folder / "runs.artifacts").rglob("*.jsonl"))


def test_the_table_of_all_runs(terminal: Terminal) -> None:
    terminal.run("--run-id", "done")
    terminal.run("--run-id", "open", "--detach")
    shown = terminal.type("watch", "--once").stdout
    assert "3 of 3 (100 %)" in shown
    assert "at the provider" in shown
    listed = json.loads(terminal.type("watch", "--once", "--active", "--json").stdout)
    assert [run["run_id"] for run in listed] == ["open"]
    assert terminal.type("status", "done").stdout == terminal.type("show", "done").stdout


def test_watching_without_a_terminal_tells_changes(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal.run("--run-id", "r", "--detach")
    looks = iter(["nothing", "pause", "leave"])

    def sleep(seconds: float) -> None:
        look = next(looks)
        if look == "pause":
            assert terminal.type("pause", "r").exit_code == 0
        elif look == "leave":
            raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", sleep)
    told = terminal.type("watch", "--json")
    assert told.exit_code == 0
    states = [json.loads(line)["control_state"] for line in told.stdout.splitlines()]
    assert states == ["running", "paused"]


def test_what_is_asked_of_no_run_is_one_error(typing: Typing) -> None:
    SQLiteStorage(path=typing.folder / "runs.sqlite3").close()
    commands = [
        "status",
        "results",
        "pause",
        "resume",
        "cancel --yes",
        "retry --yes",
        "prune",
        "delete --yes",
    ]
    for command in [*commands, "row x", "export x.csv"]:
        name, *words = command.split()
        done = typing.type(name, "nobody", *words)
        assert done.exit_code == 2, command
        assert "no run 'nobody'" in done.stderr, command


def test_the_version(typing: Typing) -> None:
    assert typing.type("--version").stdout.startswith("batchor 0.")


def test_a_profile_that_is_not_there_is_one_error(typing: Typing, tmp_path: Path) -> None:
    done = typing.type("runs", "--profile", "locl")
    assert done.exit_code == 2
    assert f"{tmp_path / 'batchor.toml'} has no profile 'locl'" in done.stderr


def test_the_doctor_speaks_json(terminal: Terminal) -> None:
    terminal.run("--run-id", "r", "--detach")
    assert json.loads(terminal.type("doctor", "--json").stdout) == []
    (found,) = json.loads(terminal.type("doctor", "r", "--json").stdout)
    assert (found["run_id"], found["quarantined"]) == ("r", [])
