"""A batch provider in memory, for tests of jobs and of the engine."""

from __future__ import annotations

import itertools
import json
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from batchor_core.core.answers import Answer, parse_line
from batchor_core.core.exceptions import ProviderError, ProviderErrorKind
from batchor_core.core.lifecycle import is_terminal_batch
from batchor_core.core.models import PromptParts
from batchor_core.core.outputs import OutputKind
from batchor_core.core.prompts import PromptFeature
from batchor_core.core.structured import StructuredOutputSchema
from batchor_core.core.types import BatchRemoteRecord, BatchRequestLine, JSONObject
from batchor_core.providers.base import BatchProvider, EnqueueBudget, OptionalMethods
from batchor_core.providers.openai.answers import read_record, was_answered
from batchor_core.providers.openai.counts import is_error_line
from batchor_core.providers.openai.usage import usage_from_body
from batchor_core.providers.registry import ProviderRegistry, build_default_provider_registry
from batchor_core.testing.fake_batch import FakeBatch
from batchor_core.testing.fake_clock import FakeClock
from batchor_core.testing.fake_config import FAKE_KIND, FakeProviderConfig
from batchor_core.testing.fake_rows import (
    AnswerFunction,
    answer_row,
    default_answer,
    row_error,
)

T = TypeVar("T")


@dataclass
class _Fault:
    error: BaseException
    after: bool


