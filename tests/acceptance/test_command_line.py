"""``batchor`` as a process: interrupted or killed at the worst moments and typed again, it pays for nothing twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from batchor_core.storage.sqlite import SQLiteStorage
from batchor_core.testing.openai_server import OpenAIServer
from tests.contract.stores import kit

pytestmark = [pytest.mark.acceptance, pytest.mark.slow]

ROWS = 25

KILLED = """
import sys
from batchor_core.cli import main
from batchor_core.core import boundaries
from batchor_core.testing.kill import Kill

boundaries.install(Kill(sys.argv.pop(1)))
main()
"""


@pytest.fixture
def folder(tmp_path: Path, openai_server: OpenAIServer) -> Path:
    (tmp_path / "batchor.toml").write_text(
        f'db = "runs.sqlite3"\nmodel = "gpt-5-mini"\nbase_url = "{openai_server.base_url}"\n'
        "[options]\npoll_interval_sec = 0.05\n"
    )
    rows = "".join(f"r{number},text {number}\n" for number in range(ROWS))
    (tmp_path / "rows.csv").write_text(f"id,text\n{rows}")
    return tmp_path


WORDS = ["run", "rows.csv", "--prompt-text", "Say {{ text }}", "--max-requests", "10", "--out", "out.csv"]


def started(folder: Path, *words: str, code: str | None = None) -> subprocess.Popen[str]:
    how = ["-m", "batchor_core.cli"] if code is None else ["-c", code]
    return subprocess.Popen(
        [sys.executable, *how, *words],
        cwd=folder,
        env={**os.environ, "OPENAI_API_KEY": "sk-local"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(folder: Path, server: OpenAIServer) -> str:
    """Type the command again: it ends well, and every row was answered once."""
    process = started(folder, *WORDS)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert (folder / "out.csv").read_text().count("\n") == ROWS + 1
    books = server.books
    assert (books.rows_executed, sum(batch.total for batch in books.batches)) == (ROWS, ROWS)
    return said


@pytest.mark.parametrize("moment", ["mark_sending:before:2", "create_batch:after:2", "write_table:before"])
def test_killed_and_typed_again_it_pays_once(moment: str, folder: Path, openai_server: OpenAIServer) -> None:
    process = started(folder, moment, *WORDS, code=KILLED)
    _, said = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL, said
    assert not (folder / "out.csv").exists()
    finish(folder, openai_server)


class TestInterrupted:
    @pytest.fixture
    def openai_server_options(self) -> dict[str, object]:
        return {"manual": True}

    def test_an_interrupted_command_says_how_to_carry_on(
        self, folder: Path, openai_server: OpenAIServer
    ) -> None:
        process = started(folder, *WORDS, "--progress", "lines")
        assert process.stderr is not None
        while "25 at the provider in 3 batches" not in (line := process.stderr.readline()):
            assert line, "it has ended too early"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 130, said
        assert "batches at the provider keep running" in said
        assert "continue, without paying for anything twice: batchor run rows.csv" in said
        assert "Traceback" not in said
        openai_server.advance(10)
        assert "continues" in finish(folder, openai_server)


@pytest.mark.parametrize(
    ("shell", "typed", "completed"),
    [
        ("bash", "batchor res", "results"),
        ("zsh", "batchor run --prom", "--prompt-text"),
        ("fish", "batchor status my", "my-run"),
    ],
)
def test_shells_complete_commands_options_and_runs(
    shell: str, typed: str, completed: str, folder: Path
) -> None:
    store = SQLiteStorage(path=folder / "runs.sqlite3")
    kit.create(store, 1, run_id="my-run")
    store.close()
    variables = {
        "_BATCHOR_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": typed,
        "COMP_CWORD": str(typed.count(" ")),
        "_TYPER_COMPLETE_ARGS": typed,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; sys.argv[0] = 'batchor'; from batchor_core.cli import main; main()",
        ],
        cwd=folder,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert completed in done.stdout, done.stderr
