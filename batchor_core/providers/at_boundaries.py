"""A provider whose calls are named boundaries: each uses a network, and may have had its effect even if it failed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from batchor_core.core.answers import Answer
from batchor_core.core.boundaries import Boundary, at
from batchor_core.core.enqueue_budget import EnqueueBudget, account_of, budget_of, earlier_accounts_of
from batchor_core.core.models import PromptParts, ProviderConfig
from batchor_core.core.types import BatchRequestLine, JSONObject
from batchor_core.providers.api import BatchApi, BatchState, ResultFile, WantedOutput


class ApiAtBoundaries(BatchApi):
    """Passes every call on to ``api``; those that leave this process pass a boundary.

    If the provider does not state its account or token limit, the config's are used.
    """

    def __init__(self, api: BatchApi, config: ProviderConfig) -> None:
        self._api = api
        self._config = config
        self.limits = api.limits
        self.streams = api.streams

    def prepare(self, request_file: Path) -> str | None:
        with at(Boundary.UPLOAD_FILE):
            return self._api.prepare(request_file)

    def discard(self, handle: str) -> None:
        with at(Boundary.DELETE_FILE):
            self._api.discard(handle)

    def find_prepared(self, file_name: str) -> list[str]:
        with at(Boundary.FIND_FILES):
            return self._api.find_prepared(file_name)

    def is_ready(self, handle: str) -> bool | None:
        with at(Boundary.LOOK_AT_FILE):
            return self._api.is_ready(handle)

    def create(
        self, request_file: Path | None, *, handle: str | None, tags: Mapping[str, str] | None
    ) -> BatchState:
        with at(Boundary.CREATE_BATCH):
            return self._api.create(request_file, handle=handle, tags=tags)

    def list_batches(self) -> Iterator[list[BatchState]]:
        """Each page is a call of its own."""
        pages = iter(self._api.list_batches())
        while True:
            with at(Boundary.LIST_BATCHES):
                page = next(pages, None)
            if page is None:
                return
            yield page

    def fence(self, handle: str) -> None:
        with at(Boundary.REMOVE_FILE):
            self._api.fence(handle)

    def poll(self, batch_id: str) -> BatchState:
        with at(Boundary.GET_BATCH):
            return self._api.poll(batch_id)

    def fetch(self, file: ResultFile, path: Path) -> None:
        with at(Boundary.DOWNLOAD_FILE):
            self._api.fetch(file, path)

    def cancel(self, batch_id: str) -> BatchState:
        with at(Boundary.CANCEL_BATCH):
            return self._api.cancel(batch_id)

    # what makes no request

    def request_line(
        self, *, custom_id: str, prompt: PromptParts, output: WantedOutput | None
    ) -> BatchRequestLine:
        return self._api.request_line(custom_id=custom_id, prompt=prompt, output=output)

    def continued_line(self, line: BatchRequestLine, *, answer: str, reply: str) -> BatchRequestLine:
        return self._api.continued_line(line, answer=answer, reply=reply)

    def with_cache_key(self, line: bytes, *, key: str) -> bytes:
        return self._api.with_cache_key(line, key=key)

    def custom_id_of(self, record: JSONObject) -> str:
        return self._api.custom_id_of(record)

    def estimate_tokens(self, lines: Sequence[BatchRequestLine], *, chars_per_token: int) -> list[int]:
        return self._api.estimate_tokens(lines, chars_per_token=chars_per_token)

    def unbilled_tokens(self, line: BatchRequestLine, *, chars_per_token: int) -> int:
        return self._api.unbilled_tokens(line, chars_per_token=chars_per_token)

    def read(self, record: JSONObject) -> Answer:
        return self._api.read(record)

    def read_line(self, line: bytes) -> Answer | None:
        """See :meth:`BatchApi.read_line`."""
        return self._api.read_line(line)

    def read_body(self, record: JSONObject) -> Answer:
        return self._api.read_body(record)

    def read_calls(self, record: JSONObject) -> Answer:
        return self._api.read_calls(record)

    def is_failure(self, record: JSONObject, answer: Answer) -> bool:
        return self._api.is_failure(record, answer)

    def read_files(self, texts: Mapping[bool, str]) -> list[tuple[Answer, JSONObject]]:
        return self._api.read_files(texts)

    def enqueue_budget(self) -> EnqueueBudget | None:
        """The config's limits, under the provider's own name for the account where it has one."""
        limits, stated = budget_of(self._config), self._api.enqueue_budget()
        if limits is None or stated is None:
            return limits or stated
        return replace(limits, key=stated.key)

    def key_fingerprint(self) -> str | None:
        """The provider's own; else by the config."""
        return self._api.key_fingerprint() or account_of(self._config)

    def earlier_fingerprints(self) -> frozenset[str]:
        """The provider's own; else by the config."""
        if self._api.key_fingerprint():
            return self._api.earlier_fingerprints()
        return earlier_accounts_of(self._config)

    def clock_offset(self) -> float | None:
        return self._api.clock_offset()

    def close(self) -> None:
        self._api.close()
