"""The rows, the model and the answers that every measurement shares: rows of about 500 bytes, answers of about 1.2 KB."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import orjson
from pydantic import BaseModel

from batchor_core import CsvItemSource

SENTENCE = "the quick brown fox jumps over the lazy dog while seven wizards brew potions of courage "


class Verdict(BaseModel):
    """What a row is asked for."""

    sentiment: Literal["positive", "negative", "mixed"]
    score: float
    topics: list[str]
    summary: str


ANSWER = orjson.dumps(
    {
        "sentiment": "mixed",
        "score": 0.25,
        "topics": ["foxes", "dogs", "potions"],
        "summary": SENTENCE * 2,
    }
).decode()


def rows(count: int) -> Iterator[tuple[str, str]]:
    """``count`` pairs of id and text."""
    for number in range(count):
        yield f"row-{number:09d}", f"{number} {SENTENCE * 5}"


def write_csv(path: Path, count: int) -> Path:
    """The rows as a CSV file."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text"])
        writer.writerows(rows(count))
    return path


def csv_source(path: Path) -> CsvItemSource[dict[str, str]]:
    """The file as a source."""
    return CsvItemSource(
        path, item_id_from_row=lambda row: row["id"], payload_from_row=lambda row: {"text": row["text"]}
    )


_ANSWER_LINE = orjson.dumps(
    {
        "id": "batch_req_6800000000000000000000000000000000",
        "custom_id": "@",
        "response": {
            "status_code": 200,
            "request_id": "req_00000000000000000000000000000000",
            "body": {
                "id": "resp_00000000000000000000000000000000000000000000000000",
                "object": "response",
                "created_at": 1767225600,
                "status": "completed",
                "error": None,
                "incomplete_details": None,
                "model": "gpt-5-mini-2025-08-07",
                "output": [
                    {"id": "rs_0000000000000000000000000000000000", "type": "reasoning", "summary": []},
                    {
                        "id": "msg_00000000000000000000000000000000000000",
                        "type": "message",
                        "status": "completed",
                        "role": "assistant",
                        "content": [
                            {"type": "output_text", "text": ANSWER, "annotations": [], "logprobs": []}
                        ],
                    },
                ],
                "usage": {
                    "input_tokens": 140,
                    "input_tokens_details": {"cached_tokens": 0},
                    "output_tokens": 90,
                    "output_tokens_details": {"reasoning_tokens": 20},
                    "total_tokens": 230,
                },
                "text": {"format": {"type": "json_schema", "name": "verdict", "strict": True}},
                "reasoning": {"effort": "low", "summary": None},
                "metadata": {},
            },
        },
        "error": None,
    },
    option=orjson.OPT_APPEND_NEWLINE,
)
_BEFORE, _AFTER = _ANSWER_LINE.split(b"@")


def write_answers(requests: Path, answers: Path) -> None:
    """The output file of a batch: one good answer for each line of its input file."""
    with requests.open("rb") as lines, answers.open("wb") as file:
        for line in lines:
            custom_id = orjson.loads(line)["custom_id"]
            file.write(_BEFORE + custom_id.encode() + _AFTER)
