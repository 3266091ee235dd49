"""What users describe a run with, and what they get back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, ClassVar, Generic, TypeAlias

from pydantic import BaseModel
from typing_extensions import TypeVar  # that of typing has defaults from Python 3.13 on

from batchor_core.core import arguments, html
from batchor_core.core.caps import Cap, check_caps
from batchor_core.core.enqueue_budget import EnqueueBudget
from batchor_core.core.enums import ItemStatus, ProviderKind, RunControlState, RunLifecycleStatus
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.exports import ArtifactExportResult as ArtifactExportResult
from batchor_core.core.exports import ArtifactPruneResult as ArtifactPruneResult
from batchor_core.core.exports import TerminalResultsExportResult as TerminalResultsExportResult
from batchor_core.core.failures import ItemFailure as ItemFailure
from batchor_core.core.lifecycle import IN_FLIGHT
from batchor_core.core.outputs import ModelOutput, Output, OutputSpec, OutputT, TextOutput, check_output
from batchor_core.core.policies import ArtifactPolicy as ArtifactPolicy
from batchor_core.core.policies import ChunkPolicy as ChunkPolicy
from batchor_core.core.policies import RetryPolicy as RetryPolicy
from batchor_core.core.pricing import NO_AMOUNTS, Cost, Rates, Unpriced, cost_text
from batchor_core.core.prompt_cache import cache_hit_rate
from batchor_core.core.prompts import PromptParts as PromptParts
from batchor_core.core.results import ItemResult, answer_or_error
from batchor_core.core.reuse import ReuseScope, check_reuse
from batchor_core.core.structured import StructuredOutputSchema, closed_model_schema
from batchor_core.core.tools import ToolOutput, WantedTools
from batchor_core.core.types import BatchRequestLine, JSONObject
from batchor_core.core.usage import TokenUsage
from batchor_core.core.validation import check_batch_metadata, check_schema_name
from batchor_core.core.words import usd_text

PayloadT = TypeVar("PayloadT", default=Any)
AnswerT = TypeVar("AnswerT", bound=BaseModel | str | Sequence[float], default=Any)


@dataclass(frozen=True, slots=True)
class BatchItem(Generic[PayloadT]):
    """One row of input.

    Attributes:
        item_id: Unique within the run; any non-empty string.
        payload: Passed to ``build_prompt`` and not stored: only the request made from it is stored.
        metadata: JSON kept beside the item and returned with its result. File sources write ``batchor_lineage``: path,
            row and, if known, key and partition.
    """

    item_id: str
    payload: PayloadT
    metadata: JSONObject = field(default_factory=dict)


PromptBuilder: TypeAlias = Callable[[BatchItem[PayloadT]], PromptParts | str]
"""Turns an item into its prompt. Called once per item, while it is ingested."""

BatchItems: TypeAlias = Iterable[BatchItem[PayloadT]]
"""Items, or an :class:`~batchor_core.ItemSource` that streams them."""


class ProviderConfig(ABC):
    """Settings of one provider.

    Attributes:
        poll_interval_sec: Seconds that ``Run.wait`` sleeps between two cycles unless told otherwise; at the default of 1.0 they grow
            with the age of the batches, up to two minutes.
        reuse_account: A name that stands for the account when answers are reused, so that several keys of it share them; None if
            the key tells. Never a secret: it is stored.
        operational_settings: Names, as in the payload, of settings that change when, where and how often requests are
            sent, not their content. A stored run may be resumed with other values of them. Override it if yours have
            other names.
    """

    poll_interval_sec: float = 1.0
    reuse_account: str | None = None
    operational_settings: ClassVar[frozenset[str]] = frozenset(
        {
            "poll_interval_sec",
            "request_timeout_sec",
            "enqueue_limits",
            "base_url",
            "completion_window",
            "api_key",
            "reuse_account",
        }
    )

    @property
    @abstractmethod
    def provider_kind(self) -> ProviderKind | str:
        """The name this provider is registered under."""

    @abstractmethod
    def to_payload(self) -> JSONObject:
        """All settings as JSON, secrets included."""

    def to_public_payload(self) -> JSONObject:
        """All settings as JSON without secrets: this is what is stored. Override it if there are secrets."""
        return self.to_payload()

    def output_schema(
        self, model: type[BaseModel], *, schema_name: str | None = None
    ) -> StructuredOutputSchema:
        """The schema that requests ask for, in this provider's dialect; by default closed, with every property required.

        Raises:
            StructuredOutputSchemaError: The provider would refuse the schema.
        """
        return closed_model_schema(model, schema_name=schema_name)

    def check_output(self, output: OutputSpec) -> None:
        """Raise InvalidInputError for an output that these settings contradict; asked when a job is made, and started."""

    def batch_rates(self, *, at: datetime) -> Rates:
        """What the tokens of a batch cost on a day. Override it if a price list is known; it needs no key."""
        return Unpriced(f"no price list known for the provider {self.provider_kind}")

    def billed_besides(self) -> Sequence[str]:
        """What these requests are billed for besides tokens, for people; a cost is a lower bound then. Override it if there is any."""
        return ()

    def longest_answer(self) -> int | None:
        """The most tokens that an answer may have; None if nothing limits it. Override it if requests say so."""
        return None

    def longest_answer_to(self, line: BatchRequestLine) -> int | None:
        """The same for the request of one row, whose options may say otherwise. Override it if they can."""
        return self.longest_answer()

    def of_model(self, model: str) -> ProviderConfig:
        """These settings with another model, for rows that name one. Override it if ``PromptFeature.MODEL`` is supported.

        Raises:
            InvalidInputError: There can't be rows of this model.
        """
        raise InvalidInputError(
            f"{type(self).__name__} has one model for all rows; leave model out of options"
        )

    def enqueue_budget(self) -> EnqueueBudget | None:
        """How many prompt tokens may wait at the provider, and their key; None for no limit."""
        return None

    def account_fingerprint(self) -> str | None:
        """Tells accounts and servers apart without revealing a key; None if the config doesn't know."""
        return None

    def server_url(self) -> str | None:
        """The server that requests go to, where it isn't the provider's usual one. Override it where it may be another."""
        return None

    def batch_url(self, batch_id: str) -> str | None:
        """A batch's page in the provider's console. Override it if there is one; it needs no key."""
        return None


