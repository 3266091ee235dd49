"""What the server really did: the truth that a client's own records can be held against."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from batchor_core.testing.local_server.records import Batch, StoredFile
from batchor_core.testing.local_server.store import Execution, LoggedRequest, Store


class Books:
    """The batches that were created, the rows that were executed and paid, the files, the requests.

    Nothing a fault hides from a client is hidden here.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def batches(self) -> list[Batch]:
        """Every batch that was created, oldest first, as it was when last requested."""
        return list(self._store.batches(oldest_first=True))

    @property
    def files(self) -> list[StoredFile]:
        """Every file that is still there, oldest first."""
        return self._store.files()

    @property
    def all_files(self) -> list[StoredFile]:
        """Every file that ever was, oldest first."""
        return self._store.files(deleted=True)

    @property
    def requests(self) -> list[LoggedRequest]:
        """Every HTTP request in order, those of ``/_control`` excepted."""
        return list(self._store.requests())

    def executions(self) -> Iterator[Execution]:
        """Every row that was executed, in order, read lazily."""
        return self._store.executions()

    @property
    def rows_executed(self) -> int:
        """How many rows were executed."""
        return self._store.count_executions_by("outcome").total()

    @property
    def outcomes(self) -> Counter[str]:
        """How many executed rows ended in which way."""
        return self._store.count_executions_by("outcome")

    @property
    def times_executed(self) -> Counter[str]:
        """How often each custom_id was executed."""
        return self._store.count_executions_by("custom_id")

    @property
    def bodies_executed(self) -> Counter[str]:
        """How often each request body, by its SHA-256, was executed, under whatever custom_ids."""
        return self._store.count_executions_by("body_sha256")

    @property
    def bodies_executed_twice(self) -> Counter[str]:
        """The bodies that were executed more than once: work paid again."""
        return self._store.count_executions_by("body_sha256", more_than=1)

    def as_json(self) -> dict[str, Any]:
        """A summary in plain data, as ``GET /_control/books`` gives it. Executions are only counted."""
        return {
            "batches": [
                {
                    "id": batch.id,
                    "status": batch.status.value,
                    "input_file_id": batch.input_file_id,
                    "output_file_id": batch.output_file_id,
                    "error_file_id": batch.error_file_id,
                    "model": batch.model,
                    "rows": batch.total,
                    "metadata": batch.metadata,
                    "created_at": batch.created_at,
                    "ended_at": batch.ended_at,
                    "usage": batch.tokens.as_usage(),
                }
                for batch in self.batches
            ],
            "files": [file.as_json(omit_nulls=False) for file in self.files],
            "rows_executed": self.rows_executed,
            "outcomes": dict(self.outcomes),
            "custom_ids_executed": self._store.count_distinct("custom_id"),
            "bodies_executed": self._store.count_distinct("body_sha256"),
            "bodies_executed_twice": dict(self.bodies_executed_twice),
            "requests": [request._asdict() for request in self.requests],
        }
