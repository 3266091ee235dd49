"""Settings of the Anthropic provider."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel

from batchor_core.core.arguments import check_seconds, check_whole_number, shown
from batchor_core.core.enqueue_budget import token_limits
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.json_limits import json_fault
from batchor_core.core.outputs import OutputSpec
from batchor_core.core.pricing import Rates
from batchor_core.core.structured import StructuredOutputSchema
from batchor_core.core.tools import ToolOutput
from batchor_core.core.types import BatchRequestLine, JSONObject
from batchor_core.providers.anthropic.credentials import OWN_URL, find_key, fingerprint, resolve_base_url
from batchor_core.providers.anthropic.messages import BUILT_FIELDS, TOOL_FIELDS
from batchor_core.providers.anthropic.output_schema import model_output_schema
from batchor_core.providers.anthropic.pricing import anthropic_batch_rates, billed_besides
from batchor_core.providers.keyed_config import KeyedConfig
from batchor_core.providers.server_url import check_base_url

KIND = "anthropic"

CachePrefix = Literal["5m", "1h"]
"""How long a cached prefix is kept."""


@dataclass(frozen=True)
class AnthropicProviderConfig(KeyedConfig):
    """Settings of the Anthropic provider.

    The key is left out of ``repr``, :meth:`to_public_payload` and pickles: a config from another process takes its key
    from the environment again.

    Attributes:
        model: Any model name.
        api_key: Falls back to ``ANTHROPIC_API_KEY`` when a request is made.
        max_output_tokens: Cap on the tokens of one answer, thinking included. The API requires one; only tokens that are
            written are billed.
        request_timeout_sec: Seconds per API call. Creates, which carry all requests, get more by their size, and downloads at least ten
            minutes.
        poll_interval_sec: Seconds between two cycles of ``Run.wait``; at the default they grow with the age of the batches.
        reasoning_effort: ``output_config.effort``: low, medium, high, xhigh or max; left out of the request when None.
        cache_prefix: Mark the tools and the system prompt for the prompt cache, for five minutes (``"5m"``) or an hour
            (``"1h"``). Off by default: a write costs 1.25 times the input price, or twice for an hour, and a read a tenth,
            so it pays only if the same long prefix is hit by more than about a quarter of the requests, or a half.
        enqueue_limits: Your own limit of tokens in flight, with the fields of ``OpenAIEnqueueLimitConfig``.
        base_url: Another server; falls back to ``ANTHROPIC_BASE_URL``, then Anthropic's own. Must be https, or loopback.
        betas: Names for the header ``anthropic-beta``, which holds for a whole batch.
        request_options: Other fields of each request, such as ``{"temperature": 0}``, ``thinking`` or ``tools``. They are
            stored with the run, so they must not contain secrets.

    Raises:
        InvalidInputError: A value is not usable.
    """

    model: str
    api_key: str = field(default="", repr=False)
    max_output_tokens: int = 8_192
    request_timeout_sec: float = 30
    poll_interval_sec: float = 1.0
    reasoning_effort: str | None = None
    cache_prefix: CachePrefix | None = None
    enqueue_limits: Mapping[str, Any] | None = field(default=None, hash=False)
    base_url: str | None = None
    betas: tuple[str, ...] = ()
    request_options: dict[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        for name in ("model", "reasoning_effort", "base_url"):
            value = getattr(self, name)
            if (value is not None or name == "model") and not (isinstance(value, str) and value.strip()):
                raise InvalidInputError(f"{name} must be a non-empty string, not {shown(value)}")
        if not isinstance(self.api_key, str):
            raise InvalidInputError(f"api_key must be a string, not a {type(self.api_key).__name__}")
        check_whole_number("max_output_tokens", self.max_output_tokens, least=1)
        check_seconds("request_timeout_sec", self.request_timeout_sec)
        check_seconds("poll_interval_sec", self.poll_interval_sec)
        if not self.request_timeout_sec:
            raise InvalidInputError("request_timeout_sec must be above 0")
        if self.cache_prefix not in (None, "5m", "1h"):
            raise InvalidInputError(
                f"cache_prefix must be '5m', '1h' or None, not {shown(self.cache_prefix)}"
            )
        betas: Any = self.betas  # of JSON it is a list
        if not isinstance(betas, list | tuple) or not all(isinstance(name, str) and name for name in betas):
            raise InvalidInputError(f"betas must be a list of names, not {shown(betas)}")
        for name in betas:
            if not (name.isascii() and name.isprintable()) or " " in name or "," in name:
                raise InvalidInputError(
                    f"betas: {shown(name)} can't be sent in a header; give one name for each"
                )
        object.__setattr__(self, "betas", tuple(betas))
        if self.base_url is not None:
            check_base_url(self.base_url, example=OWN_URL)
        _check_request_options(self.request_options)
        token_limits(self.enqueue_limits)

    @property
    def provider_kind(self) -> str:
        """Always ``"anthropic"``."""
        return KIND

    def to_payload(self) -> JSONObject:
        """All settings as JSON, the key included."""
        return {"api_key": self.api_key, **self.to_public_payload()}

    def to_public_payload(self) -> JSONObject:
        """All settings as JSON without the key; this is what is stored with a run."""
        return {
            "model": self.model,
            "max_output_tokens": self.max_output_tokens,
            "request_timeout_sec": self.request_timeout_sec,
            "poll_interval_sec": self.poll_interval_sec,
            "reasoning_effort": self.reasoning_effort,
            "cache_prefix": self.cache_prefix,
            "enqueue_limits": None if self.enqueue_limits is None else dict(self.enqueue_limits),
            "base_url": self.base_url,
            "betas": list(self.betas),
            "request_options": copy.deepcopy(self.request_options),
        }

    @classmethod
    def from_payload(cls, payload: JSONObject) -> AnthropicProviderConfig:
        """Read what :meth:`to_payload` or :meth:`to_public_payload` wrote; missing fields get their defaults.

        Raises:
            TypeError: There is no model.
        """
        names = {one.name for one in fields(cls)}  # those that a newer version may have added are ignored
        return cls(**{name: value for name, value in payload.items() if name in names})

    def output_schema(
        self, model: type[BaseModel], *, schema_name: str | None = None
    ) -> StructuredOutputSchema:
        """The schema for ``output_config.format``; see :mod:`~batchor_core.providers.anthropic.output_schema`."""
        return model_output_schema(model, schema_name=schema_name)

    def check_output(self, output: OutputSpec) -> None:
        """Refuse tools beside those of the output, and thoughts of a fixed budget beside a demanded call."""
        if not isinstance(output, ToolOutput):
            return
        if given := sorted(TOOL_FIELDS & self.request_options.keys()):
            raise InvalidInputError(
                f"request_options must not set {' and '.join(given)}: the job's output is a ToolOutput, whose tools are asked for"
            )
        thinking = self.request_options.get("thinking")
        if isinstance(thinking, Mapping) and thinking.get("type") == "enabled":
            raise InvalidInputError(
                "the job's output is a ToolOutput, which demands a call, and Anthropic's models can't be forced to call a tool while "
                "thinking is enabled; leave thinking out of request_options"
            )

    def batch_rates(self, *, at: datetime) -> Rates:
        """What the tokens of a batch cost on a day, at Anthropic itself."""
        return anthropic_batch_rates(
            self.model, self.server_url(), self.request_options, is_hour=self.cache_prefix == "1h", at=at
        )

    def billed_besides(self) -> list[str]:
        """Calls of Anthropic's own tools."""
        return list(billed_besides(self.request_options))

    def longest_answer(self) -> int:
        """What the requests say."""
        return self.max_output_tokens

    def longest_answer_to(self, line: BatchRequestLine) -> int | None:
        """What the request's body says."""
        most = line["body"].get("max_tokens")
        return most if isinstance(most, int) else self.max_output_tokens

    def of_model(self, model: str) -> AnthropicProviderConfig:
        """The same with another model."""
        return replace(self, model=model)

    def account_fingerprint(self) -> str | None:
        """Sixteen hex digits that distinguish keys and servers; None without a key."""
        resolve_base_url(self)  # what may raise comes before the key is a local variable
        key = find_key(self)
        return fingerprint(key, self) if key else None

    def server_url(self) -> str | None:
        """``base_url``, else ``ANTHROPIC_BASE_URL``; None for Anthropic's own."""
        return resolve_base_url(self)


def _check_request_options(options: Any) -> None:
    if not isinstance(options, dict):
        raise InvalidInputError(f"request_options must be a dict, not {shown(options)}")
    if built := BUILT_FIELDS & options.keys():
        raise InvalidInputError(
            f"request_options must not set {', '.join(sorted(built))}: the provider fills these fields"
        )
    if "max_tokens" in options:
        raise InvalidInputError("set max_output_tokens instead of request_options['max_tokens']")
    if fault := json_fault(options):
        raise InvalidInputError(
            f"request_options must be JSON: request_options{fault.where} {fault.problem}; {fault.fix}"
        )
