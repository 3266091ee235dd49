"""Embeddings end to end with a provider in this process: ``python -m benchmarks.embeddings [ROWS] [DIMENSIONS]``.

Prints rows a second and peak memory of each step, and what the vectors take up. Every step is a process of its own.
"""

from __future__ import annotations

import base64
import hashlib
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, closing
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import orjson

from batchor_core import (
    BatchJob,
    BatchRunner,
    OpenAIEndpoint,
    OpenAIProviderConfig,
    SQLiteStorage,
    VectorOutput,
)
from benchmarks.providers import Desk, InstantProvider
from benchmarks.workload import csv_source, write_csv

RUN_ID = "embeddings"
CONFIG = OpenAIProviderConfig(
    model="text-embedding-3-small", endpoint=OpenAIEndpoint.EMBEDDINGS, api_key="none"
)
_EXPONENT = bytes(byte & 0x80 | 0x3C for byte in range(256))
"""Gives the highest byte of a float32 a sign and an exponent of small numbers, as the elements of unit vectors are."""


def vector(text: str, dimensions: int) -> bytes:
    """A text's vector: incompressible, as real ones are, and finite."""
    data = bytearray(hashlib.shake_128(text.encode()).digest(4 * dimensions))
    data[3::4] = data[3::4].translate(_EXPONENT)
    return bytes(data)


def write_vectors(requests: Path, answers: Path) -> None:
    """The output file of a batch: a vector for each line of its input file, of the dimensions that it asks for."""
    with requests.open("rb") as lines, answers.open("wb") as file:
        for number, line in enumerate(lines):
            request = orjson.loads(line)
            body = request["body"]
            found = base64.b64encode(vector(body["input"], body["dimensions"])).decode()
            response = {
                "object": "list",
                "data": [{"object": "embedding", "index": 0, "embedding": found}],
                "model": body["model"],
                "usage": {"prompt_tokens": 100, "total_tokens": 100},
            }
            answer = {
                "id": f"batch_req_{number:032}",
                "custom_id": request["custom_id"],
                "response": {"status_code": 200, "request_id": f"req_{number:032}", "body": response},
                "error": None,
            }
            file.write(orjson.dumps(answer, option=orjson.OPT_APPEND_NEWLINE))


def drive(home: Path, dimensions: int) -> dict[str, Any]:
    """From the CSV file to the results in the database."""
    desk = Desk(home / "desk", write_vectors)
    job: BatchJob[Any, Any] = BatchJob(
        items=csv_source(home / "texts.csv"),
        build_prompt=lambda item: item.payload["text"],
        provider_config=CONFIG,
        output=VectorOutput(dimensions),
    )
    with _store(home) as store:
        runner = BatchRunner(
            storage=store,
            provider_factory=lambda _: InstantProvider(CONFIG, desk),
            temp_root=home / "artifacts",
        )
        run = runner.start(job, run_id=RUN_ID).wait(poll_interval=0)
        assert run.summary().completed_items == run.summary().total_items > 0
    return {"provider_sec": round(desk.own.wall, 1), "provider_cpu_sec": round(desk.own.cpu, 1)}


def parquet(home: Path, dimensions: int) -> dict[str, Any]:
    """From the database to one Parquet file."""
    with (
        _store(home) as store,
        BatchRunner(storage=store, temp_root=home / "artifacts") as runner,
    ):
        runner.get_run(RUN_ID).to_parquet(home / "vectors.parquet")
    raw = [path for path in (home / "artifacts").rglob("*") if path.is_file()]
    return {
        "database_mb": _mb(*home.glob("runs.sqlite3*")),
        "raw_files_mb": _mb(*raw),
        "parquet_mb": _mb(home / "vectors.parquet"),
    }


def numpy_from_parquet(home: Path, dimensions: int) -> dict[str, Any]:
    """Every vector of the file as a row of a numpy matrix that is Arrow's memory."""
    import pyarrow.parquet as pq

    rows = 0
    file = pq.ParquetFile(home / "vectors.parquet", pre_buffer=False)  # else it reads far ahead
    for batch in file.iter_batches(1_024, columns=["vector"]):
        matrix = batch["vector"].flatten().to_numpy(zero_copy_only=True).reshape(-1, dimensions)
        assert matrix.dtype == "float32"
        if not rows:
            with (home / "texts.csv").open(encoding="utf-8") as texts:
                texts.readline()
                assert matrix[0].tobytes() == vector(
                    texts.readline().rstrip("\n").split(",", 1)[1], dimensions
                )
        rows += len(matrix)
    return {"rows": rows}


def numpy_from_results(home: Path, dimensions: int) -> dict[str, Any]:
    """Every result object's vector as a numpy array that is the object's memory."""
    import numpy

    rows = 0
    with (
        _store(home) as store,
        BatchRunner(storage=store, temp_root=home / "artifacts") as runner,
    ):
        for result in runner.get_run(RUN_ID).iter_results():
            assert numpy.asarray(result.output).shape == (dimensions,)
            rows += 1
    return {"rows": rows}


def _store(home: Path) -> AbstractContextManager[SQLiteStorage]:
    return closing(SQLiteStorage(path=home / "runs.sqlite3"))


def _mb(*paths: Path) -> float:
    return round(sum(path.stat().st_size for path in paths) / 1e6, 1)


def _measured(step: Callable[[Path, int], dict[str, Any]], home: Path, dimensions: int) -> dict[str, Any]:
    started, cpu = time.perf_counter(), time.process_time()
    facts = step(home, dimensions)
    seconds = time.perf_counter() - started - facts.get("provider_sec", 0.0)
    return {
        "seconds": round(seconds, 1),
        "cpu_sec": round(time.process_time() - cpu - facts.get("provider_cpu_sec", 0.0), 1),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6),
        **facts,
    }


def main(rows: int = 100_000, dimensions: int = 1_536) -> None:
    """Measure, and print a line for each step."""
    with tempfile.TemporaryDirectory(prefix="batchor-embeddings-") as folder:
        home = Path(folder)
        write_csv(home / "texts.csv", rows)
        print(f"{rows:,} vectors of {dimensions:,} float32 are {rows * dimensions * 4 / 1e6:,.1f} MB")
        for step in (drive, parquet, numpy_from_parquet, numpy_from_results):
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                facts = pool.submit(_measured, step, home, dimensions).result()
            rate = round(rows / max(facts["seconds"], 0.1))
            print(f"{step.__name__}: {rate:,} rows a second, {json.dumps(facts)}", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
