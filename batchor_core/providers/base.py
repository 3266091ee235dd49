"""The documented provider: eight methods, and optional ones that add abilities."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path

from batchor_core.core.answers import Answer
from batchor_core.core.enqueue_budget import EnqueueBudget
from batchor_core.core.models import PromptParts, ProviderConfig
from batchor_core.core.outputs import OutputKind, VectorOutput
from batchor_core.core.prompts import PromptFeature
from batchor_core.core.structured import StructuredOutputSchema
from batchor_core.core.tools import WantedTools
from batchor_core.core.types import BatchRemoteRecord, BatchRequestLine, JSONObject
from batchor_core.providers.api import BatchLimits

__all__ = ["BatchProvider", "EnqueueBudget", "OptionalMethods", "ProviderConfig"]


class BatchProvider(ABC):
    """Adapter between the engine and one batch API.

    Methods translate every vendor error into :class:`~batchor_core.core.exceptions.ProviderError`. Each call does one
    thing once: the engine handles retries and waiting. Optional abilities are the methods of :class:`OptionalMethods`;
    any class with the eight methods, a subclass of this one or not, is a provider.
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
        """Try to delete an uploaded file. This is only clean-up: failure is ignored."""

    @abstractmethod
    def create_batch(
        self, *, input_file_id: str, metadata: dict[str, str] | None = None
    ) -> BatchRemoteRecord:
        """Create a batch from an uploaded file. Sends exactly one request, since a second one costs money again.

        Raises:
            ProviderError: With ``not_performed=True`` only if it is certain that no batch was created.
        """

    @abstractmethod
    def get_batch(self, batch_id: str) -> BatchRemoteRecord:
        """Fetch the state of a batch."""

    @abstractmethod
    def download_file_content(self, file_id: str) -> str:
        """Return a whole file as text. The engine uses ``download_to_path`` instead if the provider has it."""

    @abstractmethod
    def parse_batch_output(
        self, *, output_content: str | None, error_content: str | None
    ) -> tuple[dict[str, JSONObject], dict[str, JSONObject], list[JSONObject]]:
        """Split the text of a batch's two files into ``(successes, errors, all_records)``.

        The first two map custom_id to record; a success wins over an error of the same id. Where every line of a long file is a
        JSON object with a ``custom_id`` of its own, this is called several times, with some of the lines each.
        """

    @abstractmethod
    def estimate_request_tokens(self, request_line: BatchRequestLine, *, chars_per_token: int) -> int:
        """Estimate a line's prompt tokens. ``chars_per_token`` divides characters if there is no tokenizer."""


