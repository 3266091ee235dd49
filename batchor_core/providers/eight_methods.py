"""A provider of the eight documented methods as a :class:`~batchor_core.providers.api.BatchApi`.

The documented methods follow OpenAI's API: an uploaded file, a batch made from it, an output and an error file. This is
the only place that translates between them and the engine's protocol. A provider's abilities beyond the eight methods
are the methods of :class:`~batchor_core.providers.base.OptionalMethods` that it has.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from batchor_core.core.answers import Answer, unread
from batchor_core.core.enqueue_budget import EnqueueBudget
from batchor_core.core.exceptions import InvalidInputError, ProviderError
from batchor_core.core.models import ItemFailure, PromptParts
from batchor_core.core.outputs import OutputKind, VectorOutput
from batchor_core.core.prompts import PromptFeature
from batchor_core.core.tools import WantedTools
from batchor_core.core.types import BatchRemoteRecord, BatchRequestLine, JSONObject
from batchor_core.core.validation import MAX_METADATA_PAIRS
from batchor_core.providers.abilities import check_complete, check_spelling, own_methods
from batchor_core.providers.api import (
    DAY_SEC,
    BatchApi,
    BatchLimits,
    BatchState,
    FoundBy,
    ResultFile,
    WantedOutput,
)
from batchor_core.providers.base import BatchProvider, OptionalMethods
from batchor_core.providers.openai.answers import read_record
from batchor_core.providers.openai.batch_failure import judge_failed_batch
from batchor_core.providers.openai.counts import is_error_line, read_counts
from batchor_core.providers.openai.plain_lines import read_plain_line
from batchor_core.providers.openai.usage import usage_from_body

_OPTIONAL = tuple(name for name in vars(OptionalMethods) if not name.startswith("_"))
_DOCUMENTED = tuple(name for name in vars(BatchProvider) if not name.startswith("_"))
_BLOCK = 1 << 20


class EightMethodsApi(BatchApi):
    """Adapts ``provider``, which has the eight methods of :class:`BatchProvider`; it need not be a subclass.

    Args:
        provider: The provider.

    Raises:
        InvalidInputError: A method is named nearly like an optional one: it would be ignored silently.
    """

    def __init__(self, provider: BatchProvider) -> None:
        self._provider = provider
        self._one_text = threading.Lock()
        """Held by whoever has the text of a file in memory, which may be as large as everything else together."""
        self._optional = _optional_methods(provider)
        self.streams = "download_to_path" in self._optional
        limits = BatchLimits()
        outputs: frozenset[OutputKind] = self._call_optional("output_kinds") or limits.outputs
        prompts: frozenset[PromptFeature] = self._call_optional("prompt_features") or limits.prompts
        self.limits = BatchLimits(
            max_tags=MAX_METADATA_PAIRS,
            found_by=FoundBy.TAGS if "list_batches" in self._optional else FoundBy.NOTHING,
            can_fence="remove_input_file" in self._optional,
            can_cancel="cancel_batch" in self._optional,
            lifetime_sec=DAY_SEC,
            # texts of whole files are parsed by the provider, who keeps no exact numbers
            outputs=outputs - self._unreadable(),
            prompts=prompts,
            can_continue="continued_line" in self._optional,
            has_cache_keys="with_cache_key" in self._optional,
        )
        if (narrow := self._optional.get("narrowed_limits")) is not None:
            self.limits = narrow(self.limits)
        self._read: Callable[[JSONObject], Answer] = self._optional.get("read_record", read_record)

    def _unreadable(self) -> set[OutputKind]:
        """Kinds of answers that the methods of the provider don't suffice for."""
        if not self.streams:
            return {OutputKind.BODY, OutputKind.TOOL}
        return set() if {"build_tools_line", "read_calls"} <= self._optional.keys() else {OutputKind.TOOL}

    @property
    def provider(self) -> BatchProvider:
        """The provider that is adapted."""
        return self._provider

    # requests

    def request_line(
        self, *, custom_id: str, prompt: PromptParts, output: WantedOutput | None
    ) -> BatchRequestLine:
        """By the provider's own method for vectors or tools where it has one."""
        if isinstance(output, WantedTools):
            built: BatchRequestLine = self._optional["build_tools_line"](
                custom_id=custom_id, prompt_parts=prompt, tools=output
            )
            return built
        if not isinstance(output, VectorOutput):
            schema = output
        elif (build := self._optional.get("build_vector_line")) is not None:
            line: BatchRequestLine = build(custom_id=custom_id, prompt_parts=prompt, output=output)
            return line
        else:
            schema = None
        return self._provider.build_request_line(
            custom_id=custom_id, prompt_parts=prompt, structured_output=schema
        )

    def continued_line(self, line: BatchRequestLine, *, answer: str, reply: str) -> BatchRequestLine:
        """By the provider's own method."""
        continued: BatchRequestLine = self._optional["continued_line"](line, answer=answer, reply=reply)
        return continued

    def with_cache_key(self, line: bytes, *, key: str) -> bytes:
        """By the provider's own method."""
        keyed: bytes = self._optional["with_cache_key"](line, key=key)
        return keyed

    def estimate_tokens(self, lines: Sequence[BatchRequestLine], *, chars_per_token: int) -> list[int]:
        """All lines at once where the provider can, else one after the other."""
        together = self._optional.get("estimate_tokens")
        if together is not None:
            counts: list[int] = together(lines, chars_per_token=chars_per_token)
            return counts
        estimate = self._provider.estimate_request_tokens
        return [estimate(line, chars_per_token=chars_per_token) for line in lines]

    def unbilled_tokens(self, line: BatchRequestLine, *, chars_per_token: int) -> int:
        """The provider's own, none without the method."""
        count = self._optional.get("unbilled_tokens")
        return 0 if count is None else count(line, chars_per_token=chars_per_token)

    # submission

    def prepare(self, request_file: Path) -> str | None:
        """Upload the file."""
        return self._provider.upload_input_file(request_file)

    def discard(self, handle: str) -> None:
        """Delete the uploaded file if that is possible."""
        self._provider.delete_input_file(handle)

    def is_ready(self, handle: str) -> bool | None:
        """By the provider's own look at the file; None without one."""
        look = self._optional.get("is_input_file_ready")
        ready: bool | None = None if look is None else look(handle)
        return ready

    def find_prepared(self, file_name: str) -> list[str]:
        """Ids of uploaded files of this name, where the provider can look them up."""
        find = self._optional.get("find_input_files")
        return [] if find is None else find(file_name)

    def create(
        self, request_file: Path | None, *, handle: str | None, tags: Mapping[str, str] | None
    ) -> BatchState:
        """Create a batch from the uploaded file."""
        assert handle is not None  # prepare() uploads always
        metadata = None if tags is None else dict(tags)
        return batch_state(self._provider.create_batch(input_file_id=handle, metadata=metadata))

    # recovery

    def list_batches(self) -> Iterator[list[BatchState]]:
        """The provider's own pages."""
        for page in self._optional["list_batches"]():
            yield [_listed(record) for record in page]

    def fence(self, handle: str) -> None:
        """Delete the uploaded file: a create that names it can only fail from then on."""
        self._optional["remove_input_file"](handle)

    def key_fingerprint(self) -> str | None:
        """The provider's own, None without one."""
        found: str | None = self._call_optional("key_fingerprint")
        return found

    def earlier_fingerprints(self) -> frozenset[str]:
        """The provider's own, none without the method."""
        return frozenset(self._call_optional("earlier_fingerprints") or ())

    def clock_offset(self) -> float | None:
        """The provider's own, None without one."""
        offset: float | None = self._call_optional("clock_offset")
        return offset

    def enqueue_budget(self) -> EnqueueBudget | None:
        """The provider's own, None without one."""
        budget: EnqueueBudget | None = self._call_optional("enqueue_budget")
        return budget

    # collection

    def poll(self, batch_id: str) -> BatchState:
        return batch_state(self._provider.get_batch(batch_id))

    def fetch(self, file: ResultFile, path: Path) -> None:
        """Stream the file to disk where the provider can; else write the text that it returns."""
        to_path = self._optional.get("download_to_path")
        if to_path is not None:
            to_path(file.ref, path)
            return
        with self._one_text:  # files are fetched by several threads
            text = self._provider.download_file_content(file.ref)
            with path.open("wb") as copy:
                for start in range(0, len(text), _BLOCK):  # encoded as a whole, it would be in memory twice
                    copy.write(text[start : start + _BLOCK].encode("utf-8", "surrogatepass"))
            del text

    def read(self, record: JSONObject) -> Answer:
        """By the provider's own reader, or as a line of OpenAI's."""
        return self._read(record)

    def read_line(self, line: bytes) -> Answer | None:
        """As a line of OpenAI's, unless the provider has a reader of its own."""
        return read_plain_line(line) if self._read is read_record else None

    def read_body(self, record: JSONObject) -> Answer:
        """By the provider's own method; else as :meth:`read`."""
        reader: Callable[[JSONObject], Answer] = self._optional.get("read_body", self._read)
        return reader(record)

    def read_calls(self, record: JSONObject) -> Answer:
        """By the provider's own method, which a provider of such answers has."""
        answer: Answer = self._optional["read_calls"](record)
        return answer

    def is_failure(self, record: JSONObject, answer: Answer) -> bool:
        """By the line's status: a row that was answered uselessly was answered."""
        return answer.failure is not None and is_error_line(record)

    def read_files(self, texts: Mapping[bool, str]) -> list[tuple[Answer, JSONObject]]:
        """By ``parse_batch_output``, whose split into good and bad answers holds."""
        successes, errors, _ = self._provider.parse_batch_output(
            output_content=texts.get(False), error_content=texts.get(True)
        )
        answers = [(self._named(custom_id, record), record) for custom_id, record in successes.items()]
        for custom_id, record in errors.items():
            answer = self._named(custom_id, record)
            if answer.failure is None:  # it reads like a success, and the provider knows better
                failure = ItemFailure(
                    "provider_item_error", "the provider reports an error", True, raw_error=record
                )
                answer = answer._replace(failure=failure)
            answers.append((answer, record))
        return answers

    def _named(self, custom_id: str, record: JSONObject) -> Answer:
        try:
            return self._read(record)._replace(custom_id=custom_id)
        except Exception as error:  # one line that its reader fails on is not the batch
            return unread(custom_id, error)

    def cancel(self, batch_id: str) -> BatchState:
        """By the provider's own method."""
        return batch_state(self._optional["cancel_batch"](batch_id))

    def close(self) -> None:
        """Close the provider, if it can be closed."""
        self._call_optional("close")

    def _call_optional(self, name: str) -> Any:
        method = self._optional.get(name)
        return None if method is None else method()


