"""What it costs to begin: the import, and a tokenizer that can't be had."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from time import perf_counter

from benchmarks.clock import Lap, Stopwatch
from benchmarks.place import Place

REPEATS = 5
_LOOK = "import sys, batchor_core; print(*[m for m in ('dagster', 'pyarrow', 'psycopg') if m in sys.modules])"


def importing(place: Place) -> dict[str, Lap]:
    """``import batchor_core``, the best of five, the interpreter's own start left out."""
    loaded = subprocess.run([sys.executable, "-c", _LOOK], check=True, capture_output=True, text=True)
    assert not loaded.stdout.split(), f"a plain import loads {loaded.stdout}"
    bare = min(_seconds("pass") for _ in range(REPEATS))
    return {"import": Lap(min(_seconds("import batchor_core") for _ in range(REPEATS)) - bare)}


def _seconds(code: str) -> float:
    began = perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return perf_counter() - began


def no_tokenizer(place: Place) -> dict[str, Lap]:
    """The first estimate where tiktoken finds no vocabulary and no network: the look-up is tried once, and then never."""
    import logging

    warnings: list[logging.LogRecord] = []
    handler = logging.Handler()
    vars(handler)["emit"] = warnings.append
    logging.getLogger("batchor_core").addHandler(handler)
    from batchor_core.providers.openai.provider import OpenAIBatchProvider
    from benchmarks.engine import CONFIG

    with tempfile.TemporaryDirectory() as empty:
        os.environ["TIKTOKEN_CACHE_DIR"] = empty
        # nobody listens there
        os.environ["HTTPS_PROXY"] = os.environ["https_proxy"] = "http://127.0.0.1:9"
        provider = OpenAIBatchProvider(CONFIG)
        line = {"custom_id": "1", "method": "POST", "url": "/v1/responses", "body": {"input": "word " * 100}}
        watch = Stopwatch()
        provider.estimate_request_tokens(line, chars_per_token=4)  # type: ignore[arg-type]
        watch.lap("failed look-up")
        for _ in range(1_000):
            provider.estimate_request_tokens(line, chars_per_token=4)  # type: ignore[arg-type]
        watch.lap("1,000 estimates after it")
    assert len(warnings) == 1, f"{len(warnings)} warnings"
    return watch.laps
