"""``batchor run``: rows and a template in, results out, and the same command never pays twice."""

from __future__ import annotations

import csv
import gzip
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchor_core.testing.openai_server import RowFault
from tests.unit.cli.conftest import Terminal, Typing

MODELS = ["from pydantic import BaseModel", "class Review(BaseModel):", "    mood: str", "    score: int"]


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_whole_job(terminal: Terminal) -> None:
    terminal.write("models.py", *MODELS)
    terminal.write("prompt.md", "What does this say of {{ product }}?", "", "{{ text }}")
    done = terminal.type(
        "run", "rows.csv", "--prompt", "prompt.md", "--schema", "models.py:Review", "--out", "reviews.parquet"
    )
    assert done.exit_code == 0, done.output
    table = pq.read_table(terminal.folder / "reviews.parquet")
    assert table.column("item_id").to_pylist() == ["a", "b", "c"]
    assert pa.types.is_integer(table.schema.field("score").type)
    assert "3 of 3 rows" in done.stderr
    assert done.stdout == ""
    assert terminal.prompts()[0] == "What does this say of tea?\n\nGood"


# --- money -----------------------------------------------------------------------------------------------------------


def test_the_same_command_again_pays_for_nothing_and_writes_the_same(terminal: Terminal) -> None:
    first = terminal.run("--out", "out.csv")
    assert (first.exit_code, terminal.paid) == (0, 3)
    written = terminal.read("out.csv")
    (terminal.folder / "out.csv").unlink()
    again = terminal.run("--out", "out.csv")
    assert (again.exit_code, terminal.paid) == (0, 3)
    assert "is already finished; nothing is sent" in again.stderr
    assert terminal.read("out.csv") == written
    assert len(terminal.runs()) == 1


def test_another_file_for_the_results_and_other_words_about_driving_are_the_same_run(
    terminal: Terminal,
) -> None:
    terminal.run("--out", "out.csv")
    terminal.run("--out", "out.jsonl", "--order", "ended", "--json", "--option", "request_timeout_sec=20")
    (terminal.folder / "other").mkdir()
    (terminal.folder / "rows.csv").rename(terminal.folder / "other" / "rows.csv")
    terminal.run(rows="other/rows.csv")
    assert (len(terminal.runs()), terminal.paid) == (1, 3)


@pytest.mark.parametrize(
    "change",
    [
        ["--prompt-text", "Another {{ text }}"],
        ["--system-text", "Be brief"],
        ["--model", "gpt-5"],
        ["--option", "temperature=1"],
        ["--endpoint", "/v1/chat/completions"],
        ["--keep", "product"],
        ["--id", "text"],
    ],
)
def test_what_changes_the_answers_makes_another_run(terminal: Terminal, change: list[str]) -> None:
    terminal.run()
    done = terminal.run(*change)
    assert done.exit_code == 0, done.output
    assert len(terminal.runs()) == 2


def test_other_rows_and_another_model_class_make_another_run(terminal: Terminal) -> None:
    terminal.write("models.py", *MODELS)
    terminal.write("more.py", *MODELS, "    why: str")
    terminal.run("--schema", "models.py:Review")
    terminal.run("--schema", "more.py:Review")
    terminal.write("rows.csv", "id,product,text", "a,tea,Bad")
    terminal.run("--schema", "more.py:Review")
    assert [run["total_items"] for run in terminal.runs()] == [1, 3, 3]


def test_another_server_makes_another_run_so_that_made_up_answers_are_never_taken_for_real_ones(
    terminal: Terminal,
) -> None:
    terminal.run()
    other = terminal.server.base_url.replace("127.0.0.1", "localhost")
    terminal.run("--base-url", other)
    assert len(terminal.runs()) == 2


def test_a_run_that_is_still_under_way_is_named_beside_a_new_one(terminal: Terminal) -> None:
    terminal.run("--detach")
    new = terminal.run(prompt="Otherwise: {{ text }}")
    assert f"{terminal.runs()[1]['run_id']}, over rows of the same name, is still active" in new.stderr


def test_a_run_id_of_ones_own(terminal: Terminal) -> None:
    assert terminal.run("--run-id", "mine").exit_code == 0
    assert terminal.run("--run-id", "mine").exit_code == 0
    other = terminal.run("--run-id", "mine", prompt="Otherwise: {{ text }}")
    assert other.exit_code == 2
    assert "another prompt" in other.stderr
    assert terminal.paid == 3


