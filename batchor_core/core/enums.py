"""Every closed set of names that the engine stores or shows."""

from __future__ import annotations

from enum import StrEnum


class ItemStatus(StrEnum):
    """The status of an item.

    ``PENDING`` waits to be claimed. ``QUEUED_LOCAL`` is claimed for a batch that the provider has
    not confirmed yet. ``SUBMITTED`` is in a provider batch. ``FAILED_RETRYABLE`` failed once and
    will be claimed again. ``COMPLETED`` and ``FAILED_PERMANENT`` are terminal.
    """

    PENDING = "pending"
    QUEUED_LOCAL = "queued_local"
    SUBMITTED = "submitted"
    COMPLETED = "completed"
    FAILED_RETRYABLE = "failed_retryable"
    FAILED_PERMANENT = "failed_permanent"


class RunControlState(StrEnum):
    """What the operator has requested for a run.

    ``PAUSED``: no polling, submission or ingestion. ``CANCEL_REQUESTED`` is final: remote batches are
    cancelled, results that still arrive are kept, the rest ends as ``run_cancelled``.
    """

    RUNNING = "running"
    PAUSED = "paused"
    CANCEL_REQUESTED = "cancel_requested"


class RunLifecycleStatus(StrEnum):
    """Whether a run is running, has ended well, or has ended with permanently failed items."""

    RUNNING = "running"
    COMPLETED = "completed"
    COMPLETED_WITH_FAILURES = "completed_with_failures"


class SubmissionState(StrEnum):
    """How far the submission of one batch has come (see ``runtime/submit.py``).

    ``CLAIMED`` -> ``UPLOADED`` -> ``SENDING`` -> ``REGISTERED``, with the side exits ``DROPPED`` (certainly not
    created, items are free again), ``UNKNOWN`` (being looked up) and ``QUARANTINED`` (a person decides).
    """

    CLAIMED = "claimed"
    UPLOADED = "uploaded"
    SENDING = "sending"
    REGISTERED = "registered"
    DROPPED = "dropped"
    UNKNOWN = "unknown"
    QUARANTINED = "quarantined"


class StorageKind(StrEnum):
    """The built-in state stores. Registries accept any other string for other stores."""

    SQLITE = "sqlite"
    POSTGRES = "postgres"
    MEMORY = "memory"


class ProviderKind(StrEnum):
    """The built-in providers. Registries accept any other string for other providers."""

    OPENAI = "openai"


class OpenAIEndpoint(StrEnum):
    """OpenAI endpoints that a batch line may name and this provider can build."""

    RESPONSES = "/v1/responses"
    CHAT_COMPLETIONS = "/v1/chat/completions"
    EMBEDDINGS = "/v1/embeddings"
    COMPLETIONS = "/v1/completions"
    MODERATIONS = "/v1/moderations"
    IMAGES = "/v1/images/generations"


class OpenAIModel(StrEnum):
    """Model names known when this version was written; any other string works as well."""

    GPT_5_2 = "gpt-5.2"
    GPT_5_1 = "gpt-5.1"
    GPT_5 = "gpt-5"
    GPT_5_MINI = "gpt-5-mini"
    GPT_5_NANO = "gpt-5-nano"
    GPT_4_1 = "gpt-4.1"
    GPT_4_1_MINI = "gpt-4.1-mini"
    GPT_4_1_NANO = "gpt-4.1-nano"


class OpenAIReasoningEffort(StrEnum):
    """How much a reasoning model may think, from none to ``xhigh``."""

    NONE = "none"
    MINIMAL = "minimal"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    XHIGH = "xhigh"
