"""What the engine asks of a provider: eight methods, and hooks that a provider may have beside them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from batchor_core.core.enqueue_budget import EnqueueBudget, account_of, budget_of
from batchor_core.core.models import PromptParts, ProviderConfig
from batchor_core.core.outcome import Answer, read_record
from batchor_core.core.structured import StructuredOutputSchema
from batchor_core.core.types import BatchRemoteRecord, BatchRequestLine, JSONObject

__all__ = ["BatchProvider", "EnqueueBudget", "ProviderConfig", "ProviderHooks", "TokenEstimator"]


class BatchProvider(ABC):
    """Adapter between the engine and one batch API.

    Methods raise :class:`~batchor_core.core.exceptions.ProviderError` and nothing else that is the vendor's.
    Each call does one thing once: the engine owns retries and waiting. Further abilities are optional methods, which
    :class:`ProviderHooks` lists; a class with the eight methods alone, this one's subclass or not, is a provider.
    """

    @abstractmethod
    def build_request_line(
        self,
        *,
        custom_id: str,
        prompt_parts: PromptParts,
        structured_output: StructuredOutputSchema | None = None,
    ) -> BatchRequestLine:
        """Build one line of a batch input file. The same arguments give the same line, byte for byte."""

    @abstractmethod
    def upload_input_file(self, input_path: str | Path) -> str:
        """Upload a JSONL file under its own name and return the provider's file id."""

    @abstractmethod
    def delete_input_file(self, file_id: str) -> None:
        """Try to delete an uploaded file. Failure is swallowed: this only tidies up."""

    @abstractmethod
    def create_batch(
        self, *, input_file_id: str, metadata: dict[str, str] | None = None
    ) -> BatchRemoteRecord:
        """Create a batch from an uploaded file. Sends exactly one request, since a second one costs money again.

        Raises:
            ProviderError: With ``not_performed=True`` only if certainly no batch came of it.
        """

    @abstractmethod
    def get_batch(self, batch_id: str) -> BatchRemoteRecord:
        """Ask how a batch is doing."""

    @abstractmethod
    def download_file_content(self, file_id: str) -> str:
        """Return a whole file as text. Its ``download_to_path`` sibling is used where there is one."""

    @abstractmethod
    def parse_batch_output(
        self, *, output_content: str | None, error_content: str | None
    ) -> tuple[dict[str, JSONObject], dict[str, JSONObject], list[JSONObject]]:
        """Split the text of a batch's two files into ``(successes, errors, all_records)``.

        The first two map custom_id to record; a success wins over an error of the same id.
        """

    @abstractmethod
    def estimate_request_tokens(self, request_line: BatchRequestLine, *, chars_per_token: int) -> int:
        """Estimate a line's prompt tokens. ``chars_per_token`` divides characters where there is no tokenizer."""


class TokenEstimator(Protocol):
    """Estimates the prompt tokens of several lines at once, in their order."""

    def __call__(self, lines: Sequence[BatchRequestLine], *, chars_per_token: int) -> list[int]: ...


@dataclass(frozen=True, slots=True)
class ProviderHooks:
    """The optional abilities of a provider, found by name, each with a harmless default.

    Attributes:
        estimate_tokens: ``(lines, *, chars_per_token) -> list[int]``; by default one line after the other.
        read_record: Line of an output or error file to :class:`Answer`; by default the OpenAI line format.
        download_to_path: ``(file_id, path) -> bytes written``, streamed, whole or ProviderError.
        cancel_batch: ``(batch_id) -> record``; a batch that has ended is no error.
        list_batches: Pages of batches, newest first, fetched as they are asked for.
        remove_input_file: Returns only if the file is gone (or never was), else raises ProviderError.
        find_input_files: ``(filename) -> ids`` of uploaded input files of that name.
        is_input_file_ready: ``(file_id) -> True``, False while it is not there or not processed yet, None if that can't be
            told. Raises ProviderError if the provider has rejected it.
        key_fingerprint: Tells accounts apart without revealing the key; None if unknown. By default what the config says.
        enqueue_budget: Limit of tokens in flight; None for none. By default what the config says; where the config sets
            limits, they apply, and of this only the key counts.
        clock_offset: Seconds by which the provider's clock is ahead of this process's, by its last answer; None if unknown.
        close: Releases connections.
    """

    estimate_tokens: TokenEstimator
    read_record: Callable[[JSONObject], Answer]
    download_to_path: Callable[[str, Path], int] | None
    cancel_batch: Callable[[str], BatchRemoteRecord] | None
    list_batches: Callable[[], Iterator[list[BatchRemoteRecord]]] | None
    remove_input_file: Callable[[str], None] | None
    find_input_files: Callable[[str], list[str]] | None
    is_input_file_ready: Callable[[str], bool | None] | None
    key_fingerprint: Callable[[], str | None]
    enqueue_budget: Callable[[], EnqueueBudget | None]
    clock_offset: Callable[[], float | None]
    close: Callable[[], None]

    @classmethod
    def of(cls, provider: Any) -> ProviderHooks:
        """Look up what ``provider`` offers beyond the eight methods."""

        def one_by_one(lines: Sequence[BatchRequestLine], *, chars_per_token: int) -> list[int]:
            return [provider.estimate_request_tokens(line, chars_per_token=chars_per_token) for line in lines]

        def hook(name: str, default: Any = None) -> Any:
            found = getattr(provider, name, None)
            return found if callable(found) else default

        return cls(
            estimate_tokens=hook("estimate_tokens", one_by_one),
            read_record=hook("read_record", read_record),
            download_to_path=hook("download_to_path"),
            cancel_batch=hook("cancel_batch"),
            list_batches=hook("list_batches"),
            remove_input_file=hook("remove_input_file"),
            find_input_files=hook("find_input_files"),
            is_input_file_ready=hook("is_input_file_ready"),
            key_fingerprint=hook("key_fingerprint", _nothing),
            enqueue_budget=hook("enqueue_budget", _nothing),
            clock_offset=hook("clock_offset", _nothing),
            close=hook("close", _nothing),
        )

    def completed_by(self, config: Any) -> ProviderHooks:
        """The same hooks, with what the config knows where the provider says nothing."""

        def key_fingerprint() -> str | None:
            return self.key_fingerprint() or account_of(config)

        def enqueue_budget() -> EnqueueBudget | None:
            limits, stated = budget_of(config), self.enqueue_budget()
            if limits is None or stated is None:
                return limits or stated
            return replace(limits, key=stated.key)  # the provider knows its account best

        return replace(self, key_fingerprint=key_fingerprint, enqueue_budget=enqueue_budget)


def _nothing() -> None:
    return None