@dataclass(frozen=True, slots=True)
class BatchJob(Generic[PayloadT, AnswerT]):
    """What to run: the items, the prompt, the provider and the expected output.

    A type checker follows both parameters, the type of an item's payload and the type of ``ItemResult.output``:
    ``BatchJob[Row, Label]`` for ``structured_output=Label``.

    Attributes:
        items: Items or a source that streams them. Only sources can be resumed while they are being read.
        build_prompt: Called once per item; returns a :class:`PromptParts` or a plain string.
        provider_config: Such as :class:`~batchor_core.OpenAIProviderConfig`.
        structured_output: Pydantic model that every answer must satisfy. Without it and ``output``, answers are plain
            text.
        schema_name: Name of the schema at the provider; by default the class name in snake case.
        chunk_policy: Limits of a provider batch.
        retry_policy: Attempts and backoff.
        batch_metadata: Up to 13 string pairs put on every provider batch (OpenAI takes 16; 3 are the engine's).
        artifact_policy: Which raw files to keep.
        output: The kind of the answers, instead of ``structured_output``: :class:`~batchor_core.TextOutput`,
            :class:`~batchor_core.ModelOutput`, :class:`~batchor_core.VectorOutput`,
            :class:`~batchor_core.ToolOutput` or :class:`~batchor_core.BodyOutput`.
        caps: The most that may be spent, such as ``[Cap(usd=10)]`` for this run; see :class:`~batchor_core.Cap`.
        reuse: Whose answers to equal requests this run may have instead of asking again: ``"store"`` for all runs in the store,
            ``"asset"`` and ``"partition"`` for those of a Dagster asset, ``"off"`` for none. Unless it is off, equal rows of the run
            are also sent once. The provider, its server and the account must be the same.
        max_age: How long after its batch was created an answer may be reused; None for ever.
        salt: Jobs with another salt share no answers.
        reuse_varying: Reuse answers also to requests with a temperature above 0 or an ``n`` above 1, which are otherwise asked
            every time.

    Raises:
        StructuredOutputSchemaError: The provider would refuse the model's schema.
        InvalidInputError: A field is of the wrong type, ``batch_metadata`` breaks the provider's limits, both
            ``structured_output`` and ``output`` are given, or the provider's settings contradict the output.
    """

    items: BatchItems[PayloadT]
    build_prompt: PromptBuilder[PayloadT]
    provider_config: ProviderConfig
    structured_output: type[AnswerT] | None = None
    schema_name: str | None = None
    chunk_policy: ChunkPolicy = field(default_factory=ChunkPolicy)
    retry_policy: RetryPolicy = field(default_factory=RetryPolicy)
    batch_metadata: dict[str, str] = field(default_factory=dict)
    artifact_policy: ArtifactPolicy = field(default_factory=ArtifactPolicy)
    output: Output[AnswerT] | None = None
    caps: Sequence[Cap] = ()
    reuse: ReuseScope = "off"
    max_age: timedelta | None = None
    salt: str = ""
    reuse_varying: bool = False

    def __post_init__(self) -> None:
        check_caps("caps", self.caps)
        arguments.check_items(self.items, item_type=BatchItem)
        arguments.check_function("build_prompt", self.build_prompt)
        arguments.check_provider_config(self.provider_config, kind=ProviderConfig)
        arguments.check_instance("chunk_policy", self.chunk_policy, ChunkPolicy)
        arguments.check_instance("retry_policy", self.retry_policy, RetryPolicy)
        arguments.check_instance("artifact_policy", self.artifact_policy, ArtifactPolicy)
        check_batch_metadata(self.batch_metadata)
        check_reuse(reuse=self.reuse, max_age=self.max_age, salt=self.salt, reuse_varying=self.reuse_varying)
        if self.schema_name is not None:
            check_schema_name(self.schema_name)
        if self.output is not None:
            check_output("output", self.output)
            if self.structured_output is not None:
                raise InvalidInputError(
                    "a job has output or structured_output, not both; structured_output=M is short for output=ModelOutput(M)"
                )
        self.output_schema()
        self.wanted_tools()
        if (
            self.output is not None or self.structured_output is not None
        ):  # a caller may still say which it is
            self.provider_config.check_output(self.output_spec)

    @property
    def output_spec(self) -> OutputSpec:
        """What the answers are."""
        if self.output is not None:
            return check_output("output", self.output)
        model: Any = self.structured_output
        return TextOutput() if model is None else ModelOutput(model)

    def output_schema(self) -> StructuredOutputSchema | None:
        """The schema that requests ask for, in the provider's dialect; None if the answers have none."""
        spec = self.output_spec
        if not isinstance(spec, ModelOutput):
            return None
        model: Any = spec.model  # anything but a model is refused with its type
        return self.provider_config.output_schema(model, schema_name=self.schema_name)

    def wanted_tools(self) -> WantedTools | None:
        """The tools that requests offer, in the provider's dialect; None if the answers are no calls."""
        spec = self.output_spec
        return spec.wanted(self.provider_config.output_schema) if isinstance(spec, ToolOutput) else None


