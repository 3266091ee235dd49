"""A digest of a run's answers: equal for equal answers, whatever their order, and whoever paid for them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from batchor_core.storage.state import ResultRow
from batchor_core.tables.stream import RowPages

ANSWERS_DIGEST = "batchor/answers_digest"


class Digesting(RowPages):
    """Hands on the pages of a run while its table is written from them, and keeps their digest.

    Args:
        run: A ``batchor_core.Run``.
    """

    def __init__(self, run: RowPages) -> None:
        self._run = run
        self._total = 0

    def iter_row_pages(self, *, page_size: int = 1_000) -> Iterator[list[ResultRow]]:
        """The run's pages."""
        self._total = 0
        for page in self._run.iter_row_pages(page_size=page_size):
            self._total += sum(map(_number, page))
            yield page

    @property
    def digest(self) -> str:
        """Of the rows of the last reading: their ids and what they were answered."""
        return f"{self._total % 2**128:032x}"


def _number(row: ResultRow) -> int:
    answer = row.output_text if row.output_text is not None else row.output_json or ""
    told = f"{row.item_id}\0{row.status}\0{answer}".encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(told, digest_size=16)
    if row.output_data is not None:
        digest.update(row.output_data)
    return int.from_bytes(digest.digest(), "big")