class OptionalMethods:
    """Optional methods of a provider of the eight methods. Inherit from it to have a type checker compare your
    signatures; any class with methods of these names works too.

    A method that is not overridden counts as missing, and the engine works without it. A method whose name is almost
    one of these is refused, since a misspelt method would silently be missing.
    """

    def estimate_tokens(self, lines: Sequence[BatchRequestLine], *, chars_per_token: int) -> list[int]:
        """Estimate the prompt tokens of several lines at once, in their order. Default: one line after the other."""
        raise NotImplementedError

    def unbilled_tokens(self, line: BatchRequestLine, *, chars_per_token: int) -> int:
        """How many of a line's estimated tokens are not billed, such as a part of its schema. Default: none."""
        raise NotImplementedError

    def build_vector_line(
        self, *, custom_id: str, prompt_parts: PromptParts, output: VectorOutput
    ) -> BatchRequestLine:
        """Build the line of a run whose answers are vectors, which asks for the dimensions that the job expects.

        Default: :meth:`BatchProvider.build_request_line`, which does not know them.
        """
        raise NotImplementedError

    def continued_line(self, line: BatchRequestLine, *, answer: str, reply: str) -> BatchRequestLine:
        """The request of a line with the answer that it got and what the user says to it behind it; ``line`` is not changed.

        Default: jobs with ``RetryPolicy(repair=...)`` are refused.
        """
        raise NotImplementedError

    def with_cache_key(self, line: bytes, *, key: str) -> bytes:
        """A finished request line that asks for its prompt to be cached under a key; see ``BatchApi.with_cache_key``.

        Default: no keys.
        """
        raise NotImplementedError

    def build_tools_line(
        self, *, custom_id: str, prompt_parts: PromptParts, tools: WantedTools
    ) -> BatchRequestLine:
        """Build the line of a run whose answers are calls of tools. Needs :meth:`output_kinds` to name ``OutputKind.TOOL``."""
        raise NotImplementedError

    def read_calls(self, record: JSONObject) -> Answer:
        """Read a line in such a run; see ``BatchApi.read_calls``. Needs :meth:`download_to_path`."""
        raise NotImplementedError

    def read_record(self, record: JSONObject) -> Answer:
        """Read a line of an output or error file. Default: the line format of the OpenAI Batch API."""
        raise NotImplementedError

    def read_body(self, record: JSONObject) -> Answer:
        """Read a line in a run whose answers are whole response bodies; see ``BatchApi.read_body``.

        Needs :meth:`output_kinds` to name ``OutputKind.BODY``, and :meth:`download_to_path`. Default: :meth:`read_record`.
        """
        raise NotImplementedError

    def output_kinds(self) -> frozenset[OutputKind]:
        """The kinds of answers that the provider supports. Default: texts and models."""
        raise NotImplementedError

    def narrowed_limits(self, limits: BatchLimits) -> BatchLimits:
        """What the API accepts and supports, less than ``limits``, which the engine derives from the provider's methods.

        Default: ``limits``.
        """
        raise NotImplementedError

    def prompt_features(self) -> frozenset[PromptFeature]:
        """What :meth:`BatchProvider.build_request_line` supports besides a prompt's two texts. Default: nothing."""
        raise NotImplementedError

    def download_to_path(self, file_id: str, path: str | Path) -> int:
        """Stream a file to disk, completely or not at all, and return its size. Default: it is held as a text."""
        raise NotImplementedError

    def cancel_batch(self, batch_id: str) -> BatchRemoteRecord:
        """Cancel a batch; not an error if it has ended. Default: batches of a cancelled run run to their end."""
        raise NotImplementedError

    def list_batches(self) -> Iterator[list[BatchRemoteRecord]]:
        """Pages of batches with their metadata, newest first, each fetched on demand.

        Default: a submission of unknown outcome can't be looked up, and ``EngineSettings.on_unknown`` decides.
        """
        raise NotImplementedError

    def remove_input_file(self, file_id: str) -> None:
        """Delete a file, and return only if it is gone or never existed. Default: a late create can't be prevented."""
        raise NotImplementedError

    def find_input_files(self, filename: str) -> list[str]:
        """Ids of uploaded files of this name. Default: uploads that a process left when it died stay."""
        raise NotImplementedError

    def is_input_file_ready(self, file_id: str) -> bool | None:
        """Whether an uploaded file is processed; None if unknown. Default: only the create shows it.

        Raises:
            ProviderError: The provider has rejected the file.
        """
        raise NotImplementedError

    def key_fingerprint(self) -> str | None:
        """A digest that distinguishes accounts. Default: the config's."""
        raise NotImplementedError

    def earlier_fingerprints(self) -> frozenset[str]:
        """What ``key_fingerprint`` has returned for the same account in earlier versions. Default: nothing else."""
        raise NotImplementedError

    def enqueue_budget(self) -> EnqueueBudget | None:
        """The limit of tokens in flight. Default: the config's, which takes precedence anyway, except for the key."""
        raise NotImplementedError

    def clock_offset(self) -> float | None:
        """Seconds by which the provider's clock is ahead of this process's. Default: the clocks agree."""
        raise NotImplementedError

    def close(self) -> None:
        """Release connections. Default: nothing."""
        raise NotImplementedError
