"""``batchor run`` with images, documents, tools and a host of its own."""

from __future__ import annotations

import json

import pyarrow.parquet as pq

from tests.unit.cli.conftest import Terminal

TOOLS = """
from pydantic import BaseModel

class Praise(BaseModel):
    warmth: int

class Complaint(BaseModel):
    text: str
"""


def run(terminal: Terminal, *words: str) -> str:
    done = terminal.type("run", "rows.csv", "--prompt-text", "{{ text }}?", "-m", "gpt-5-mini", *words)
    assert done.exit_code == 0, done.output
    return done.stderr


def test_a_row_has_its_image_and_its_document(terminal: Terminal) -> None:
    (terminal.folder / "leak.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    image = "{{ 'leak.png' if 'leaks' in text }}"
    run(terminal, "--image", image, "--document", "{{ 'https://example.com/a.pdf' if 'leaks' in text }}")
    contents = [body["input"] for body in terminal.asked.values()]
    assert sorted(one for one in contents if isinstance(one, str)) == ["Fine?", "Good?"]
    (turns,) = [one for one in contents if isinstance(one, list)]
    assert [part["type"] for part in turns[0]["content"]] == ["input_text", "input_image", "input_file"]
    assert turns[0]["content"][1]["image_url"] == "data:image/png;base64,iVBORw0KGgo="
    assert turns[0]["content"][2]["file_url"] == "https://example.com/a.pdf"


def test_answers_are_calls_of_tools(terminal: Terminal) -> None:
    (terminal.folder / "my_tools.py").write_text(TOOLS)
    run(
        terminal,
        "--tool",
        "my_tools.py:Praise",
        "--tool",
        "my_tools.py:Complaint",
        "--out",
        "calls.parquet",
        "--out",
        "calls.parquet",
    )
    table = pq.read_table(terminal.folder / "calls.parquet")
    assert {"tool", "praise", "complaint"} <= set(table.column_names)
    assert set(table["tool"].to_pylist()) <= {"praise", "complaint"}
    done = terminal.type(
        "run", "rows.csv", "--prompt-text", "x", "-m", "m", "--tool", "my_tools.py:No", "--json"
    )
    assert "--tool 'my_tools.py:No': my_tools.py has no No" in done.output


def test_a_host_needs_its_server(terminal: Terminal) -> None:
    done = terminal.type("run", "rows.csv", "--prompt-text", "x", "-m", "m", "--host", "grok", "--json")
    assert "profile 'grok' is not known" in json.dumps(done.output)
