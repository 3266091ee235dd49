"""A folder with rows in it, a local server, and commands typed in that folder."""

from __future__ import annotations

import json
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from batchor_core.cli.app import app
from batchor_core.testing.openai_server import OpenAIServer

# Click before 8.2 mixes stderr into stdout unless it is told not to
_APART: dict[str, Any] = {"mix_stderr": False} if "mix_stderr" in signature(CliRunner).parameters else {}

ROWS = ["id,product,text", "a,tea,Good", "b,cup,It leaks", "c,pot,Fine"]


class Typing:
    """Commands that are typed in a folder, with a store in it and a key, for a server that nobody runs.

    Attributes:
        folder: The folder.
        key: The API key.
    """

    def __init__(self, folder: Path, base_url: str = "http://127.0.0.1:9/v1") -> None:
        self.folder = folder
        self.key = "sk-local"
        self.write(
            "batchor.toml",
            'db = "runs.sqlite3"',
            'model = "gpt-5-mini"',
            f'base_url = "{base_url}"',
            "[options]",
            "poll_interval_sec = 0",
        )
        self.write("rows.csv", *ROWS)

    def write(self, name: str, *lines: str) -> Path:
        path = self.folder / name
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return path

    def read(self, name: str) -> str:
        return (self.folder / name).read_text(encoding="utf-8")

    def type(self, *words: str, answer: str | None = None) -> Result:
        """Type ``batchor`` and these words."""
        env = {"OPENAI_API_KEY": self.key, "NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "200"}
        return CliRunner(**_APART).invoke(app, list(words), input=answer, env=env)

    def run(
        self, *words: str, rows: str = "rows.csv", prompt: str = "About {{ product }}: {{ text }}"
    ) -> Result:
        return self.type("run", rows, "--prompt-text", prompt, *words)

    def runs(self) -> list[dict[str, Any]]:
        """The runs of the store, newest first."""
        listed: list[dict[str, Any]] = json.loads(self.type("runs", "--json").stdout)
        return listed

    def run_id(self) -> str:
        """The newest run's."""
        return str(self.runs()[0]["run_id"])


class Terminal(Typing):
    """The same for a local server.

    Attributes:
        server: The server; its books say what was paid for.
        asked: The bodies of the rows that it has answered, by their custom_ids, which begin with the row's id.
    """

    def __init__(self, folder: Path, server: OpenAIServer) -> None:
        super().__init__(folder, server.base_url)
        self.server = server
        self.asked: dict[str, dict[str, Any]] = {}
        answer = server.responder
        server.responder = lambda body, endpoint, custom_id: (
            self.asked.update({custom_id: body}) or answer(body, endpoint, custom_id)
        )

    def prompts(self) -> list[str]:
        """What the rows asked, in the order of their ids."""
        return [str(self.asked[custom_id]["input"]) for custom_id in sorted(self.asked)]

    @property
    def paid(self) -> int:
        """How many rows were answered, and would have been paid for."""
        return self.server.books.rows_executed


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, openai_server: OpenAIServer) -> Terminal:
    monkeypatch.chdir(tmp_path)
    return Terminal(tmp_path, openai_server)


@pytest.fixture
def typing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Typing:
    monkeypatch.chdir(tmp_path)
    return Typing(tmp_path)
