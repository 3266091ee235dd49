"""Files, lines and archives of any size take no more memory than the budget."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import tracemalloc
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from batchor_core.core.exceptions import ProviderError
from batchor_core.providers.openai.config import OpenAIProviderConfig
from batchor_core.providers.openai.provider import OpenAIBatchProvider

MIB = 1 << 20
BUDGET_MIB = 300
IN_FULL = bool(os.environ.get("BATCHOR_TEST_HOSTILE_SEEDS"))


def run_big(folder: Path, rows: int, row_bytes: int, giant_bytes: int = 0) -> tuple[int, int, int, int]:
    """Peak memory before and during the harvest in MiB, bytes of the file, completed rows."""
    script = Path(__file__).with_name("big_files.py")
    done = subprocess.run(
        [sys.executable, str(script), str(folder), str(rows), str(row_bytes), str(giant_bytes)],
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    before, peak, size, completed, failed = map(int, done.stdout.split())
    assert failed == 0
    return before, peak, size, completed


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_large_output_file_is_streamed(tmp_path: Path) -> None:
    rows = 20_000 if IN_FULL else 4_000
    before, peak, size, completed = run_big(tmp_path, rows, 10_000)
    assert (size, completed) == (rows * 10_000, rows)
    assert peak < BUDGET_MIB
    assert peak - before < 64, "the harvest keeps a chunk of rows, not the file"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(
    "giant", [64 * MIB, 200 * MIB], ids=["the longest line that is read", "a longer one"]
)
def test_a_giant_line_stays_within_the_budget(tmp_path: Path, giant: int) -> None:
    _, peak, _, completed = run_big(tmp_path, 5, 1_000, giant)
    assert completed == 5, "a line that is too long counts as missing, and its row is asked for again"
    assert peak < BUDGET_MIB


class _Bomb(BaseHTTPRequestHandler):
    """Answers for a file with a thousandth of what it unpacks to, and does not say how much that is."""

    content = b""

    def do_GET(self) -> None:
        found = self.path.endswith("/content")
        self.send_response(200 if found else 404)
        body = self.content if found else b"{}"
        if found:
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:
            self.close_connection = True  # the client has had enough

    def log_message(self, *args: object) -> None:
        pass


def archive_of_zeros(size: int) -> bytes:
    """A gzip archive of one member: readers stop at the end of the first."""
    packer = zlib.compressobj(6, wbits=31)
    return b"".join([*(packer.compress(bytes(MIB)) for _ in range(size // MIB)), packer.flush()])


@pytest.fixture
def bomb() -> Iterator[str]:
    _Bomb.content = archive_of_zeros((1024 if IN_FULL else 256) * MIB)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Bomb)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    server.shutdown()
    server.server_close()
    thread.join()


def test_an_archive_that_unpacks_without_end_is_refused(bomb: str, tmp_path: Path) -> None:
    provider = OpenAIBatchProvider(OpenAIProviderConfig(model="m", api_key="k", base_url=bomb))
    target = tmp_path / "output.jsonl"
    import openai  # noqa: F401 - takes longer than the test

    began = time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(ProviderError) as caught:
            provider.download_to_path("file-1", target)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        provider.close()
    assert caught.value.error_class == "oversized_download"
    assert time.process_time() - began < 5
    assert peak < BUDGET_MIB * MIB
    assert list(tmp_path.iterdir()) == []
