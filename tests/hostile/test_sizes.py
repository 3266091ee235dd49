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
from typing import NamedTuple

import pytest

from batchor_core.core.exceptions import ProviderError
from batchor_core.providers.openai.config import OpenAIProviderConfig
from batchor_core.providers.openai.provider import OpenAIBatchProvider
from batchor_core.runtime.line_size import fits_memory

MIB = 1 << 20
BUDGET_MIB = 300
IN_FULL = bool(os.environ.get("BATCHOR_TEST_HOSTILE_SEEDS"))


class Big(NamedTuple):
    """What came of a run with a large file; memory in MiB."""

    before: int
    collected: int
    peak: int
    size: int
    completed: int
    failed: int
    longest_text: int
    batches: int


def run_big(folder: Path, *shape: object) -> Big:
    script = Path(__file__).with_name("big_files.py")
    done = subprocess.run(
        [sys.executable, str(script), str(folder), *map(str, shape)],
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    return Big(*map(int, done.stdout.split()))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_large_output_file_is_streamed(tmp_path: Path) -> None:
    rows = 20_000 if IN_FULL else 4_000
    big = run_big(tmp_path, rows, 10_000)
    assert (big.size, big.completed, big.failed) == (rows * 10_000, rows, 0)
    assert big.peak < BUDGET_MIB
    assert big.collected - big.before < 64, "the collect keeps a chunk of rows, not the file"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_rows_of_a_megabyte_are_stored_before_a_chunk_of_them_is_full(tmp_path: Path) -> None:
    big = run_big(tmp_path, 120, MIB)
    assert (big.completed, big.batches) == (120, 1)
    assert big.collected - big.before < 80


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_many_answers_that_are_no_use_are_not_all_held_until_the_end(tmp_path: Path) -> None:
    big = run_big(tmp_path, 6_000, 20_000, 0, 0, "", "mistyped")
    assert (big.completed, big.failed, big.batches) == (0, 6_000, 1)
    assert big.longest_text > 19_000, "what the first ones said is kept"
    assert big.peak < BUDGET_MIB


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(
    ("length", "first", "typed"),
    [(64 * MIB, "", "typed"), (38 * MIB, "漢", ""), (17 * MIB, r"\ud83d\ude00", "typed")],
    ids=["ASCII", "of wide characters", "of the widest"],
)
def test_the_longest_line_that_is_read_stays_within_the_budget(
    tmp_path: Path, length: int, first: str, typed: str
) -> None:
    big = run_big(tmp_path, 5, 1_000, length, 1, first, *filter(None, [typed]))
    assert (big.completed, big.batches) == (5, 1)
    assert big.longest_text > length - 1_000
    assert big.peak < BUDGET_MIB


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(
    ("length", "first"),
    [(200 * MIB, ""), (60 * MIB, r"\u6f22")],
    ids=["for all", "for wide characters"],
)
def test_a_line_that_is_too_long_counts_as_missing(tmp_path: Path, length: int, first: str) -> None:
    big = run_big(tmp_path, 5, 1_000, length, 1, first)
    assert (big.completed, big.batches) == (5, 2), "its row is asked for again"
    assert big.longest_text < 1_000
    assert big.peak < BUDGET_MIB


@pytest.mark.parametrize(
    ("first", "longest"),
    [
        (b"x", 64 * MIB),
        (rb"\n \\ \/", 64 * MIB),
        ("é".encode(), 192 * MIB // 5),
        ("漢".encode(), 192 * MIB // 5),
        (rb"\u0007", 192 * MIB // 5),
        ("😀".encode(), 192 * MIB // 11),
        (rb"\uD83D\uDE00", 192 * MIB // 11),
        (b"\xff", 192 * MIB // 11),
    ],
)
def test_how_long_a_line_may_be_depends_on_its_widest_character(first: bytes, longest: int) -> None:
    line = first.ljust(longest + 1, b"x")
    assert fits_memory(line[:-1])
    assert not fits_memory(line)


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
