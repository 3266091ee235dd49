"""The same durable work by hand, as fast as plain Python does it: sqlite3, orjson, files, one transaction per 1,000 rows.

No retries, no leases, no pausing, one kind of row: what nobody could do without.
"""

from __future__ import annotations

import csv
import os
import sqlite3
from itertools import islice
from pathlib import Path
from time import perf_counter

import orjson

from batchor_core import model_output_schema
from benchmarks.workload import Verdict, write_answers

CHUNK = 1_000
BATCH = 50_000


def run(folder: Path, source: Path) -> dict[str, float]:
    """Do it; returns seconds by phase, the provider's own time left out."""
    db = sqlite3.connect(folder / "floor.sqlite3", isolation_level=None)
    db.executescript("""
        PRAGMA journal_mode = WAL;
        PRAGMA synchronous = FULL;
        CREATE TABLE items (item_index INTEGER PRIMARY KEY, item_id TEXT UNIQUE, status INT, batch INT);
        CREATE TABLE contents (item_index INTEGER PRIMARY KEY, payload BLOB, metadata BLOB, line BLOB);
        CREATE TABLE results (sequence INTEGER PRIMARY KEY, item_index INT, output TEXT, tokens_in INT,
                              tokens_out INT, batch INT, offset INT, length INT);
    """)
    phases = {"ingest": _ingest(db, source)}
    began = perf_counter()
    batches = _submit(db, folder)
    phases["submit"] = perf_counter() - began
    for number in range(batches):
        write_answers(folder / f"batch-{number}.jsonl", folder / f"batch-{number}.output.jsonl")
    began = perf_counter()
    for number in range(batches):
        _harvest(db, folder, number)
    phases["harvest"] = perf_counter() - began
    return phases


def _ingest(db: sqlite3.Connection, source: Path) -> float:
    began = perf_counter()
    schema = model_output_schema(Verdict)
    text_format = {
        "format": {"type": "json_schema", "name": schema.name, "strict": True, "schema": schema.schema}
    }
    with source.open(newline="", encoding="utf-8") as file:
        reader = enumerate(csv.DictReader(file))
        while chunk := list(islice(reader, CHUNK)):
            items, contents = [], []
            for index, row in chunk:
                line = {
                    "custom_id": str(index),
                    "method": "POST",
                    "url": "/v1/responses",
                    "body": {"model": "gpt-5-mini", "input": f"Judge: {row['text']}", "text": text_format},
                }
                items.append((index, row["id"], 0, None))
                contents.append((index, orjson.dumps(row), orjson.dumps({"row": index}), orjson.dumps(line)))
            db.execute("BEGIN IMMEDIATE")
            db.executemany("INSERT INTO items VALUES (?, ?, ?, ?)", items)
            db.executemany("INSERT INTO contents VALUES (?, ?, ?, ?)", contents)
            db.execute("COMMIT")
    return perf_counter() - began


def _submit(db: sqlite3.Connection, folder: Path) -> int:
    number = 0
    while True:
        rows = db.execute(
            "SELECT item_index FROM items WHERE status = 0 ORDER BY item_index LIMIT ?", (BATCH,)
        ).fetchall()
        if not rows:
            return number
        first, last = rows[0][0], rows[-1][0]
        with (folder / f"batch-{number}.jsonl").open("wb") as file:
            query = "SELECT line FROM contents WHERE item_index BETWEEN ? AND ? ORDER BY item_index"
            for (line,) in db.execute(query, (first, last)):
                file.write(line + b"\n")
            file.flush()
            os.fsync(file.fileno())
        db.execute("BEGIN IMMEDIATE")
        db.execute(
            "UPDATE items SET status = 1, batch = ? WHERE item_index BETWEEN ? AND ?", (number, first, last)
        )
        db.execute("COMMIT")
        number += 1


def _harvest(db: sqlite3.Connection, folder: Path, number: int) -> None:
    offset, results = 0, []
    with (folder / f"batch-{number}.output.jsonl").open("rb") as file:
        for line in file:
            record = orjson.loads(line)
            body = record["response"]["body"]
            text = body["output"][-1]["content"][0]["text"]
            Verdict.model_validate_json(text)
            usage = body["usage"]
            results.append(
                (
                    int(record["custom_id"]),
                    text,
                    usage["input_tokens"],
                    usage["output_tokens"],
                    number,
                    offset,
                    len(line),
                )
            )
            offset += len(line)
            if len(results) == CHUNK:
                _store(db, results)
                results = []
    _store(db, results)


def _store(db: sqlite3.Connection, results: list[tuple[object, ...]]) -> None:
    db.execute("BEGIN IMMEDIATE")
    db.executemany(
        "INSERT INTO results (item_index, output, tokens_in, tokens_out, batch, offset, length) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        results,
    )
    db.executemany("UPDATE items SET status = 2 WHERE item_index = ?", [(row[0],) for row in results])
    db.execute("COMMIT")
