"""``batchor run --embed``: a vector for a text of each row, in every kind of file."""

from __future__ import annotations

import base64
import csv
import json
import struct

import numpy
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import Result

from batchor_core.testing.openai_server.embeddings import embeddings
from tests.unit.cli.conftest import Terminal, Typing

TEXTS = ["Good", "It leaks", "Fine"]


def embed(typing: Typing, *words: str) -> Result:
    return typing.type(
        "run",
        "rows.csv",
        "--embed",
        "{{ text }}",
        "-m",
        "text-embedding-3-small",
        "--dimensions",
        "8",
        *words,
    )


def expected() -> list[list[float]]:
    return [list(entry["embedding"]) for entry in embeddings({"input": TEXTS, "dimensions": 8})[0]["data"]]


def test_texts_become_a_column_of_vectors(terminal: Terminal) -> None:
    done = embed(terminal, "--out", "vectors.parquet")
    assert done.exit_code == 0, done.output
    assert "3 of 3 rows" in done.stderr
    assert terminal.prompts() == TEXTS
    table = pq.read_table(terminal.folder / "vectors.parquet")
    assert table["vector"].type.list_size == 8
    assert table["vector"].type.value_type == pa.float32()
    assert table["vector"].to_pylist() == expected()
    asked = next(iter(terminal.asked.values()))
    assert (asked["dimensions"], asked["encoding_format"]) == (8, "base64")


def test_the_same_command_pays_once_and_other_dimensions_are_another_run(terminal: Terminal) -> None:
    embed(terminal)
    embed(terminal)
    assert (len(terminal.runs()), terminal.paid) == (1, 3)
    embed(terminal, "--dimensions", "4")
    assert len(terminal.runs()) == 2


def test_vectors_in_csv_are_lists_that_give_the_same_float32_back(terminal: Terminal) -> None:
    assert embed(terminal, "--out", "vectors.csv").exit_code == 0
    cells = [row["vector"] for row in csv.DictReader(terminal.read("vectors.csv").splitlines())]
    assert [numpy.array(json.loads(cell), numpy.float32).tolist() for cell in cells] == expected()


def test_vectors_in_json_lines_are_base64(terminal: Terminal) -> None:
    assert embed(terminal, "--out", "vectors.jsonl").exit_code == 0
    lines = [json.loads(line)["output_vector"] for line in terminal.read("vectors.jsonl").splitlines()]
    assert [list(struct.unpack("<8f", base64.b64decode(line))) for line in lines] == expected()


def test_results_show_the_beginning_of_vectors(terminal: Terminal) -> None:
    embed(terminal)
    beginning = ", ".join(f"{number:.4g}" for number in expected()[0][:4])
    assert f"float32[8]: {beginning}, …" in terminal.type("results", terminal.run_id()).stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--prompt-text", "{{ text }}"],
            "--embed sends a text of each row and nothing else; leave out --prompt-text",
        ),
        (["--system-text", "Be brief", "--schema", "a.py:B"], "leave out --system-text, --schema"),
        (["--option", "dimensions=4"], "request_options ask for dimensions=4"),
        (["--option", "temperature=0"], "temperature can't be set for the endpoint /v1/embeddings"),
        (["--endpoint", "/v1/responses"], "of the kind 'vector'"),
    ],
)
def test_what_does_not_go_with_it_is_refused(typing: Typing, words: list[str], said: str) -> None:
    refused = embed(typing, *words)
    assert refused.exit_code == 2
    assert said in " ".join(refused.stderr.split())


def test_the_length_of_the_vectors_has_to_be_given(typing: Typing) -> None:
    refused = typing.type("run", "rows.csv", "--embed", "{{ text }}")
    assert refused.exit_code == 2
    assert "--embed needs --dimensions N" in refused.stderr


def test_prompts_have_no_dimensions(typing: Typing) -> None:
    refused = typing.run("--dimensions", "8")
    assert refused.exit_code == 2
    assert "--dimensions goes with --embed TEXT" in refused.stderr


def test_an_option_of_the_profile_that_does_not_fit_is_found(typing: Typing) -> None:
    with (typing.folder / "batchor.toml").open("a", encoding="utf-8") as file:
        file.write("max_output_tokens = 500\n")
    refused = " ".join(embed(typing).stderr.split())
    assert "max_output_tokens can't be set for the endpoint /v1/embeddings" in refused
    assert "batchor.toml count too: move those that are not for every run into a profile" in refused


def test_vectors_of_gemini_need_no_endpoint(typing: Typing) -> None:
    planned = typing.type(
        *("plan", "rows.csv", "--embed", "{{ text }}", "--dimensions", "8"),
        *("--provider", "gemini", "-m", "gemini-embedding-001"),
    )
    assert planned.exit_code == 0, planned.output


def test_the_endpoint_of_the_profile_is_for_prompts(terminal: Terminal) -> None:
    toml = terminal.folder / "batchor.toml"
    toml.write_text(
        'endpoint = "/v1/chat/completions"\n' + toml.read_text(encoding="utf-8"), encoding="utf-8"
    )
    assert embed(terminal).exit_code == 0


def test_a_field_that_a_row_does_not_have_is_named(typing: Typing) -> None:
    words = ["run", "rows.csv", "--embed", "{{ txt }}", "-m", "x", "--dimensions", "8"]
    assert (
        "--embed names 'txt', which row 'a' does not have; did you mean 'text'?" in typing.type(*words).stderr
    )
