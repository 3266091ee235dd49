"""The protocol between the engine and every provider, in terms of batches.

A provider states in :class:`BatchLimits` what its API can do, and implements :class:`BatchApi`. Uploaded files,
metadata, deletable inputs and pairs of result files are abilities of some vendors; the engine does not rely on them:

========================  ==================================  ===========================================
question                  a provider with files and metadata  a provider with neither
========================  ==================================  ===========================================
how requests get there    ``prepare`` uploads, ``create``     ``create`` sends the file's lines inline
                          names the uploaded file
whose batch is this       its tags name the submission        its first result names it (``FoundBy.ROWS``)
can a late create be      yes: ``fence`` deletes the file     no: a doubt lasts until the batch is listed
stopped                                                       or its lifetime is over
========================  ==================================  ===========================================

A provider with the eight documented methods of :class:`~batchor_core.providers.base.BatchProvider` is adapted to this
protocol by ``providers.eight_methods``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeAlias

from batchor_core.core.answers import Answer
from batchor_core.core.arguments import check_seconds, check_whole_number, shown
from batchor_core.core.enqueue_budget import EnqueueBudget
from batchor_core.core.exceptions import InvalidInputError, ProviderErrorKind
from batchor_core.core.lateness import StatedCounts
from batchor_core.core.lifecycle import is_terminal_batch
from batchor_core.core.outputs import OutputKind, VectorOutput
from batchor_core.core.prompts import PromptFeature, PromptParts
from batchor_core.core.structured import StructuredOutputSchema
from batchor_core.core.tools import WantedTools
from batchor_core.core.types import BatchRequestLine, JSONObject
from batchor_core.core.usage import TokenUsage

DAY_SEC = 86_400.0

WantedOutput: TypeAlias = StructuredOutputSchema | VectorOutput | WantedTools
"""What a request asks for, other than a text or whatever the response is: JSON of a schema, a vector, or a call of a tool."""


class FoundBy(StrEnum):
    """How a batch is recognised if the response to its creation was lost."""

    TAGS = "tags"
    """The list of batches shows the tags, or the uploaded file, that each was created with."""
    ROWS = "rows"
    """The list shows batches without tags. The first result of an ended batch names its submission; a running batch
    can't be distinguished from those of others."""
    NOTHING = "nothing"
    """Batches can't be listed."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """What a provider's batch API accepts and supports.

    Attributes:
        max_requests: Requests in one batch; None if the provider has no limit.
        max_bytes: Bytes of one request file; None if the provider has no limit.
        max_tags: Pairs of metadata that a batch carries; 0 if it carries none.
        found_by: How a batch is recognised after a lost response.
        can_fence: Whether :meth:`BatchApi.fence` can make sure that a create still in transit fails.
        can_cancel: Whether a running batch can be cancelled.
        lifetime_sec: Seconds after its creation by which every batch has ended.
        outputs: Supported kinds of answers. A job of any other kind is refused before anything is sent.
        prompts: What it supports in a prompt besides the two texts. A row that has more is refused, so that nothing is
            dropped silently.
        has_cache_keys: Whether a request can say under which key its prompt is cached: :meth:`BatchApi.with_cache_key`.
        can_continue: Whether a request can be asked again with its answer and a reply to that: :meth:`BatchApi.continued_line`.

    Raises:
        InvalidInputError: A value can't be right. A misspelt ``found_by`` would otherwise lose the promise to pay once.
    """

    max_requests: int | None = None
    max_bytes: int | None = None
    max_tags: int = 0
    found_by: FoundBy = FoundBy.NOTHING
    can_fence: bool = False
    can_cancel: bool = False
    lifetime_sec: float = DAY_SEC
    outputs: frozenset[OutputKind] = frozenset({OutputKind.TEXT, OutputKind.MODEL})
    prompts: frozenset[PromptFeature] = frozenset()
    can_continue: bool = False
    has_cache_keys: bool = False

    def __post_init__(self) -> None:
        for name, least in (("max_requests", 1), ("max_bytes", 1), ("max_tags", 0)):
            if (value := getattr(self, name)) is not None or name == "max_tags":
                check_whole_number(name, value, least=least)
        check_seconds("lifetime_sec", self.lifetime_sec)
        object.__setattr__(self, "found_by", _member("found_by", FoundBy, self.found_by))
        for name, kind in (("outputs", OutputKind), ("prompts", PromptFeature)):
            members = frozenset(_member(name, kind, value) for value in getattr(self, name))
            object.__setattr__(self, name, members)


def _member(name: str, kind: type[StrEnum], value: Any) -> StrEnum:
    """A member of an enum, also given as its text: the engine compares members by identity."""
    try:
        return kind(value)
    except ValueError:
        raise InvalidInputError(
            f"{name} must be of {', '.join(map(repr, map(str, kind)))}, and is {shown(value)}"
        ) from None


@dataclass(frozen=True, slots=True)
class ResultFile:
    """One file of results that can be fetched.

    Attributes:
        ref: The provider's id or address of the file.
        is_error_file: Whether the provider puts only failures into it. Lines of both kinds are read in the same way.
    """

    ref: str
    is_error_file: bool = False


@dataclass(frozen=True, slots=True)
class BatchFailure:
    """Why a provider refused a batch as a whole; none of its rows was run.

    Attributes:
        kind: What the engine does about it.
        error_class: The provider's code.
        message: The provider's message.
        bad_lines: 1-based lines that can never pass, and why. The other lines of the batch are fine.
    """

    kind: ProviderErrorKind
    error_class: str
    message: str
    bad_lines: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BatchState:
    """What a provider reports about one batch.

    Attributes:
        batch_id: The provider's id.
        status: ``completed``, ``failed`` (refused, nothing was run), ``expired`` or ``cancelled`` once it has ended; until then
            any word of the provider's own, lower-cased.
        results: Its result files that are there.
        created_at: Seconds since 1970 by the provider's clock; None if it does not say.
        expires_at: When it ends at the latest; None if it does not say.
        handle: The uploaded request file that it was made from, if there is one.
        tags: The tags that it was created with; None if the provider keeps none.
        counts: The provider's counts. They never settle a row; see ``core.lateness``.
        failure: Why it was refused, if its status is ``failed``.
        usage: Tokens that the provider states for the whole batch.
        is_foreign: Whether it certainly carries none of the engine's tags, where neither tags nor handle would tell.
    """

    batch_id: str
    status: str
    results: tuple[ResultFile, ...] = ()
    created_at: float | None = None
    expires_at: float | None = None
    handle: str | None = None
    tags: Mapping[str, str] | None = None
    counts: StatedCounts = field(default_factory=StatedCounts)
    failure: BatchFailure | None = None
    usage: TokenUsage | None = None
    is_foreign: bool = False

    @property
    def has_ended(self) -> bool:
        """Whether nothing more happens at the provider."""
        return is_terminal_batch(self.status)


class BatchApi(ABC):
    """One provider's batches, as the engine sees them.

    Every method that makes requests makes one, or one for each page, and repeats nothing: the engine handles retries
    and waiting. They raise :class:`~batchor_core.core.exceptions.ProviderError` and may be called from several threads.
    """

    limits: BatchLimits
    """What this API accepts and supports. Set by the subclass, and constant."""

    streams: bool = True
    """Whether result files are read line by line through :meth:`read`, or as whole texts through :meth:`read_files`."""

    # requests

    @abstractmethod
    def request_line(
        self, *, custom_id: str, prompt: PromptParts, output: WantedOutput | None
    ) -> BatchRequestLine:
        """One line of a request file. The same arguments give the same line, byte for byte.

        ``output`` is a :class:`~batchor_core.VectorOutput` or a :class:`~batchor_core.core.tools.WantedTools` only if
        :attr:`BatchLimits.outputs` has ``OutputKind.VECTOR`` or ``OutputKind.TOOL``.

        Raises:
            InvalidInputError: The provider can't ask for this prompt.
        """

    def continued_line(self, line: BatchRequestLine, *, answer: str, reply: str) -> BatchRequestLine:
        """The request of a line with the answer that it got and what the user says to it behind it; ``line`` is not changed.

        The same arguments give the same line. Only called where :attr:`BatchLimits.can_continue`.
        """
        raise NotImplementedError(f"{type(self).__name__} can't continue a request")

    def with_cache_key(self, line: bytes, *, key: str) -> bytes:
        """A finished request line that asks for its prompt to be cached under a key; unchanged where the user has set one.

        The field adds at most ``core.prompt_cache.CACHE_KEY_BYTES``. It is no part of what is asked: it is put into the line when the
        file is written, and is neither stored nor in the content address. Only called where
        :attr:`BatchLimits.has_cache_keys`.
        """
        raise NotImplementedError(f"{type(self).__name__} has no cache keys")

    def custom_id_of(self, record: JSONObject) -> str:
        """The custom_id in a line of a request file or of a result file; empty if there is none."""
        custom_id = record.get("custom_id")
        return custom_id if isinstance(custom_id, str) else ""

    @abstractmethod
    def estimate_tokens(self, lines: Sequence[BatchRequestLine], *, chars_per_token: int) -> list[int]:
        """Estimated prompt tokens of each line."""

    def unbilled_tokens(self, line: BatchRequestLine, *, chars_per_token: int) -> int:
        """How many of the tokens that :meth:`estimate_tokens` counts for this line the provider does not bill.

        Limits count whole requests; of a schema, some of that is not billed. What a job will cost is estimated with it.
        """
        return 0

    # submission

    def prepare(self, request_file: Path) -> str | None:
        """Prepare a request file for :meth:`create`, such as by an upload, and return its handle.

        None if requests are sent in the create itself. Costs nothing and may be repeated.
        """
        return None

    def is_ready(self, handle: str) -> bool | None:
        """Whether a prepared file can be used in a create yet; None if that is unknown before the create.

        Raises:
            ProviderError: The provider has rejected the file.
        """
        return None

    def discard(self, handle: str) -> None:
        """Remove what :meth:`prepare` made, if possible. This is only clean-up: failure is ignored."""

    def find_prepared(self, file_name: str) -> list[str]:
        """Handles of request files of this name, which a process that died may have left."""
        return []

    @abstractmethod
    def create(
        self, request_file: Path | None, *, handle: str | None, tags: Mapping[str, str] | None
    ) -> BatchState:
        """Create a batch with exactly one request.

        Args:
            request_file: The requests, for a provider that takes them inline; None if :meth:`prepare` returned a
                handle.
            handle: What :meth:`prepare` returned.
            tags: Metadata that names the submission; None if batches carry none.

        Raises:
            ProviderError: With ``not_performed=True`` only if it is certain that no batch was created.
        """

    # recovery

    def list_batches(self) -> Iterator[list[BatchState]]:
        """Pages of batches, newest first if the provider supports that, each fetched on demand.

        Raises if the list can't be read to its end, since it would prove a batch absent. An entry that can't be identified has the
        id ``""``, for the same reason.
        """
        raise NotImplementedError(f"{type(self).__name__} can't list batches")

    def fence(self, handle: str) -> None:
        """Make sure that a create with this handle can't start a batch any more; return only if that is certain."""
        raise NotImplementedError(f"{type(self).__name__} can't fence a create")

    def enqueue_budget(self) -> EnqueueBudget | None:
        """The provider's limit of tokens in flight; None for no limit. The config's own limits take precedence."""
        return None

    def key_fingerprint(self) -> str | None:
        """Distinguishes accounts without revealing the key; None leaves it to the config."""
        return None

    def earlier_fingerprints(self) -> frozenset[str]:
        """What :meth:`key_fingerprint` has returned for the same account in earlier versions. Default: nothing else."""
        return frozenset()

    def clock_offset(self) -> float | None:
        """Seconds by which the provider's clock is ahead of this process's, by its last response; None if unknown."""
        return None

    # collection

    @abstractmethod
    def poll(self, batch_id: str) -> BatchState:
        """The state of a batch."""

    @abstractmethod
    def fetch(self, file: ResultFile, path: Path) -> None:
        """Write a result file to ``path``, completely or not at all."""

    @abstractmethod
    def read(self, record: JSONObject) -> Answer:
        """What one line of a result file says about its row. Never raises, whatever the line contains."""

    def read_line(self, line: bytes) -> Answer | None:
        """What :meth:`read` would say of the record in a line, without decoding the whole of it. Never raises.

        None where the line has to be decoded. Only good answers in lines that are strict JSON in UTF-8 may be read here: nobody
        looks at the record of such a line until somebody asks for its raw response. The default reads no line.
        """
        return None

    def read_body(self, record: JSONObject) -> Answer:
        """The same as :meth:`read` in runs of ``OutputKind.BODY``: a usable answer has its whole body as ``value``. Never raises.

        Numbers in the record are exact: those that a float can't hold are Decimals. The default is for providers whose
        :meth:`read` returns bodies anyway.
        """
        return self.read(record)

    def read_calls(self, record: JSONObject) -> Answer:
        """The same in runs of ``OutputKind.TOOL``: the ``value`` of a usable answer is a list of
        :class:`~batchor_core.core.tools.ToolCall`, which is empty if the model called no tool. Never raises.
        """
        raise NotImplementedError(f"{type(self).__name__} reads no calls of tools")

    def is_failure(self, record: JSONObject, answer: Answer) -> bool:
        """Whether the provider counts a line as failed rather than answered. A useless answer was answered.

        The default counts every line without a good answer as failed, which errs on the side of waiting longer.
        """
        return answer.failure is not None

    def read_files(self, texts: Mapping[bool, str]) -> list[tuple[Answer, JSONObject]]:
        """Every answer of a batch, from the texts of its files by ``is_error_file``; only called where ``streams`` is False."""
        raise NotImplementedError(f"{type(self).__name__} streams its results")

    def cancel(self, batch_id: str) -> BatchState:
        """Request the cancellation of a batch. It is not an error if the batch has already ended."""
        raise NotImplementedError(f"{type(self).__name__} can't cancel batches")

    def close(self) -> None:
        """Release connections."""


def is_own_account(api: BatchApi, stored: str | None) -> bool:
    """Whether a stored fingerprint, of this version or an earlier one, means the account that is used now."""
    return stored == api.key_fingerprint() or stored in api.earlier_fingerprints()
