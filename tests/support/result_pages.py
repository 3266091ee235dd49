"""Pages of stored rows, as a run gives them, for tests of tables and of what stands on them."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel, Field

from batchor_core.core.enums import ItemStatus
from batchor_core.core.models import ItemFailure
from batchor_core.core.usage import TokenUsage
from batchor_core.storage.rows import row_of
from batchor_core.storage.state import PersistedItemRecord, ResultRow


class Place(BaseModel):
    city: str


class Review(BaseModel):
    stars: int = Field(description="One to five")
    status: str
    place: Place | None = None


class Pages:
    """Pages of rows from a list of records, as a run gives them."""

    def __init__(self, records: list[PersistedItemRecord]) -> None:
        self.rows = [row_of(record) for record in records]

    def iter_row_pages(self, *, page_size: int = 1000) -> Iterator[list[ResultRow]]:
        for start in range(0, len(self.rows), page_size):
            yield self.rows[start : start + page_size]


class BrokenPages(Pages):
    def iter_row_pages(self, *, page_size: int = 1000) -> Iterator[list[ResultRow]]:
        yield from super().iter_row_pages(page_size=page_size)
        raise ConnectionError("the database went away")


def good(
    index: int, text: str | None = '{"stars":5,"status":"new","place":{"city":"Rome"}}'
) -> PersistedItemRecord:
    return PersistedItemRecord(
        item_id=f"row-{index}",
        item_index=index,
        status=ItemStatus.COMPLETED,
        attempt_count=1,
        metadata={"line": index},
        terminal_result_sequence=index + 1,
        output_text=text,
        usage=TokenUsage(10, 2, 3, 1),
    )


def bad(index: int, text: str | None = None) -> PersistedItemRecord:
    return PersistedItemRecord(
        item_id=f"row-{index}",
        item_index=index,
        status=ItemStatus.FAILED_PERMANENT,
        attempt_count=3,
        metadata={},
        terminal_result_sequence=index + 1,
        output_text=text,
        error=ItemFailure("refusal", "I can't", False),
    )