def test_detached_rows_are_collected_by_the_same_command(terminal: Terminal) -> None:
    left = terminal.run("--detach", "--out", "out.jsonl")
    assert left.exit_code == 0, left.output
    assert "3 at the provider in 1 batch" in left.stderr
    assert not (terminal.folder / "out.jsonl").exists()
    assert terminal.run("--out", "out.jsonl").exit_code == 0
    assert len(lines(terminal.folder / "out.jsonl")) == 3
    assert (len(terminal.server.books.batches), terminal.paid) == (1, 3)


def test_rows_that_fail_are_told_by_the_exit_code_and_are_bought_again_only_on_request(
    terminal: Terminal,
) -> None:
    terminal.server.faults.add(RowFault("status", custom_id="b-*", status=400))
    failed = terminal.run("--max-attempts", "1", "--out", "out.csv")
    assert failed.exit_code == 1
    run_id = terminal.run_id()
    assert f"batchor results {run_id} --failed" in failed.stderr
    assert [row["status"] for row in csv.DictReader(terminal.read("out.csv").splitlines())] == [
        "completed",
        "failed_permanent",
        "completed",
    ]
    requests = len(terminal.server.books.batches)
    assert terminal.run("--max-attempts", "1").exit_code == 1
    assert len(terminal.server.books.batches) == requests
    terminal.server.faults.clear()
    assert terminal.type("retry", run_id, "--yes").exit_code == 0
    assert terminal.run("--max-attempts", "1").exit_code == 0
    assert terminal.server.books.times_executed.total() == 4


def test_rejected_answers_are_sent_back_with_the_reason(terminal: Terminal) -> None:
    terminal.write("models.py", *MODELS)
    rule = RowFault("schema_mismatch", rule=lambda name, body: "was rejected" not in json.dumps(body))
    terminal.server.faults.add(rule)
    done = terminal.run("--schema", "models.py:Review", "--repair", "1")
    assert done.exit_code == 0, done.output
    assert "3 answers sent back with the reason for the rejection; 3 rows then completed" in done.stderr
    assert terminal.server.books.times_executed.total() == 6


def test_a_paused_run_waits_for_its_operator(terminal: Terminal) -> None:
    terminal.run("--detach")
    run_id = terminal.run_id()
    assert terminal.type("pause", run_id).exit_code == 0
    held = terminal.run()
    assert held.exit_code == 1
    assert f"batchor resume {run_id}" in held.stderr
    assert terminal.type("resume", run_id).exit_code == 0
    assert terminal.run().exit_code == 0


