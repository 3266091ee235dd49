"""Settings of the OpenAI provider."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Any, TypeAlias, cast
from urllib.parse import quote

from pydantic import BaseModel

from batchor_core.core.enqueue_budget import EnqueueBudget, budget_key, effective_budget, smallest_limit
from batchor_core.core.enums import OpenAIEndpoint, OpenAIModel, OpenAIReasoningEffort, ProviderKind
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.json_limits import MAX_INTEGER, json_fault
from batchor_core.core.outputs import OutputKind, OutputSpec, VectorOutput
from batchor_core.core.pricing import Rates
from batchor_core.core.structured import StructuredOutputSchema
from batchor_core.core.tools import ToolOutput
from batchor_core.core.types import BatchRequestLine, JSONObject
from batchor_core.providers.keyed_config import KeyedConfig
from batchor_core.providers.openai.answer_length import longest_answer
from batchor_core.providers.openai.base_url import account_address, check_base_url, effective_base_url
from batchor_core.providers.openai.credentials import (
    earlier_fingerprints,
    find_openai_api_key,
    fingerprint,
    resolve_base_url,
)
from batchor_core.providers.openai.endpoints import endpoint_of
from batchor_core.providers.openai.messages import BUILT_FIELDS as BUILT_FIELDS
from batchor_core.providers.openai.pricing import billed_besides, openai_batch_rates
from batchor_core.providers.openai.profiles import HostProfile, profile_named
from batchor_core.providers.openai.strict_schema import model_output_schema

OpenAIModelName: TypeAlias = OpenAIModel | str
"""A known model, or the name of any other."""

OpenAIReasoningLevel: TypeAlias = OpenAIReasoningEffort | str
"""A known effort, or the name of any other that a model takes."""


@dataclass(frozen=True, slots=True)
class OpenAIEnqueueLimitConfig:
    """How many prompt tokens may wait at OpenAI, which limits them per model (see the account's limits page).

    Attributes:
        enqueued_token_limit: The account's limit for the model; 0 for no budget.
        target_ratio: Share of the limit to use, above 0 and at most 1.
        headroom: Tokens to leave free.
        max_batch_enqueued_tokens: Most tokens in one batch; 0 for no separate limit.
    """

    enqueued_token_limit: int = 0
    target_ratio: float = 0.7
    headroom: int = 0
    max_batch_enqueued_tokens: int = 0

    def __post_init__(self) -> None:
        for name in ("enqueued_token_limit", "headroom", "max_batch_enqueued_tokens"):
            if _integer(name, getattr(self, name)) < 0:
                raise InvalidInputError(f"{name} must not be negative, and is {getattr(self, name)}")
        if not 0 < _number("target_ratio", self.target_ratio) <= 1:
            raise InvalidInputError(f"target_ratio must be above 0 and at most 1, and is {self.target_ratio}")
        if self.enqueued_token_limit and self.headroom >= self.enqueued_token_limit:
            raise InvalidInputError(
                f"headroom ({self.headroom}) must be smaller than enqueued_token_limit ({self.enqueued_token_limit})"
            )

    @property
    def inflight_limit(self) -> int:
        """Tokens that may be in flight: the smaller of the target share and the limit less headroom; 0 for no limit."""
        return effective_budget(self.enqueued_token_limit, self.target_ratio, self.headroom)

    @property
    def batch_limit(self) -> int:
        """Tokens that one batch may hold; 0 for no limit."""
        return smallest_limit(self.inflight_limit, self.max_batch_enqueued_tokens)

    def to_payload(self) -> JSONObject:
        """The limits as JSON."""
        return {
            "enqueued_token_limit": self.enqueued_token_limit,
            "target_ratio": self.target_ratio,
            "headroom": self.headroom,
            "max_batch_enqueued_tokens": self.max_batch_enqueued_tokens,
        }

    @classmethod
    def from_payload(cls, payload: JSONObject) -> OpenAIEnqueueLimitConfig:
        """Read what :meth:`to_payload` wrote; missing fields get their defaults.

        Raises:
            TypeError: A field is of the wrong type.
        """
        return cls(**_known_fields(cls, payload))


@dataclass(frozen=True)
class OpenAIProviderConfig(KeyedConfig):
    """Settings of the OpenAI provider.

    The key is left out of ``repr``, :meth:`to_public_payload` and pickles: a config from another process takes its key
    from the environment again.

    Attributes:
        model: Any model name; one batch has one model.
        api_key: Falls back to ``OPENAI_API_KEY`` when a request is made.
        endpoint: Where the lines are sent, which also decides what kinds of output a job may have.
        completion_window: How long OpenAI may take. OpenAI itself only has ``24h``; compatible servers have others.
        request_timeout_sec: Seconds per API call. Uploads and downloads get at least ten minutes.
        poll_interval_sec: Seconds between two cycles of ``Run.wait``; at the default they grow with the age of the batches.
        reasoning_effort: Left out of the request when None.
        enqueue_limits: Budget of tokens in flight.
        base_url: Another server; falls back to ``OPENAI_BASE_URL``, then OpenAI's own. Must be https, or loopback.
        max_output_tokens: Cap on the tokens of one answer, reasoning included; no cap when None.
        organization: Falls back to ``OPENAI_ORG_ID``.
        project: Falls back to ``OPENAI_PROJECT_ID``.
        request_options: Other fields of each request's body, such as ``{"temperature": 0}``. They are stored with the
            run, so they must not contain secrets.
        reuse_account: A name of your own for the account, so that all its keys share answers in ``reuse``; None if the key
            tells accounts apart.
        profile: A host that speaks OpenAI's API with differences, such as ``azure`` or ``groq``; it needs ``base_url``, and its key
            is read from ``GROQ_API_KEY`` and the like instead of ``OPENAI_API_KEY``. See
            :mod:`batchor_core.providers.openai.profiles`.

    Raises:
        InvalidInputError: A value is not usable.
        TypeError: A value is of the wrong type.
    """

    model: OpenAIModelName
    api_key: str = field(default="", repr=False)
    endpoint: OpenAIEndpoint = OpenAIEndpoint.RESPONSES
    completion_window: str = "24h"
    request_timeout_sec: float = 30
    poll_interval_sec: float = 1.0
    reasoning_effort: OpenAIReasoningLevel | None = None
    enqueue_limits: OpenAIEnqueueLimitConfig = field(default_factory=OpenAIEnqueueLimitConfig)
    base_url: str | None = None
    max_output_tokens: int | None = None
    organization: str | None = None
    project: str | None = None
    request_options: dict[str, Any] = field(default_factory=dict, hash=False)
    reuse_account: str | None = None
    profile: str | None = None

    def __post_init__(self) -> None:
        for name in ("model", "completion_window"):
            if not _string(name, getattr(self, name)).strip():
                raise InvalidInputError(f"{name} must not be empty")
        _string("api_key", self.api_key)
        for name in ("reasoning_effort", "base_url", "organization", "project", "reuse_account", "profile"):
            if getattr(self, name) is not None and not _string(name, getattr(self, name)):
                raise InvalidInputError(f"{name} must not be empty; leave it out instead")
        object.__setattr__(self, "endpoint", _endpoint(self.endpoint))
        if not 0 < _number("request_timeout_sec", self.request_timeout_sec) < math.inf:
            raise InvalidInputError(f"request_timeout_sec must be above 0, and is {self.request_timeout_sec}")
        if not 0 <= _number("poll_interval_sec", self.poll_interval_sec) < math.inf:
            raise InvalidInputError(
                f"poll_interval_sec must not be negative, and is {self.poll_interval_sec}"
            )
        if not isinstance(self.enqueue_limits, OpenAIEnqueueLimitConfig):
            raise TypeError(
                f"enqueue_limits must be an OpenAIEnqueueLimitConfig, not {type(self.enqueue_limits).__name__}"
            )
        if self.max_output_tokens is not None and not (
            1 <= _integer("max_output_tokens", self.max_output_tokens) <= MAX_INTEGER
        ):
            raise InvalidInputError(
                f"max_output_tokens must be at least 1 and within 64 bits, and is {self.max_output_tokens}"
            )
        if self.base_url is not None:
            check_base_url(self.base_url)
        _check_request_options(self.request_options)
        own = {name for name in ("reasoning_effort", "max_output_tokens") if getattr(self, name) is not None}
        endpoint_of(self.endpoint).check_settings(own | self.request_options.keys())
        if (host := self.host) is not None:
            host.check(base_url=self.base_url, window=self.completion_window, endpoint=self.endpoint)

    @property
    def host(self) -> HostProfile | None:
        """What is known of the host that ``profile`` names; None for OpenAI, and for hosts without a profile."""
        return None if self.profile is None else profile_named(self.profile)

    @property
    def provider_kind(self) -> ProviderKind:
        """Always ``ProviderKind.OPENAI``."""
        return ProviderKind.OPENAI

    def to_payload(self) -> JSONObject:
        """All settings as JSON, the key included."""
        return {"api_key": self.api_key, **self.to_public_payload()}

    def to_public_payload(self) -> JSONObject:
        """All settings as JSON without the key; this is what is stored with a run."""
        return {
            "model": str(self.model),
            "endpoint": str(self.endpoint),
            "completion_window": self.completion_window,
            "request_timeout_sec": self.request_timeout_sec,
            "poll_interval_sec": self.poll_interval_sec,
            "reasoning_effort": None if self.reasoning_effort is None else str(self.reasoning_effort),
            "enqueue_limits": self.enqueue_limits.to_payload(),
            "base_url": self.base_url,
            "max_output_tokens": self.max_output_tokens,
            "organization": self.organization,
            "project": self.project,
            "request_options": copy.deepcopy(self.request_options),
            "reuse_account": self.reuse_account,
            "profile": self.profile,
        }

    def output_schema(
        self, model: type[BaseModel], *, schema_name: str | None = None
    ) -> StructuredOutputSchema:
        """The strict schema; see :func:`~batchor_core.providers.openai.strict_schema.model_output_schema`."""
        return model_output_schema(model, schema_name=schema_name)

    def check_output(self, output: OutputSpec) -> None:
        """Refuse a kind of output that the endpoint does not give, and vectors of another form than the requests ask for."""
        endpoint = endpoint_of(self.endpoint)
        if output.kind not in endpoint.outputs:
            given = [kind.value for kind in OutputKind if kind in endpoint.outputs]
            others = [repr(name.value) for name in OpenAIEndpoint if output.kind in endpoint_of(name).outputs]
            raise InvalidInputError(
                f"the job's output is of the kind {output.kind.value!r}, and the endpoint {self.endpoint} gives "
                f"{' or '.join(given)}; give the job {_HOW_TO_ASK[given[0]]}, or the config endpoint={' or '.join(others)}"
            )
        if isinstance(output, ToolOutput) and "tools" in self.request_options:
            raise InvalidInputError(
                "request_options must not set tools: the job's output is a ToolOutput, which asks for its own"
            )
        if isinstance(output, VectorOutput):
            endpoint.check_vectors(output, model=str(self.model), options=self.request_options)

    def batch_rates(self, *, at: datetime) -> Rates:
        """What the tokens of a batch cost on a day, at OpenAI itself or at a compatible server with a known price list."""
        return openai_batch_rates(self.model, self.base_url, self.request_options, at=at)

    def billed_besides(self) -> list[str]:
        """Calls of the provider's tools, and audio."""
        return list(billed_besides(str(self.model), self.request_options))

    def longest_answer(self) -> int | None:
        """What the requests say, by whatever name."""
        own = {} if self.max_output_tokens is None else {"max_output_tokens": self.max_output_tokens}
        return longest_answer({**self.request_options, **own})

    def longest_answer_to(self, line: BatchRequestLine) -> int | None:
        """What the request's body says."""
        return longest_answer(line["body"])

    def of_model(self, model: str) -> OpenAIProviderConfig:
        """The same with another model."""
        return replace(self, model=model)

    def enqueue_budget(self) -> EnqueueBudget | None:
        """The limits, shared by all that use this account and model; None if none are set."""
        limits = self.enqueue_limits
        if not limits.batch_limit:
            return None
        key = budget_key(self, self.account_fingerprint())
        return EnqueueBudget(key=key, limit=limits.inflight_limit, per_batch=limits.batch_limit)

    def account_fingerprint(self) -> str | None:
        """Sixteen hex digits that distinguish keys, accounts and servers; None without a key."""
        resolve_base_url(self)  # what may raise comes before the key is a local variable
        key = find_openai_api_key(self)
        return fingerprint(key, self) if key else None

    def earlier_fingerprints(self) -> frozenset[str]:
        """What earlier builds, which took each spelling of ``base_url`` for another server, called the same account."""
        resolve_base_url(self)
        key = find_openai_api_key(self)
        return earlier_fingerprints(key, self) if key else frozenset()

    def server_url(self) -> str | None:
        """``base_url``, else ``OPENAI_BASE_URL``; None for OpenAI's own."""
        return effective_base_url(self.base_url)

    def batch_url(self, batch_id: str) -> str | None:
        """The batch in OpenAI's dashboard; None for other servers."""
        is_own = not account_address(self.server_url())
        return f"https://platform.openai.com/batches/{quote(batch_id, safe='')}" if is_own else None

    @classmethod
    def from_payload(cls, payload: JSONObject) -> OpenAIProviderConfig:
        """Read what :meth:`to_payload` or :meth:`to_public_payload` wrote; missing fields get their defaults.

        Raises:
            TypeError: A field is of the wrong type, or there is no model.
        """
        values = _known_fields(cls, payload)
        _string("model", values.get("model"))
        limits = values.get("enqueue_limits")
        if limits is not None:
            values["enqueue_limits"] = OpenAIEnqueueLimitConfig.from_payload(
                _object("enqueue_limits", limits)
            )
        else:
            values.pop("enqueue_limits", None)
        return cls(**values)


_HOW_TO_ASK: dict[str, str] = {
    OutputKind.TEXT: "no output",
    OutputKind.VECTOR: "output=VectorOutput(dimensions)",
    OutputKind.BODY: "output=BodyOutput()",
    OutputKind.TOOL: "output=ToolOutput(models)",
}


def _known_fields(cls: type, payload: JSONObject) -> dict[str, Any]:
    """Fields that a newer version may have added are ignored."""
    names = {f.name for f in fields(cls)}
    return {name: value for name, value in _object("payload", payload).items() if name in names}


def _endpoint(value: Any) -> OpenAIEndpoint:
    try:
        return OpenAIEndpoint(_string("endpoint", value))
    except ValueError:
        known = ", ".join(repr(str(endpoint)) for endpoint in OpenAIEndpoint)
        raise InvalidInputError(f"endpoint {value!r} can't be used; known: {known}") from None


def _check_request_options(options: Any) -> None:
    built = BUILT_FIELDS & _object("request_options", options).keys()
    if built:
        raise InvalidInputError(
            f"request_options must not set {', '.join(sorted(built))}: the provider fills these fields"
        )
    if fault := json_fault(options):
        raise InvalidInputError(
            f"request_options must be JSON: request_options{fault.where} {fault.problem}; {fault.fix}"
        )


def _string(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, not {type(value).__name__}")
    return value


def _integer(name: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, not {type(value).__name__}")
    return value


def _number(name: str, value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}")
    return value


def _object(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{name} must be an object, not {type(value).__name__}")
    return cast("dict[str, Any]", value)
