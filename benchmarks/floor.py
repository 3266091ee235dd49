"""The same durable work by hand, as fast as plain Python does it: sqlite3, orjson, pyarrow, transactions of 1,000 rows.

No retries, no leases, no pausing, one kind of row, one table layout: what nobody could do without.
"""

from __future__ import annotations

import csv
import os
import sqlite3
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from batchor_core import model_output_schema
from benchmarks.clock import Lap, Stopwatch
from benchmarks.place import Place
from benchmarks.workload import Verdict, write_answers

CHUNK = 1_000
BATCH = 50_000


def drive(place: Place) -> dict[str, Lap]:
    """Do it; returns time by phase, the provider's own left out."""
    folder, source = place.home, place.source
    db = _connect(folder)
    db.executescript("""
        PRAGMA journal_mode = WAL;
        PRAGMA synchronous = FULL;
        CREATE TABLE items (item_index INTEGER PRIMARY KEY, item_id TEXT UNIQUE, status INT, batch INT);
        CREATE TABLE contents (item_index INTEGER PRIMARY KEY, payload BLOB, metadata BLOB, line BLOB);
        CREATE TABLE results (sequence INTEGER PRIMARY KEY, item_index INT, output TEXT, tokens_in INT,
                              tokens_out INT, batch INT, offset INT, length INT);
    """)
    watch = Stopwatch()
    _ingest(db, source)
    watch.lap("ingest")
    batches = _submit(db, folder)
    watch.lap("submit")
    for number in range(batches):
        write_answers(folder / f"batch-{number}.jsonl", folder / f"batch-{number}.answers.jsonl")
    watch.start()
    for number in range(batches):
        _collect(db, folder, number)
    watch.lap("collect")
    return watch.laps


def _ingest(db: sqlite3.Connection, source: Path) -> None:
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


def _collect(db: sqlite3.Connection, folder: Path, number: int) -> None:
    offset = 0
    results: list[tuple[object, ...]] = []
    output = folder / f"batch-{number}.output.jsonl"
    os.link(folder / f"batch-{number}.answers.jsonl", output)
    with output.open("rb") as file:
        os.fsync(file.fileno())  # the raw responses stay there
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


def pages(place: Place) -> dict[str, Lap]:
    """Every answer as a model, 1,000 at a time."""
    db = _connect(place.home)
    watch, count = Stopwatch(), 0
    for page in _pages(db):
        count += len([Verdict.model_validate_json(row[3]) for row in page])
    watch.lap("pages")
    assert count == place.rows
    return watch.laps


def jsonl(place: Place) -> dict[str, Lap]:
    """Every answer as a line of a file, with its raw response."""
    db = _connect(place.home)
    watch = Stopwatch()
    raw = {path: path.open("rb") for path in place.home.glob("*.output.jsonl")}
    with (place.home / "results.jsonl").open("wb") as file:
        for page in _pages(db):
            for _, item_id, metadata, output, _, _, batch, offset, length in page:
                source = raw[place.home / f"batch-{batch}.output.jsonl"]
                source.seek(offset)
                line = {
                    "item_id": item_id,
                    "metadata": orjson.Fragment(metadata),
                    "output_text": output,
                    "output_json": orjson.Fragment(output),
                    "raw_response": orjson.Fragment(source.read(length - 1)),
                }
                file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
        os.fsync(file.fileno())
    watch.lap("jsonl")
    return watch.laps


def parquet(place: Place) -> dict[str, Lap]:
    """Every answer as a row of a Parquet file, the model's fields as columns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    db = _connect(place.home)
    watch = Stopwatch()
    schema = pa.schema(
        [
            ("item_id", pa.string()),
            ("sentiment", pa.string()),
            ("score", pa.float64()),
            ("topics", pa.list_(pa.string())),
            ("summary", pa.string()),
            ("output_text", pa.string()),
            ("input_tokens", pa.int64()),
            ("output_tokens", pa.int64()),
            ("metadata", pa.string()),
        ]
    )
    with pq.ParquetWriter(place.home / "results.parquet", schema, compression="zstd") as writer:
        for page in _pages(db):
            answers = [Verdict.model_validate_json(row[3]) for row in page]
            columns = [
                [row[1] for row in page],
                [answer.sentiment for answer in answers],
                [answer.score for answer in answers],
                [answer.topics for answer in answers],
                [answer.summary for answer in answers],
                [row[3] for row in page],
                [row[4] for row in page],
                [row[5] for row in page],
                [row[2].decode() for row in page],
            ]
            writer.write_table(pa.table(columns, schema=schema))
    watch.lap("parquet")
    return watch.laps


def _connect(folder: Path) -> sqlite3.Connection:
    return sqlite3.connect(folder / "floor.sqlite3", isolation_level=None)


def _pages(db: sqlite3.Connection) -> Iterator[list[tuple[Any, ...]]]:
    after = 0
    query = (
        "SELECT sequence, item_id, metadata, output, tokens_in, tokens_out, results.batch, offset, length "
        "FROM results JOIN items USING (item_index) JOIN contents USING (item_index) "
        "WHERE sequence > ? ORDER BY sequence LIMIT 1000"
    )
    while page := db.execute(query, (after,)).fetchall():
        yield page
        after = page[-1][0]