def test_a_command_to_be_typed_again_shows_no_secrets_of_urls(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "postgresql://me:secret@db.example/shop"
    words = ["run", "--sql", "select 1", f"--from={url}", "--from", url, "https://x.example/a.csv?sig=secret"]
    monkeypatch.setattr("sys.argv", ["batchor", *words])
    left = terminal.run("--detach")
    assert "batchor run --sql 'select 1' --from=postgresql://db.example/shop" in left.stderr
    assert "secret" not in left.stderr


# --- rows ------------------------------------------------------------------------------------------------------------

OBJECTS = [{"id": 1, "product": "tea", "text": "Good"}, {"id": 2, "product": "cup", "text": "It leaks"}]


def as_jsonl(folder: Path) -> str:
    (folder / "in.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in OBJECTS))
    return "in.jsonl"


def as_parquet(folder: Path) -> str:
    pq.write_table(pa.Table.from_pylist(OBJECTS), folder / "in.parquet")
    return "in.parquet"


def as_tsv(folder: Path) -> str:
    (folder / "in.tsv").write_text("id\tproduct\ttext\n1\ttea\tGood\n2\tcup\tIt leaks\n")
    return "in.tsv"


def as_folder(folder: Path) -> str:
    (folder / "in").mkdir()
    as_jsonl(folder / "in")
    return "in"


def as_compressed_pattern(folder: Path) -> str:
    for number, row in enumerate(OBJECTS):
        (folder / f"part-{number}.jsonl.gz").write_bytes(gzip.compress(json.dumps(row).encode()))
    return "part-*.jsonl.gz"


@pytest.mark.parametrize("written", [as_jsonl, as_parquet, as_tsv, as_folder, as_compressed_pattern])
def test_rows_of_every_kind(terminal: Terminal, written: Callable[[Path], str]) -> None:
    done = terminal.run("--out", "out.jsonl", rows=written(terminal.folder))
    assert done.exit_code == 0, done.output
    assert [line["item_id"] for line in lines(terminal.folder / "out.jsonl")] == ["1", "2"]
    assert terminal.prompts() == ["About tea: Good", "About cup: It leaks"]


def test_rows_of_a_query(terminal: Terminal) -> None:
    with closing(sqlite3.connect(terminal.folder / "shop.db")) as shop, shop:
        shop.execute("create table reviews (id integer, product text, text text)")
        shop.executemany("insert into reviews values (:id, :product, :text)", OBJECTS)
    terminal.write("reviews.sql", "select * from reviews order by id")
    words = ["run", "--sql", "reviews.sql", "--from", "sqlite:///shop.db", "--prompt-text", "{{ text }}"]
    assert terminal.type(*words).exit_code == 0
    assert terminal.run_id().startswith("query-")
    assert terminal.type(*words).exit_code == 0
    assert terminal.paid == 2
    with closing(sqlite3.connect(terminal.folder / "shop.db")) as shop, shop:
        shop.execute("insert into reviews values (3, 'pot', 'New')")
    changed = terminal.type(*words)
    assert changed.exit_code == 2, "a query whose rows have become others is no new run by itself"
    assert "give a new --run-id" in changed.stderr
    assert terminal.type(*words, "--run-id", "today").exit_code == 0


def test_rows_without_ids_are_numbered_through_all_files(terminal: Terminal) -> None:
    terminal.write("one.csv", "text", "a", "b")
    terminal.write("two.csv", "text", "a")
    (terminal.folder / "rows.csv").unlink()
    terminal.run("--out", "out.csv", rows="*.csv", prompt="{{ text }}")
    found = [row["item_id"] for row in csv.DictReader(terminal.read("out.csv").splitlines())]
    assert found == ["1", "2", "3"]


def test_columns_that_are_kept_come_with_the_results(terminal: Terminal) -> None:
    terminal.run("--keep", "product", "--out", "out.jsonl")
    found = [line["metadata"] for line in lines(terminal.folder / "out.jsonl")]
    assert [row["product"] for row in found if isinstance(row, dict)] == ["tea", "cup", "pot"]


# --- results ---------------------------------------------------------------------------------------------------------


def test_results_come_in_the_order_of_the_input(terminal: Terminal) -> None:
    terminal.write("rows.csv", "id,product,text", *(f"r{n},p,t{n}" for n in range(40)))
    for name in ("out.csv", "out.jsonl", "out.parquet"):
        assert terminal.run("--max-requests", "7", "--out", name).exit_code == 0
    wanted = [f"r{n}" for n in range(40)]
    assert [line["item_id"] for line in lines(terminal.folder / "out.jsonl")] == wanted
    assert pq.read_table(terminal.folder / "out.parquet").column("item_id").to_pylist() == wanted
    assert [row["item_id"] for row in csv.DictReader(terminal.read("out.csv").splitlines())] == wanted
    terminal.run("--max-requests", "7", "--out", "ended.jsonl", "--order", "ended")
    ended = [str(line["item_id"]) for line in lines(terminal.folder / "ended.jsonl")]
    assert sorted(ended) == sorted(wanted)
    assert ended != wanted


def test_json_on_stdout_is_one_object(terminal: Terminal) -> None:
    done = terminal.run("--json", "--out", "out.csv")
    told = json.loads(done.stdout)
    assert (told["status"], told["completed_items"], told["rows_written"]) == ("completed", 3, 3)
    assert told["usage"]["output_tokens"] > 0


# --- what is wrong is said before anything is stored or sent -----------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "rows.csv"], "no prompt"),
        (["run", "none.csv", "--prompt-text", "x"], "none.csv"),
        (["run", "--prompt-text", "x"], "name the rows"),
        (["run", "rows.csv", "--sql", "select 1", "--prompt-text", "x"], "name the rows"),
        (["run", "--sql", "select 1", "--prompt-text", "x"], "--sql needs --from"),
        (["run", "rows.csv", "--prompt", "none.md"], "none.md"),
        (["run", "rows.csv", "--prompt", "rows.csv", "--prompt-text", "x"], "not both"),
        (["run", "rows.csv", "--prompt-text", "{{ text"], "--prompt-text, line 1"),
        (["run", "rows.csv", "--prompt-text", "x", "--out", "out.xlsx"], ".parquet, .csv or .jsonl"),
        (["run", "rows.csv", "--prompt-text", "x", "--out", "rows.csv"], "rows are read from"),
        (["run", "rows.csv", "--prompt-text", "x", "--schema", "none.py:Review"], "no file"),
        (["run", "rows.csv", "--prompt-text", "x", "--schema", "Review"], "FILE.py:MODEL"),
        (["run", "rows.csv", "--prompt-text", "x", "--option", "temperature"], "KEY=VALUE"),
        (["run", "rows.csv", "--prompt-text", "x", "--option", "api_key=sk-1"], "only from the environment"),
        (
            ["run", "rows.csv", "--prompt-text", "x", "-m", "a", "--option", "model=b"],
            "give --model or --option model=..., not both",
        ),
        (["run", "rows.csv", "--prompt-text", "x", "--option", "max_output_token=9"], "'max_output_tokens'"),
        (
            ["run", "rows.csv", "--prompt-text", "x", "--option", "max_output_tokens=many"],
            "must be an integer",
        ),
        (["run", "rows.csv", "--prompt-text", "x", "--provider", "opnai"], "no provider is registered"),
        (["run", "rows.csv", "--prompt-text", "x", "--run-id", "a/b"], "run id"),
        (
            ["run", "rows.csv", "--prompt-text", "x", "--id", "ident"],
            "--id 'ident': the rows have no such column; there are id, product, text",
        ),
        (
            ["run", "rows.csv", "--prompt-text", "x", "--keep", "shop"],
            "--keep 'shop': the rows have no such column; there are id, product, text",
        ),
        (["run", ".", "--prompt-text", "x", "--format", "parquet"], ".parquet"),
    ],
)
def test_bad_input_is_one_error_and_leaves_no_run(typing: Typing, words: list[str], said: str) -> None:
    done = typing.type(*words)
    assert done.exit_code == 2, done.output
    assert said in done.stderr
    assert done.stdout == ""
    if (typing.folder / "runs.sqlite3").exists():
        assert typing.runs() == []