def as_batch_api(provider: BatchApi | BatchProvider) -> BatchApi:
    """``provider`` itself if it speaks the engine's protocol, else adapted to it.

    Raises:
        InvalidInputError: It misses a method, or has one that is named nearly like an optional one.
    """
    if isinstance(provider, BatchApi):
        check_complete(provider)
        return provider
    missing = [name for name in _DOCUMENTED if not callable(getattr(provider, name, None))]
    if missing:
        raise InvalidInputError(
            f"{type(provider).__name__} is no provider: it has no {', '.join(missing)}. See BatchProvider for its eight methods"
        )
    return EightMethodsApi(provider)


def _listed(record: BatchRemoteRecord) -> BatchState:
    """What a list says of a batch; of one that it does not name, that there is something."""
    try:
        return batch_state(record)
    except ProviderError:
        created_at = record.get("created_at") if isinstance(record, dict) else None
        return BatchState("", "unknown", created_at=created_at)


def batch_state(record: BatchRemoteRecord) -> BatchState:
    """What the documented record of a batch says. Everything but id and status may be absent, None or empty.

    Raises:
        ProviderError: It is no such record, as when a gateway has answered in the provider's place.
    """
    try:
        return _batch_state(record)
    except (AttributeError, KeyError, TypeError) as error:
        raise ProviderError(
            f"the answer is no record of a batch: {type(error).__name__}: {error}",
            error_class=type(error).__name__,
        ) from error


def _batch_state(record: BatchRemoteRecord) -> BatchState:
    batch_id, status = record["id"], record.get("status") or "validating"
    if not isinstance(batch_id, str) or not batch_id:
        raise TypeError(f"a batch's id must be a non-empty string, not {batch_id!r}")
    status = str(status).lower()
    output, error = record.get("output_file_id"), record.get("error_file_id")
    results = [ResultFile(output)] if output else []
    if error:
        results.append(ResultFile(error, is_error_file=True))
    return BatchState(
        batch_id=batch_id,
        status=status,
        results=tuple(results),
        created_at=record.get("created_at"),
        expires_at=record.get("expires_at"),
        handle=record.get("input_file_id"),
        tags=record.get("metadata"),
        counts=read_counts(record.get("request_counts")),
        failure=judge_failed_batch(record.get("errors")) if status == "failed" else None,
        usage=usage_from_body(dict(record)),
    )


def _optional_methods(provider: Any) -> dict[str, Callable[..., Any]]:
    """The optional methods that ``provider`` has: its own, not the placeholders of :class:`OptionalMethods`."""
    own = own_methods(provider, _OPTIONAL, OptionalMethods)
    check_spelling(provider, _OPTIONAL, own, known=_DOCUMENTED)
    return own