@dataclass(frozen=True, slots=True)
class RunSummary:
    """The state of a run, in counts.

    Attributes:
        run_id: The run.
        status: Running, or how it ended.
        control_state: What the operator wants.
        total_items: Items read so far.
        completed_items: Items in COMPLETED.
        failed_items: Items in FAILED_PERMANENT.
        status_counts: Items per status; every status is a key.
        active_batches: Provider batches in flight.
        backoff_remaining_sec: Seconds until the next submission may leave; 0 when none is held back.
        control_reason: Why the run paused itself, if it did.
        ingestion_complete: Whether all items have been read.
        usage: Tokens billed so far, every answered attempt included.
        estimated_tokens: Estimated prompt tokens of the items in flight.
        unknown_batches: Submissions whose outcome is being looked up.
        quarantined_batches: Submissions that wait for a person.
        orphan_batches: Batches found at the provider that this run never registered.
        late_batches: Batches that have ended at the provider and whose results are not all there yet.
        late_rows: Items in them whose results are missing.
        overdue_batches: Batches that should have ended by now.
        created_at: When the run was created, seconds since 1970 by the store's clock; 0 if the store does not keep it.
        trouble: What the run keeps retrying, since when, when next, and why, in the provider's words; or the cap under
            which its rows wait for those of other runs; None if neither. It does not need a person: a run that does is
            paused or has quarantined batches.
        cost: What every answered attempt has cost, by the prices of the day that its batch was created on; or why
            there is no figure.
        reused_items: Completed items that got their answers from other runs.
        deduplicated_items: Completed items that got the answer of an equal item of this run.
        usd_saved: US dollars that the answers of both have cost where they were paid for, as far as prices are known.
        following_items: Items among the PENDING ones that wait for an equal item in flight and are not to be sent.
        repairs: How often items were asked again with the reason why their answers did not fit (``RetryPolicy.repair``).
        repaired_items: Items that were completed by such an attempt.
        queue_limit: The most prompt tokens of its account and model that may be in flight: what the config says
            (:meth:`~batchor_core.Run.summary`), else what refused batches have shown; None if nothing is known.
    """

    run_id: str
    status: RunLifecycleStatus
    control_state: RunControlState
    total_items: int
    completed_items: int
    failed_items: int
    status_counts: dict[ItemStatus, int]
    active_batches: int
    backoff_remaining_sec: float
    control_reason: str | None = None
    ingestion_complete: bool = True
    usage: TokenUsage = TokenUsage()
    estimated_tokens: int = 0
    unknown_batches: int = 0
    quarantined_batches: int = 0
    orphan_batches: int = 0
    late_batches: int = 0
    late_rows: int = 0
    overdue_batches: int = 0
    created_at: float = 0.0
    trouble: str | None = None
    cost: Cost | Unpriced = NO_AMOUNTS
    reused_items: int = 0
    deduplicated_items: int = 0
    usd_saved: Decimal = Decimal(0)
    following_items: int = 0
    repairs: int = 0
    repaired_items: int = 0
    queue_limit: int | None = None

    @property
    def items_to_send(self) -> int:
        """Items that wait to be sent, or to be sent again."""
        counts = self.status_counts
        return counts[ItemStatus.PENDING] + counts[ItemStatus.FAILED_RETRYABLE] - self.following_items

    @property
    def cache_hit_rate(self) -> float | None:
        """The share of prompt tokens that were read from the provider's prompt cache, 0 to 1; None before any were billed."""
        return cache_hit_rate(self.usage)

    @property
    def items_in_flight(self) -> int:
        """Items that are in a submission, sent or about to be."""
        return sum(self.status_counts[status] for status in IN_FLIGHT)

    def _repr_html_(self) -> str:
        """The summary in a notebook."""
        waiting = self.status is RunLifecycleStatus.RUNNING and self.control_state.value
        pairs = [
            ("status", self.status.value),
            ("control", waiting if waiting not in (False, "running") else None),
            ("why", self.control_reason),
            ("rows", f"{self.total_items:,}" + ("" if self.ingestion_complete else " so far")),
            *((f"rows {status.value}", count) for status, count in self.status_counts.items()),
            ("rows reused", self.reused_items or None),
            ("rows deduplicated", self.deduplicated_items or None),
            ("asked again with the reason", self.repairs or None),
            ("batches in flight", self.active_batches),
            ("batches in quarantine", self.quarantined_batches),
            ("tokens in, out", f"{self.usage.input_tokens:,}, {self.usage.output_tokens:,}"),
            ("prompt cache hits", f"{self.cache_hit_rate:.1%}" if self.usage.cached_tokens else None),
            ("cost", cost_text(self.cost) or None),
            ("saved", usd_text(self.usd_saved) if self.usd_saved else None),
            ("trouble", self.trouble),
        ]
        done = (self.completed_items + self.failed_items, self.total_items)
        return html.facts(f"Run {self.run_id}", pairs, done=done)