def test_an_unknown_field_is_named_with_its_row_and_the_fields_that_there_are(typing: Typing) -> None:
    done = typing.run(prompt="{{ produkt }}: {{ text }}")
    assert done.exit_code == 2
    for part in ("'produkt'", "row 'a'", "did you mean 'product'?", "'id', 'product', 'text'"):
        assert part in done.stderr
    assert ": new;" not in done.stderr
    assert typing.runs() == []


def test_without_a_key_nothing_is_stored(typing: Typing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typing, "key", "")
    done = typing.run()
    assert (done.exit_code, typing.runs()) == (2, [])
    assert "OPENAI_API_KEY" in done.stderr
    assert ": new;" not in done.stderr


def test_a_run_id_that_is_not_usable_is_refused_and_not_announced(typing: Typing) -> None:
    done = typing.run("--run-id", "a/b")
    assert done.exit_code == 2
    assert done.stderr.startswith("run id 'a/b' is not usable")


# --- reuse -----------------------------------------------------------------------------------------------------------


def test_changed_rows_alone_are_paid_for(terminal: Terminal) -> None:
    table = ["id,product,text", *(f"r{n},tea,text {n}" for n in range(100))]
    terminal.write("rows.csv", *table)
    first = terminal.run("--reuse", "store")
    assert (first.exit_code, terminal.paid) == (0, 100)
    terminal.write("rows.csv", *table[:-3], "new-1,tea,other", "new-2,tea,other", "new-3,tea,else")
    second = terminal.run("--reuse", "store", "--out", "out.jsonl")
    assert (second.exit_code, terminal.paid) == (0, 102)
    assert "97 of 100 rows reused from other runs" in second.stderr
    assert "1 row is equal to another of this run, and sent once" in second.stderr
    written = lines(terminal.folder / "out.jsonl")
    assert sum("reused_from" in line for line in written) == 98
    shown = terminal.type("row", terminal.run_id(), "r0")
    assert "it has the answer of row r0 of run " in shown.stderr + shown.stdout