class FakeProvider(BatchProvider, OptionalMethods):
    """Runs batches in memory, answers and fails as configured, and records what really happened.

    ::

        provider = FakeProvider(answer=lambda line: "yes")
        provider.fail("create_batch", ProviderError("lost"), after=True)   # created, but the response is lost
        runner = BatchRunner(provider_factory=lambda config: provider, ...)

    All attributes may be changed at any time. Methods may be called from several threads.

    Args:
        config: Settings; the default ones if left out.
        answer: Answers each row when its batch ends. By default a text made of the prompt, or with a schema
            JSON that satisfies it, of words of the prompt.
        statuses: What a new batch goes through, one status for each time it is looked at; the last one stays.
        answered_rows: How many rows of a batch that expires or is cancelled are answered; the others are not.
        budget: What :meth:`enqueue_budget` returns.
        fingerprint: What :meth:`key_fingerprint` returns.
        files_ready: What :meth:`is_input_file_ready` returns.
        clock: Gives ``created_at``; without it, batches are a second apart.
        states_counts: Whether a batch that has ended states ``request_counts``; rows that are left out are stated as failed.
        outputs: What :meth:`output_kinds` returns; by default every kind.
        prompts: What :meth:`prompt_features` returns; by default every feature.

    Attributes:
        files: Contents by file id, deleted ones gone.
        filenames: Names of uploaded files by id, deleted ones too.
        batches: All batches by id, oldest first.
        calls: Every call as ``(method, argument)``.
        paid: How many times each custom_id was answered: what a real provider would bill.
    """

    def __init__(
        self,
        config: FakeProviderConfig | None = None,
        *,
        answer: AnswerFunction | None = None,
        statuses: Sequence[str] = ("in_progress", "completed"),
        answered_rows: int = 0,
        budget: EnqueueBudget | None = None,
        fingerprint: str | None = "fake",
        files_ready: bool | None = None,
        clock: FakeClock | None = None,
        states_counts: bool = False,
        outputs: Iterable[OutputKind] = OutputKind,
        prompts: Iterable[PromptFeature] = PromptFeature,
    ) -> None:
        self.config = config or FakeProviderConfig()
        self.states_counts = states_counts
        self.outputs = frozenset(outputs)
        self.prompts = frozenset(prompts)
        self.answer: AnswerFunction = answer or default_answer
        self.statuses = statuses
        self.answered_rows = answered_rows
        self.budget = budget
        self.fingerprint = fingerprint
        self.files_ready = files_ready
        self.files: dict[str, bytes] = {}
        self.filenames: dict[str, str] = {}
        self.batches: dict[str, FakeBatch] = {}
        self.calls: list[tuple[str, Any]] = []
        self.paid: Counter[str] = Counter()
        self.closed = False
        self._faults: dict[str, deque[_Fault]] = defaultdict(deque)
        self._numbers = itertools.count(1)
        self._clock = clock
        self._lock = threading.RLock()

    # Controls.

    def fail(
        self, method: str, error: BaseException | None = None, *, times: int = 1, after: bool = False
    ) -> None:
        """Let the next ``times`` calls of ``method`` raise ``error``, a ProviderError to retry by default.

        With ``after=True`` the call does its work first, as when an answer is lost on its way. Faults queue up.
        """
        if not callable(getattr(self, method, None)):
            raise ValueError(f"FakeProvider has no method {method!r}")
        raised = error or ProviderError(f"{method}: told to fail", error_class="fake_failure")
        self._faults[method].extend(_Fault(raised, after) for _ in range(times))

    def set_statuses(self, batch_id: str, *statuses: str, errors: Any = None) -> None:
        """Replace what is still to come for one batch; ``errors`` go with the status ``failed``."""
        with self._lock:
            self.batches[batch_id].steps = deque(statuses)
            self.batches[batch_id].errors = errors

    def count(self, method: str) -> int:
        """How many times a method was called."""
        return sum(name == method for name, _ in self.calls)

    def submitted(self) -> Counter[str]:
        """How many batches each custom_id was sent in, whether they were ever looked at again or not."""
        return Counter(line["custom_id"] for batch in self.batches.values() for line in batch.lines)

    # The eight methods.

    def build_request_line(
        self,
        *,
        custom_id: str,
        prompt_parts: PromptParts,
        structured_output: StructuredOutputSchema | None = None,
    ) -> BatchRequestLine:
        """Build a line like that of the Responses endpoint."""
        asked: Any = prompt_parts.prompt if prompt_parts.messages is None else list(prompt_parts.messages)
        body: dict[str, Any] = {"model": self.config.model, **(prompt_parts.options or {}), "input": asked}
        if prompt_parts.system_prompt is not None:
            body["instructions"] = prompt_parts.system_prompt
        if structured_output is not None:
            body["text"] = {
                "format": {
                    "type": "json_schema",
                    "name": structured_output.name,
                    "schema": structured_output.schema,
                }
            }
        return {"custom_id": custom_id, "method": "POST", "url": "/v1/responses", "body": body}

    def upload_input_file(self, input_path: str | Path) -> str:
        """Keep a file under its own name."""
        path = Path(input_path)
        return self._do("upload_input_file", path.name, lambda: self._keep(path.name, path.read_bytes()))

    def delete_input_file(self, file_id: str) -> None:
        """Forget a file; an error that was asked for is swallowed."""
        try:
            self._do("delete_input_file", file_id, lambda: self.files.pop(file_id, None))
        except ProviderError:
            return

    def create_batch(
        self, *, input_file_id: str, metadata: dict[str, str] | None = None
    ) -> BatchRemoteRecord:
        """Create a batch."""
        return self._do("create_batch", input_file_id, lambda: self._create(input_file_id, metadata or {}))

    def get_batch(self, batch_id: str) -> BatchRemoteRecord:
        """Move a batch one step on and say how it is doing."""
        return self._do("get_batch", batch_id, lambda: self._step(self._batch(batch_id)))

    def download_file_content(self, file_id: str) -> str:
        """Return a file as text."""
        return self._do("download_file_content", file_id, lambda: self._file(file_id).decode())

    def parse_batch_output(
        self, *, output_content: str | None, error_content: str | None
    ) -> tuple[dict[str, JSONObject], dict[str, JSONObject], list[JSONObject]]:
        """Split texts of files into successes, errors and all records."""
        lines = [line for text in (output_content, error_content) for line in (text or "").split("\n")]
        records = [record for record in map(parse_line, lines) if record is not None]
        named = [(str(record.get("custom_id")), record) for record in reversed(records)]
        successes = {name: record for name, record in named if was_answered(record)}
        errors = {name: record for name, record in named if name not in successes}
        return successes, errors, records

    def estimate_request_tokens(self, request_line: BatchRequestLine, *, chars_per_token: int) -> int:
        """Count the characters of the input and the instructions."""
        body = request_line["body"]
        characters = len(str(body.get("input", ""))) + len(str(body.get("instructions", "")))
        return -(-characters // max(1, chars_per_token))

    # Hooks; see OptionalMethods for what each promises.

    def continued_line(self, line: BatchRequestLine, *, answer: str, reply: str) -> BatchRequestLine:
        """Put two messages behind the input."""
        asked = line["body"]["input"]
        turns = [{"role": "user", "content": asked}] if isinstance(asked, str) else list(asked)
        turns += [{"role": "assistant", "content": answer}, {"role": "user", "content": reply}]
        return {**line, "body": {**line["body"], "input": turns}}

    def read_record(self, record: JSONObject) -> Answer:
        """Read a line, which may hold a vector: see :func:`vector_row`."""
        if was_answered(record) and isinstance(found := record["response"]["body"].get("data"), list):
            usage = usage_from_body(record["response"]["body"])
            return Answer(str(record.get("custom_id")), usage=usage, value=found[0]["vector"])
        return read_record(record)

    def read_body(self, record: JSONObject) -> Answer:
        """Read a line for its whole body, whatever it holds: see :func:`body_row`."""
        if not was_answered(record):
            return read_record(record)
        body = record["response"]["body"]
        return Answer(str(record.get("custom_id")), usage=usage_from_body(body), value=body)

    def output_kinds(self) -> frozenset[OutputKind]:
        """Return what was given as ``outputs``."""
        return self.outputs

    def prompt_features(self) -> frozenset[PromptFeature]:
        """Return what was given as ``prompts``."""
        return self.prompts

    def download_to_path(self, file_id: str, path: str | Path) -> int:
        """Write a file to disk."""
        return self._do("download_to_path", file_id, lambda: Path(path).write_bytes(self._file(file_id)))

    def cancel_batch(self, batch_id: str) -> BatchRemoteRecord:
        """Begin to cancel a batch that has not ended: ``cancelling`` now, ``cancelled`` at the next look."""
        return self._do("cancel_batch", batch_id, lambda: self._cancel(self._batch(batch_id)))

    def list_batches(self) -> Iterator[list[BatchRemoteRecord]]:
        """Yield the listed batches, newest first, two on a page."""
        newest = self._do(
            "list_batches", None, lambda: [b for b in reversed(self.batches.values()) if b.listed]
        )
        for start in range(0, len(newest), 2):
            yield [batch.record() for batch in newest[start : start + 2]]

    def remove_input_file(self, file_id: str) -> None:
        """Forget a file, or raise."""
        self._do("remove_input_file", file_id, lambda: self.files.pop(file_id, None))

    def find_input_files(self, filename: str) -> list[str]:
        """Return the ids of the files uploaded under this name and still there."""
        return self._do(
            "find_input_files",
            filename,
            lambda: [
                file_id
                for file_id, name in self.filenames.items()
                if name == filename and file_id in self.files
            ],
        )

    def is_input_file_ready(self, file_id: str) -> bool | None:
        """Return what was given as ``files_ready``."""
        return self._do("is_input_file_ready", file_id, lambda: self.files_ready)

    def key_fingerprint(self) -> str | None:
        """Return what was given as ``fingerprint``."""
        return self.fingerprint

    def enqueue_budget(self) -> EnqueueBudget | None:
        """Return what was given as ``budget``."""
        return self.budget

    def close(self) -> None:
        """Remember that it was closed."""
        self.closed = True

    # The work behind them.

    def _do(self, method: str, argument: Any, work: Callable[[], T]) -> T:
        with self._lock:
            self.calls.append((method, argument))
            fault = self._faults[method].popleft() if self._faults[method] else None
            if fault is not None and not fault.after:
                raise fault.error
            result = work()
            if fault is not None:
                raise fault.error
            return result

    def _keep(self, name: str, content: bytes) -> str:
        file_id = f"file-{next(self._numbers)}"
        self.files[file_id] = content
        self.filenames[file_id] = name
        return file_id

    def _create(self, input_file_id: str, metadata: dict[str, str]) -> BatchRemoteRecord:
        if input_file_id not in self.files:
            raise ProviderError(
                f"cannot find file {input_file_id}",
                kind=ProviderErrorKind.NOT_READY,
                error_class="input_file_not_ready",
                status_code=400,
                not_performed=True,
            )
        number = next(self._numbers)
        batch = FakeBatch(
            id=f"batch_{number}",
            input_file_id=input_file_id,
            metadata=dict(metadata),
            created_at=self._clock.time() if self._clock else 1_767_225_600.0 + number,
            lines=[json.loads(line) for line in self.files[input_file_id].split(b"\n") if line.strip()],
            steps=deque(self.statuses),
        )
        self.batches[batch.id] = batch
        return batch.record()

    def _step(self, batch: FakeBatch) -> BatchRemoteRecord:
        if batch.steps and not is_terminal_batch(batch.status):
            batch.status = batch.steps.popleft()
            if is_terminal_batch(batch.status) and batch.status.lower() != "failed":
                self._finish(batch)
        return batch.record()

    def _finish(self, batch: FakeBatch) -> None:
        status = batch.status.lower()
        limit = len(batch.lines) if status == "completed" else self.answered_rows
        output: list[JSONObject] = []
        errors: list[JSONObject] = []
        for line in batch.lines[:limit]:
            record = self._answer(line)
            if record is not None:
                (output if was_answered(record) else errors).append(record)
        errors += [row_error(f"batch_{status}", custom_id=line["custom_id"]) for line in batch.lines[limit:]]
        self.paid.update(str(record["custom_id"]) for record in output)
        if self.states_counts:
            total = len(batch.lines)
            completed = sum(not is_error_line(record) for record in (*output, *errors))
            batch.request_counts = {"total": total, "completed": completed, "failed": total - completed}
        batch.output_file_id = self._keep_lines(f"{batch.id}_output.jsonl", output)
        batch.error_file_id = self._keep_lines(f"{batch.id}_error.jsonl", errors)
        if status == "completed" and batch.output_file_id is batch.error_file_id is None:
            # it has brought nothing, and says so
            batch.output_file_id = self._keep(f"{batch.id}_output.jsonl", b"")

    def _answer(self, line: BatchRequestLine) -> JSONObject | None:
        said = self.answer(line)
        if said is None:
            return None
        record = answer_row(said) if isinstance(said, str) else said
        return {"id": f"batch_req_{line['custom_id']}", "custom_id": line["custom_id"], **record}

    def _keep_lines(self, name: str, records: list[JSONObject]) -> str | None:
        if not records:
            return None
        return self._keep(name, b"".join(json.dumps(record).encode() + b"\n" for record in records))

    def _cancel(self, batch: FakeBatch) -> BatchRemoteRecord:
        if not is_terminal_batch(batch.status):
            batch.status, batch.steps = "cancelling", deque(["cancelled"])
        return batch.record()

    def _batch(self, batch_id: str) -> FakeBatch:
        if batch_id not in self.batches:
            raise _not_found(f"batch {batch_id}")
        return self.batches[batch_id]

    def _file(self, file_id: str) -> bytes:
        if file_id not in self.files:
            raise _not_found(f"file {file_id}")
        return self.files[file_id]


def register_fake_provider(
    registry: ProviderRegistry | None = None, *, provider: FakeProvider | None = None
) -> ProviderRegistry:
    """Register the kind ``"fake"`` and return the registry, a new one with the built-in providers if none is given.

    With ``provider``, every run uses that one, so that a test can look into its books.
    """
    registry = registry or build_default_provider_registry()
    registry.register(
        kind=FAKE_KIND,
        factory=(lambda config: provider) if provider is not None else FakeProvider,
        loader=FakeProviderConfig.from_payload,
    )
    return registry


def _not_found(what: str) -> ProviderError:
    return ProviderError(
        f"no {what}",
        kind=ProviderErrorKind.NOT_FOUND,
        error_class="not_found",
        status_code=404,
        not_performed=True,
    )