@dataclass(frozen=True, slots=True)
class RunSnapshot(Generic[OutputT]):
    """The first nine fields of a :class:`RunSummary` with the terminal results that exist so far.

    Attributes:
        items: Terminal results in the order of the items. Grows with the run; use pages for large ones.
    """

    run_id: str
    status: RunLifecycleStatus
    control_state: RunControlState
    total_items: int
    completed_items: int
    failed_items: int
    status_counts: dict[ItemStatus, int]
    active_batches: int
    backoff_remaining_sec: float
    items: list[ItemResult[OutputT]]


@dataclass(frozen=True, slots=True)
class RunEvent:
    """Something that happened to a run; passed to the runner's observer.

    Attributes:
        event_type: One of the names listed in docs/reference/events.md.
        run_id: The run.
        provider_kind: The provider, if one was involved.
        data: Details, as JSON.
    """

    event_type: str
    run_id: str
    provider_kind: ProviderKind | str | None = None
    data: JSONObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TerminalResultsPage(Generic[OutputT]):
    """A page of terminal results.

    Attributes:
        run_id: The run.
        items: Results in the order in which they became terminal.
        next_after_sequence: Pass as ``after_sequence`` to get the next page; unchanged if there is none.
    """

    run_id: str
    items: list[ItemResult[OutputT]]
    next_after_sequence: int

    def _repr_html_(self) -> str:
        """The page's first rows in a notebook."""
        cells = ((each.item_id, each.status.value, answer_or_error(each)) for each in self.items)
        return html.grid(("item_id", "status", "output"), self.items, cells)
