"""The errors that the engine raises.

::

    BatchorError
    ├── InvalidInputError (ValueError)         something the caller gave is wrong
    │   ├── SourceRowError                     a row of a file: path, line, column
    │   ├── DuplicateItemError                 item ids repeated within a run
    │   ├── RunConfigMismatchError             a resumed run was started with another job
    │   │   └── RunItemsMismatchError          its items or prompts are not the stored ones
    │   ├── SourceMismatchError                a resumed run was given another source
    │   ├── StructuredOutputSchemaError        a model whose schema the provider would refuse
    │   └── MissingCredentialsError            no API key where one is needed
    ├── StructuredOutputError (ValueError)     an answer that is not what the model asked for
    ├── RunNotFoundError (KeyError)
    ├── RunNotFinishedError, RunPausedError, RunIngestionSourceRequiredError, QuarantinedBatchError,
    │   ModelResolutionError, RunStateError (RuntimeError)
    ├── StorageError (RuntimeError)            the control database or the artifact folder
    │   ├── DatabaseVersionError               written by a newer version
    │   └── LeaseLostError                     another driver took the run over
    └── ProviderError (RuntimeError)           a vendor's error, translated at the provider's edge
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import assert_never

from batchor_core.core.types import JSONValue


class BatchorError(Exception):
    """Root of every error that this package raises on purpose."""


class InvalidInputError(BatchorError, ValueError):
    """An argument, setting or item is wrong; the message says what, where and what to do."""


class SourceRowError(InvalidInputError):
    """A row of a source can't be read or turned into an item.

    Attributes:
        path: The file, or the source's name.
        line: 1-based line (CSV, JSONL) or row (Parquet), None when it is the file as a whole.
        column: The column that is wrong, where it is known.
    """

    def __init__(
        self, message: str, *, path: str, line: int | None = None, column: str | None = None
    ) -> None:
        where = path if line is None else f"{path}, line {line}"
        if column is not None:
            where += f", column {column!r}"
        super().__init__(f"{where}: {message}")
        self.path = path
        self.line = line
        self.column = column


class DuplicateItemError(InvalidInputError):
    """Item ids occur more than once within a run.

    Attributes:
        run_id: The run.
        item_ids: The repeated ids, at most a handful of them.
        indexes: Of each of them where it is known, the 0-based positions of its first two items.
    """

    def __init__(
        self,
        run_id: str,
        item_ids: Sequence[str],
        *,
        indexes: Mapping[str, tuple[int, int]] | None = None,
        places: Mapping[str, tuple[str, str]] | None = None,
    ) -> None:
        self.run_id = run_id
        self.item_ids = list(item_ids)
        self.indexes = dict(indexes or {})
        shown = ", ".join(self._shown(item_id, places or {}) for item_id in self.item_ids[:5])
        super().__init__(
            f"run {run_id!r}: item ids must be unique within a run, and these are repeated: {shown}. "
            "Derive item_id from something unique in the row, such as its primary key."
        )

    def _shown(self, item_id: str, places: Mapping[str, tuple[str, str]]) -> str:
        if item_id in places:
            first, second = places[item_id]
            return f"{item_id!r} ({first} and {second})"
        if item_id in self.indexes:
            first_index, second_index = self.indexes[item_id]
            return f"{item_id!r} (items {first_index} and {second_index}, counted from 0)"
        return repr(item_id)


class RunConfigMismatchError(InvalidInputError):
    """A run is resumed with a job that would give other results than the stored one.

    Attributes:
        run_id: The run.
        fields: Names of the settings that differ.
    """

    def __init__(self, run_id: str, fields: Sequence[str]) -> None:
        self.run_id = run_id
        self.fields = list(fields)
        super().__init__(
            f"run {run_id!r} was started with another {', '.join(self.fields)}. "
            "Start a new run id for a changed job, or start the job unchanged to resume this one."
        )


class RunItemsMismatchError(RunConfigMismatchError):
    """A run is started again with items or prompts that differ from the stored ones.

    Attributes:
        run_id: The run.
        fields: What differs: ``number of items``, ``item_id``, ``prompt``, ``system_prompt`` or ``metadata``.
        difference: The first difference, as a sentence without its full stop.
        item_index: Index of the first item that differs, where that is known.
        item_id: Its id, as it is stored.
    """

    def __init__(
        self,
        run_id: str,
        fields: Sequence[str],
        difference: str,
        *,
        item_index: int | None = None,
        item_id: str | None = None,
    ) -> None:
        InvalidInputError.__init__(
            self,
            f"run {run_id!r}: {difference}. Nothing was read or sent. If the job has changed, start it under another "
            "run id. To continue the stored run, pass on_change='keep': stored rows stay as they are, and only rows "
            "that are not read yet are rendered by this job. If the job is the same, build_prompt and the source must return "
            "the same for the same item each time: keep the time, random numbers and the order of sets out of them.",
        )
        self.run_id = run_id
        self.fields = list(fields)
        self.difference = difference
        self.item_index = item_index
        self.item_id = item_id


class SourceMismatchError(InvalidInputError):
    """A run is resumed with a source that is not the one it was started with.

    Attributes:
        run_id: The run.
    """

    def __init__(self, run_id: str, message: str) -> None:
        self.run_id = run_id
        super().__init__(f"run {run_id!r}: {message}")


class StructuredOutputSchemaError(InvalidInputError):
    """A Pydantic model whose JSON Schema the provider would refuse; names the path and the fix."""


class MissingCredentialsError(InvalidInputError):
    """A provider is needed, but there is no key for it."""


class StructuredOutputError(BatchorError, ValueError):
    """An answer can't be parsed as the expected model.

    Attributes:
        error_class: ``invalid_json``, ``structured_output_validation_failed``, ``empty_response_text``,
            ``refusal``, ``content_filter`` or ``incomplete_response``.
        message: What is wrong with it.
        raw_error: The parser's own details, if there are any.
        may_pass: Whether another answer to the same request could do better.
    """

    def __init__(
        self, error_class: str, message: str, *, raw_error: JSONValue | None = None, may_pass: bool = True
    ) -> None:
        super().__init__(message)
        self.error_class = error_class
        self.message = message
        self.raw_error = raw_error
        self.may_pass = may_pass


class RunNotFoundError(BatchorError, KeyError):
    """The store has no run with this id.

    Attributes:
        run_id: The id that was asked for.
    """

    def __init__(self, run_id: str, *, where: str = "this store") -> None:
        self.run_id = run_id
        self._message = f"no run {run_id!r} in {where}. Check the id and that the runner uses the store it was started in."
        super().__init__(self._message)

    def __str__(self) -> str:  # KeyError would show the repr of the message
        return self._message


class RunNotFinishedError(BatchorError, RuntimeError):
    """An operation for finished runs was called on an unfinished run.

    Attributes:
        run_id: The run.
    """

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        super().__init__(
            f"run {run_id!r} is not finished; wait for it, or read what is there with read_terminal_results()"
        )


class RunPausedError(BatchorError, RuntimeError):
    """``wait()`` was called on a paused run, or the run was paused meanwhile.

    Attributes:
        run_id: The run.
        reason: Why it is paused, if the engine paused it.
    """

    def __init__(self, run_id: str, reason: str | None = None) -> None:
        self.run_id = run_id
        self.reason = reason
        super().__init__(
            f"run {run_id!r} is paused{f' ({reason})' if reason else ''}; resume it with resume()"
        )


class RunStateError(BatchorError, ValueError, RuntimeError):
    """An action does not fit the state of the run, such as pausing a finished one.

    Attributes:
        run_id: The run.
    """

    def __init__(self, run_id: str, message: str) -> None:
        self.run_id = run_id
        super().__init__(f"run {run_id!r}: {message}")


class RunIngestionSourceRequiredError(BatchorError, RuntimeError):
    """Reading the items was interrupted, and their source can't be resumed.

    Attributes:
        run_id: The run.
    """

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        super().__init__(
            f"run {run_id!r} stopped before all its items were read, and they came from a plain iterable, which can't "
            "be resumed. Use a file source (CSV, JSONL, Parquet) or a CheckpointedItemSource, and a new run id."
        )


class QuarantinedBatchError(BatchorError, RuntimeError):
    """The engine can't find out what happened to a batch or to its results, so a person has to decide.

    Attributes:
        run_id: The run.
        local_batch_ids: The submissions in question.
        late: Of these, the batches that the provider knows and whose results are overdue, each with what is missing.
    """

    def __init__(
        self, run_id: str, local_batch_ids: Sequence[str], *, late: Mapping[str, str] | None = None
    ) -> None:
        self.run_id = run_id
        self.local_batch_ids = list(local_batch_ids)
        self.late = dict(late or {})
        unknown = [name for name in self.local_batch_ids if name not in self.late]
        parts = [self._late(name, reason) for name, reason in self.late.items()]
        if unknown:
            parts.append(self._unknown(unknown))
        super().__init__(f"run {run_id!r}: {' '.join(parts)}")

    @staticmethod
    def _late(local_batch_id: str, reason: str) -> str:
        return (
            f"submission {local_batch_id}: {reason}. Call one of run.keep_waiting(submission_id), run.resubmit(submission_id) to keep "
            "what is there and pay for the rest again, or run.fail(submission_id) to keep the results that are there and end the rest as "
            "failed, or use `batchor doctor`."
        )

    @staticmethod
    def _unknown(local_batch_ids: Sequence[str]) -> str:
        return (
            f"batchor can't find out what happened to {', '.join(local_batch_ids)}. "
            "Look for the batch in the provider's console (metadata batchor_local_batch_id), then call one of "
            "run.adopt(submission_id, provider_batch_id), run.resubmit(submission_id) or run.fail(submission_id), or use "
            "`batchor doctor`."
        )


class ModelResolutionError(BatchorError, RuntimeError):
    """The class of a structured output can't be imported again in this process.

    Attributes:
        module_name: The class's ``__module__``.
        qualname: The class's ``__qualname__``.
    """

    def __init__(self, module_name: str, qualname: str, *, reason: str | None = None) -> None:
        self.module_name = module_name
        self.qualname = qualname
        what = (
            f"can't use the output model {module_name}.{qualname}: {reason}"
            if reason
            else (f"can't import the output model {module_name}.{qualname}")
        )
        super().__init__(
            f"{what}. Either give the class: iter_results(model=...), results(model=...), to_parquet(..., output=...), or "
            "start() with the job again; or define it at the top level of a module that this process can import, as it was "
            "when the run was started; or read the results untyped: export_terminal_results(), iter_record_pages()."
        )


class StorageError(BatchorError, RuntimeError):
    """The control database or the artifact folder can't be used.

    Attributes:
        is_passing: Whether the problem may pass on its own: the server restarts, or another process holds a lock for
            long. The interrupted transaction is stored either completely or not at all, so it is safe to call again.
    """

    def __init__(self, message: str, *, is_passing: bool = False) -> None:
        super().__init__(message)
        self.is_passing = is_passing


class DatabaseVersionError(StorageError):
    """The database was written by a newer version of this package.

    Attributes:
        found: Revision found in the database.
    """

    def __init__(self, found: str, where: str) -> None:
        self.found = found
        super().__init__(
            f"{where} has schema revision {found!r}, which this version does not know. Upgrade batchor-core."
        )


class LeaseLostError(StorageError):
    """Another driver took the run over during a step of this one; nothing of this step was written.

    Attributes:
        run_id: The run.
    """

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        super().__init__(f"run {run_id!r} is driven by another process now")


FILE_NOT_READY = "input_file_not_ready"
"""Error class of a request that comes too early for a file that was just uploaded."""


class ProviderErrorKind(StrEnum):
    """The few kinds of vendor errors that the engine tells apart."""

    RETRY = "retry"
    """Passes on its own: rate limits, timeouts, 5xx, broken connections."""
    CAPACITY = "capacity"
    """The account's queue is full; passes when batches end. Never counted as an attempt."""
    CREDENTIALS = "credentials"
    """401, 403: a person must act."""
    QUOTA = "quota"
    """Out of quota or billing trouble: a person must act."""
    BAD_REQUEST = "bad_request"
    """The provider will never accept this."""
    NOT_FOUND = "not_found"
    """No such file or batch; it may not exist yet."""
    NO_ROUTE = "no_route"
    """The address responds, but not like the API: its setting is wrong, and a person must act."""
    NOT_READY = "not_ready"
    """The input file is not there or not processed yet: nothing was created, and the problem passes within minutes."""

    @property
    def blocks_the_account(self) -> bool:
        """Whether every request of the account fails like this until a person has changed the key or paid."""
        match self:
            case ProviderErrorKind.CREDENTIALS | ProviderErrorKind.QUOTA:
                return True
            case (
                ProviderErrorKind.RETRY
                | ProviderErrorKind.CAPACITY
                | ProviderErrorKind.BAD_REQUEST
                | ProviderErrorKind.NOT_FOUND
                | ProviderErrorKind.NO_ROUTE
                | ProviderErrorKind.NOT_READY
            ):
                return False
            case _:
                assert_never(self)


class ProviderError(BatchorError, RuntimeError):
    """A vendor's error, translated at the provider's edge. Its text never holds a key.

    Attributes:
        kind: What the engine does about it.
        error_class: Short name for logs and the backoff record, such as ``rate_limit``.
        status_code: HTTP status, if there was an answer.
        retry_after: Seconds that the vendor asked to wait, if it did.
        not_performed: True when the request certainly had no effect. False means *unknown*.
    """

    def __init__(
        self,
        message: str,
        *,
        kind: ProviderErrorKind = ProviderErrorKind.RETRY,
        error_class: str = "provider_error",
        status_code: int | None = None,
        retry_after: float | None = None,
        not_performed: bool = False,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.error_class = error_class
        self.status_code = status_code
        self.retry_after = retry_after
        self.not_performed = not_performed
