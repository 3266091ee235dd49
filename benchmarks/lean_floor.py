"""The least that a person would write by hand: the request file is the durable copy of a request, and rows are narrow.

As in :mod:`benchmarks.floor` every commit is durable and every answer is validated. But request lines go to their file alone,
answers stay in theirs, and the database has only what finds them again: ids, states, tokens, offsets. Retries, leases, pausing
and pages of results would need more.
"""

from __future__ import annotations

import csv
import os
import sqlite3
from collections.abc import Mapping
from itertools import islice
from pathlib import Path

import orjson

from batchor_core import model_output_schema
from benchmarks.clock import Lap, Stopwatch
from benchmarks.floor import BATCH, CHUNK
from benchmarks.place import Place
from benchmarks.workload import Verdict, write_answers


def drive(place: Place) -> dict[str, Lap]:
    """Do it; returns time by phase, the provider's own left out. Requests are written while rows are read: one phase."""
    folder = place.home
    db = sqlite3.connect(folder / "lean.sqlite3", isolation_level=None)
    db.executescript("""
        PRAGMA journal_mode = WAL;
        PRAGMA synchronous = FULL;
        CREATE TABLE items (item_index INTEGER PRIMARY KEY, item_id TEXT UNIQUE);
        CREATE TABLE batches (number INTEGER PRIMARY KEY, first_index INT, rows INT, status INT);
        CREATE TABLE results (item_index INTEGER PRIMARY KEY, tokens_in INT, tokens_out INT, offset INT, length INT);
    """)
    watch = Stopwatch()
    batches = _ingest(db, place.source, folder)
    watch.lap("ingest")
    watch.lap("submit")  # nothing is left to do
    for number in range(batches):
        write_answers(folder / f"batch-{number}.jsonl", folder / f"batch-{number}.output.jsonl")
    watch.start()
    for number in range(batches):
        _collect(db, folder / f"batch-{number}.output.jsonl", number)
    watch.lap("collect")
    return watch.laps


def _ingest(db: sqlite3.Connection, source: Path, folder: Path) -> int:
    """Every row into the request file of its batch; returns the number of batches."""
    schema = model_output_schema(Verdict)
    text_format = {
        "format": {"type": "json_schema", "name": schema.name, "strict": True, "schema": schema.schema}
    }
    with source.open(newline="", encoding="utf-8") as file:
        reader = enumerate(csv.DictReader(file))
        number = 0
        while _write_batch(db, islice(reader, BATCH), folder / f"batch-{number}.jsonl", number, text_format):
            number += 1
    return number


def _write_batch(
    db: sqlite3.Connection,
    rows: islice[tuple[int, dict[str, str]]],
    path: Path,
    number: int,
    text_format: Mapping[str, object],
) -> int:
    """Write one batch; returns its rows. It exists once its row does: until then a crash begins it again."""
    count = 0
    with path.open("wb") as file:
        while chunk := list(islice(rows, CHUNK)):
            for index, row in chunk:
                body = {"model": "gpt-5-mini", "input": f"Judge: {row['text']}", "text": text_format}
                line = {"custom_id": str(index), "method": "POST", "url": "/v1/responses", "body": body}
                file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
            db.execute("BEGIN IMMEDIATE")
            db.executemany("INSERT INTO items VALUES (?, ?)", [(index, row["id"]) for index, row in chunk])
            db.execute("COMMIT")
            count += len(chunk)
        file.flush()
        os.fsync(file.fileno())
    if count:
        db.execute("INSERT INTO batches VALUES (?, ?, ?, 1)", (number, number * BATCH, count))
    else:
        path.unlink()
    return count


def _collect(db: sqlite3.Connection, output: Path, number: int) -> None:
    offset = 0
    results: list[tuple[int, int, int, int, int]] = []
    with output.open("rb") as file:
        os.fsync(file.fileno())  # the answers stay there
        for line in file:
            record = orjson.loads(line)
            body = record["response"]["body"]
            Verdict.model_validate_json(body["output"][-1]["content"][0]["text"])
            usage = body["usage"]
            results.append(
                (
                    int(record["custom_id"]),
                    usage["input_tokens"],
                    usage["output_tokens"],
                    offset,
                    len(line),
                )
            )
            offset += len(line)
            if len(results) == CHUNK:
                _store(db, results)
                results = []
    _store(db, results)
    db.execute("UPDATE batches SET status = 2 WHERE number = ?", (number,))


def _store(db: sqlite3.Connection, results: list[tuple[int, int, int, int, int]]) -> None:
    db.execute("BEGIN IMMEDIATE")
    db.executemany("INSERT INTO results VALUES (?, ?, ?, ?, ?)", results)
    db.execute("COMMIT")
