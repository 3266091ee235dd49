"""The ``batchor`` command: it looks without a key, escapes what it shows, and passes a person's word on."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from batchor_core.cli.app import app
from batchor_core.cli.printable import printable
from batchor_core.core.enums import RunLifecycleStatus, SubmissionState
from batchor_core.core.exceptions import ProviderError, ProviderErrorKind
from batchor_core.storage.sqlite import SQLiteStorage
from tests.postgres_server import postgres_dsn
from tests.support.world import RUN, World, errors, text_job

WIDE = {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path, kind="sqlite")
    yield world
    world.close()


def batchor(world: World, *words: str, answer: str | None = None) -> Any:
    return CliRunner().invoke(
        app, [*words, "--db", str(world.folder / "runs.sqlite3")], input=answer, env=WIDE
    )


def held(world: World, *, runs: tuple[str, ...] = (RUN,), per_batch: int | None = None) -> None:
    """Runs whose batches, which exist, are in quarantine."""
    for run_id in runs:
        refused = ProviderError(
            "no", kind=ProviderErrorKind.CREDENTIALS, error_class="credentials", status_code=403
        )
        for _ in range(1 if per_batch is None else 2):
            world.provider.fail("create_batch", ProviderError("lost"), after=True)
            world.provider.fail("list_batches", refused)
        run = world.start(text_job(3, per_batch=per_batch), run_id=run_id)
        for _ in range(4):
            world.clock.advance(100.0)
            run.refresh()


def submissions(world: World, run_id: str = RUN) -> list[Any]:
    return world.store.list_submissions(run_id=run_id)


def test_runs_are_listed(world: World) -> None:
    world.runner().run_and_wait(text_job(3), run_id="first")
    world.clock.advance(60.0)
    world.start(text_job(2), run_id="second").pause()
    shown = batchor(world, "runs")
    assert shown.exit_code == 0
    lines = [line for line in shown.output.splitlines() if "first" in line or "second" in line]
    assert "second" in lines[0] and "paused" in lines[0]  # noqa: PT018 - one line
    assert "completed" in lines[1]
    listed = json.loads(batchor(world, "runs", "--json").output)
    assert [run["run_id"] for run in listed] == ["second", "first"]
    assert listed[1]["completed_items"] == 3


def test_a_run_is_shown(world: World) -> None:
    world.start(text_job(4, per_batch=2))
    shown = batchor(world, "show", RUN)
    assert shown.exit_code == 0
    assert "submitted" in shown.output
    assert json.loads(batchor(world, "show", RUN, "--json").output)["active_batches"] == 2


def test_a_run_that_is_not_there_is_an_error(world: World) -> None:
    shown = batchor(world, "show", "nobody")
    assert shown.exit_code == 2
    assert "no run 'nobody'" in shown.output


def test_a_look_makes_no_database(tmp_path: Path) -> None:
    missing = tmp_path / "none.sqlite3"
    shown = CliRunner().invoke(app, ["runs", "--db", str(missing)], env=WIDE)
    assert shown.exit_code == 2
    assert not missing.exists()


def test_nothing_to_do_is_said_and_is_success(world: World) -> None:
    world.runner().run_and_wait(text_job(1), run_id=RUN)
    shown = batchor(world, "doctor")
    assert shown.exit_code == 0
    assert "Nothing needs a decision" in shown.output
    assert batchor(world, "doctor", RUN).exit_code == 0


def test_the_doctor_names_the_case_and_the_choices(world: World) -> None:
    held(world)
    local = submissions(world)[0].local_batch_id
    for words in (["doctor"], ["doctor", RUN], ["show", RUN]):
        shown = batchor(world, *words)
        assert local in shown.output
        for choice in ("adopt PROVIDER_BATCH_ID", "resubmit", "fail"):
            assert f"batchor doctor {RUN} {choice} --db" in shown.output
    assert batchor(world, "doctor").exit_code == 1


def test_adopting(world: World) -> None:
    held(world)
    shown = batchor(world, "doctor", RUN, "adopt", world.batch_ids()[0], "--yes")
    assert shown.exit_code == 0, shown.output
    assert submissions(world)[0].state is SubmissionState.REGISTERED
    run = world.runner().get_run(RUN).wait()
    assert run.status is RunLifecycleStatus.COMPLETED
    assert world.provider.count("create_batch") == 1


def test_resubmitting_asks_first(world: World) -> None:
    held(world)
    asked = batchor(world, "doctor", RUN, "resubmit", answer="n\n")
    assert asked.exit_code == 1
    assert "paid for twice" in asked.output
    assert submissions(world)[0].state is SubmissionState.QUARANTINED
    assert batchor(world, "doctor", RUN, "resubmit", answer="y\n").exit_code == 0
    assert submissions(world)[0].state is SubmissionState.DROPPED


def test_giving_up(world: World) -> None:
    held(world)
    assert batchor(world, "doctor", RUN, "fail", "-y").exit_code == 0
    assert set(errors(world.runner().get_run(RUN)).values()) == {"submission_unknown"}


def test_of_several_one_has_to_be_named(world: World) -> None:
    held(world, per_batch=2)
    names = [
        submission.local_batch_id
        for submission in submissions(world)
        if submission.state is SubmissionState.QUARANTINED
    ]
    assert len(names) == 2
    unclear = batchor(world, "doctor", RUN, "fail", "-y")
    assert unclear.exit_code == 2
    assert all(name in unclear.output for name in names)
    assert batchor(world, "doctor", RUN, "fail", "-y", "--batch", "nobody").exit_code == 2
    assert batchor(world, "doctor", RUN, "fail", "-y", "--batch", names[1]).exit_code == 0
    assert [
        submission.local_batch_id
        for submission in submissions(world)
        if submission.state is SubmissionState.QUARANTINED
    ] == names[:1]


def test_adopting_nothing_is_refused(world: World) -> None:
    held(world)
    assert batchor(world, "doctor", RUN, "adopt", "-y").exit_code == 2
    assert submissions(world)[0].state is SubmissionState.QUARANTINED


@pytest.mark.postgres
def test_a_postgres_store_is_named_by_the_environment() -> None:
    env = WIDE | {"BATCHOR_POSTGRES_DSN": postgres_dsn()}
    for_schema = ["--postgres", "--schema", "cli_test"]
    refused = CliRunner().invoke(app, ["runs", *for_schema], env=env)
    assert refused.exit_code == 2
    assert "there is no batchor store at" in refused.output
    assert (
        CliRunner().invoke(app, ["cap", "store", "--rows", "2", "--create", *for_schema], env=env).exit_code
        == 0
    )
    shown = CliRunner().invoke(app, ["runs", *for_schema, "--json"], env=env)
    assert (shown.exit_code, json.loads(shown.output)) == (0, [])
    assert CliRunner().invoke(app, ["runs", "--postgres", "--db", "x"], env=env).exit_code == 2


# --- what others wrote -----------------------------------------------------------------------------------------------

NASTY = "\x1b[2J\x1b]0;owned\x07\r\nINFO all is well\u202etxt\u2028[bold red]x[/] \x9b31m"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ünïcode 漢字", "plain ünïcode 漢字"),
        ("\x1b[31m", r"\x1b[31m"),
        ("a\nb\rc\td", r"a\nb\rc\td"),
        ("\u202e\u2028\x85", r"\u202e\u2028\x85"),
        ("\ud800", r"\ud800"),
        ("\0", r"\x00"),
    ],
)
def test_control_characters_are_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_nothing_from_the_store_reaches_the_terminal_as_it_is(world: World) -> None:
    world.start(text_job(1))
    with world.store.engine.begin() as connection:  # type: ignore[attr-defined]
        connection.exec_driver_sql("UPDATE runs SET control_reason = ?", (NASTY,))
    held(world, runs=("second",))
    with world.store.engine.begin() as connection:  # type: ignore[attr-defined]
        connection.exec_driver_sql("UPDATE submission_intents SET last_error_class = ?", (NASTY,))
        connection.exec_driver_sql("UPDATE submission_intents SET input_file_id = ?", (NASTY,))
    for words in (["runs"], ["show", RUN], ["show", "second"], ["doctor"], ["runs", "--json"]):
        output = batchor(world, *words).output
        for character in "\x1b\x07\r\u202e\u2028\x9b":
            assert character not in output, words
    assert "[bold red]x[/]" in batchor(world, "show", "second").output, "rich's markup is text too"


def test_the_command_is_there(world: World) -> None:
    world.start(text_job(1))
    store: Any = world.store
    assert isinstance(store, SQLiteStorage)
    done = subprocess.run(
        [sys.executable, "-m", "batchor_core.cli", "runs", "--db", str(store.path), "--json"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert json.loads(done.stdout)[0]["run_id"] == RUN
    assert done.stderr == ""


def test_a_schema_without_postgres_is_refused(tmp_path: Path) -> None:
    shown = CliRunner().invoke(app, ["runs", "--db", str(tmp_path / "runs.sqlite3"), "--schema", "team_a"])
    assert shown.exit_code != 0
    assert "--schema names a schema of Postgres" in shown.output


def test_the_doctor_and_the_run_show_what_is_tried_again(world: World) -> None:
    lost = ProviderError("no route to host", error_class="connection", not_performed=True)
    world.provider.fail("upload_input_file", lost)
    world.start(text_job(3))
    for words in (["doctor"], ["show", RUN]):
        shown = batchor(world, *words)
        assert "submission has been failing since" in shown.output
        assert "connection: no route to host" in shown.output
        assert shown.exit_code == 0


# --- batches that are late -------------------------------------------------------------------------------------------


def late(world: World, *, hours: int) -> str:
    """A run whose batch is completed and names no file, so many hours later; returns the name of the submission."""
    world.provider.states_counts = True
    finish = world.provider._finish

    def without_files(batch: Any) -> None:
        finish(batch)
        batch.output_file_id = None

    world.provider._finish = without_files  # type: ignore[method-assign]
    run = world.start(text_job(3))
    for _ in range(12 * hours):
        run.refresh()
        world.clock.advance(300.0)
    return str(submissions(world)[0].local_batch_id)


def test_doctor_says_what_is_waited_for_before_anybody_is_asked(world: World) -> None:
    late(world, hours=1)
    shown = batchor(world, "doctor")
    assert shown.exit_code == 0, "nothing waits for a decision"
    assert "the provider states 3 answered rows" in " ".join(shown.output.split())
    assert "3 rows of 1 batches" in " ".join(batchor(world, "show", RUN).output.split())


def test_doctor_names_the_choices_about_a_late_batch_and_takes_them(world: World) -> None:
    name = late(world, hours=8)
    shown = batchor(world, "doctor", RUN)
    assert shown.exit_code == 1
    said = " ".join(shown.output.split())
    assert "the provider states 3 answered rows" in said
    for choice in ("wait", "resubmit", "fail"):
        assert f"batchor doctor {RUN} {choice}" in said
    assert "adopt" not in said
    assert batchor(world, "doctor", RUN, "adopt", "batch_1", "--yes").exit_code == 2
    assert batchor(world, "doctor", RUN, "wait", "--yes").exit_code == 0
    assert submissions(world)[0].state == "registered"
    assert batchor(world, "doctor", RUN, "wait", "--yes").exit_code == 2
    assert submissions(world)[0].local_batch_id == name


def test_a_submission_without_a_batch_is_not_waited_for(world: World) -> None:
    held(world)
    assert batchor(world, "doctor", RUN, "wait", "--yes").exit_code == 2
