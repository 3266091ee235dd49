"""Settings of the Gemini provider."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel

from batchor_core.core.answer_length import DEFAULT_ANSWER_TOKENS
from batchor_core.core.arguments import check_seconds, check_whole_number, shown
from batchor_core.core.enqueue_budget import token_limits
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.json_limits import json_fault
from batchor_core.core.outputs import OutputKind, OutputSpec, VectorOutput
from batchor_core.core.price_list import batch_rates
from batchor_core.core.pricing import Rates, Unpriced
from batchor_core.core.structured import StructuredOutputSchema
from batchor_core.core.tools import ToolOutput
from batchor_core.core.types import BatchRequestLine, JSONObject
from batchor_core.providers.gemini.credentials import (
    OWN_URL,
    effective_base_url,
    fingerprint,
    resolve_base_url,
)
from batchor_core.providers.gemini.output_schema import model_output_schema
from batchor_core.providers.gemini.spelling import BUILT_FIELDS, TOOL_FIELDS, camel, worded
from batchor_core.providers.keyed_config import KeyedConfig

KIND = "gemini"

_NOT_IN_AN_ADDRESS = re.compile(r"[\s?#%\\]|\.\.")
_FREE_TOOLS = frozenset({"functionDeclarations", "codeExecution"})
_EMBEDDING_FIELDS = frozenset({"taskType", "title", "outputDimensionality"})


class GeminiEndpoint(StrEnum):
    """What a batch asks the model for."""

    GENERATE_CONTENT = "generateContent"
    EMBED_CONTENT = "embedContent"


OUTPUTS: dict[GeminiEndpoint, frozenset[OutputKind]] = {
    GeminiEndpoint.GENERATE_CONTENT: frozenset(OutputKind) - {OutputKind.VECTOR},
    GeminiEndpoint.EMBED_CONTENT: frozenset({OutputKind.VECTOR, OutputKind.BODY}),
}
"""Kinds of answers that an endpoint gives."""


@dataclass(frozen=True)
class GeminiProviderConfig(KeyedConfig):
    """Settings of the Gemini provider, which uses the Gemini Developer API.

    The key is left out of ``repr``, :meth:`to_public_payload` and pickles: a config from another process takes its key
    from the environment again.

    Attributes:
        model: Any model name, such as ``gemini-3-flash``; rows may name others, and one batch has one model.
        api_key: Falls back to ``GOOGLE_API_KEY``, then ``GEMINI_API_KEY``, when a request is made.
        endpoint: ``generateContent``, or ``embedContent`` for vectors.
        request_timeout_sec: Seconds per API call. Uploads and downloads get at least ten minutes.
        poll_interval_sec: Seconds between two cycles of ``Run.wait``; at the default they grow with the age of the batches.
        reasoning_effort: ``thinkingLevel`` of the request, such as ``low``; left out when None.
        enqueue_limits: Budget of tokens in flight, with the fields of ``OpenAIEnqueueLimitConfig``; Google limits them per
            model.
        base_url: Another server; falls back to ``GEMINI_BASE_URL``, then Google's own. Must be https, or loopback.
        max_output_tokens: Cap on the tokens of one answer, thoughts included; no cap when None.
        request_options: Other settings of each request. Fields of ``generationConfig`` may be given as they are, such as
            ``{"temperature": 0}``; names may have the SDK's spelling or the API's. They are stored with the run, so they must
            not contain secrets.

    Raises:
        InvalidInputError: A value is not usable.
        TypeError: A value is of the wrong type.
    """

    model: str
    api_key: str = field(default="", repr=False)
    endpoint: GeminiEndpoint = GeminiEndpoint.GENERATE_CONTENT
    request_timeout_sec: float = 30
    poll_interval_sec: float = 1.0
    reasoning_effort: str | None = None
    enqueue_limits: Mapping[str, Any] | None = field(default=None, hash=False)
    base_url: str | None = None
    max_output_tokens: int | None = None
    request_options: dict[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        for name in ("model", "api_key"):
            _check_text(name, getattr(self, name), may_be_empty=name == "api_key")
        for name in ("reasoning_effort", "base_url"):
            if getattr(self, name) is not None:
                _check_text(name, getattr(self, name))
        if _NOT_IN_AN_ADDRESS.search(self.model) or not self.model.isprintable():
            raise InvalidInputError(f"model {self.model!r} can't be part of the address of a request")
        object.__setattr__(self, "endpoint", _endpoint(self.endpoint))
        check_seconds("request_timeout_sec", self.request_timeout_sec)
        check_seconds("poll_interval_sec", self.poll_interval_sec)
        if not self.request_timeout_sec:
            raise InvalidInputError("request_timeout_sec must be above 0")
        if self.max_output_tokens is not None:
            check_whole_number("max_output_tokens", self.max_output_tokens, least=1)
        if self.enqueue_limits is not None and not isinstance(self.enqueue_limits, Mapping):
            raise TypeError(
                f"enqueue_limits must be a mapping, such as {{'enqueued_token_limit': 1_000_000}}, not {shown(self.enqueue_limits)}"
            )
        token_limits(self.enqueue_limits)
        self._check_options()
        if self.base_url is not None:
            resolve_base_url(self)

    def _check_options(self) -> None:
        options = self.request_options
        if not isinstance(options, dict):
            raise TypeError(f"request_options must be an object, not {type(options).__name__}")
        named = {camel(name): name for name in options if isinstance(name, str)}
        if built := sorted(named[name] for name in BUILT_FIELDS & named.keys()):
            raise InvalidInputError(
                f"request_options must not set {', '.join(built)}: the provider fills these fields"
            )
        if fault := json_fault(options):
            raise InvalidInputError(
                f"request_options must be JSON: request_options{fault.where} {fault.problem}; {fault.fix}"
            )
        if self.endpoint is not GeminiEndpoint.EMBED_CONTENT:
            worded(options)
            return
        lacking = sorted(named[name] for name in named.keys() - _EMBEDDING_FIELDS)
        lacking += [
            name for name in ("reasoning_effort", "max_output_tokens") if getattr(self, name) is not None
        ]
        if lacking:
            raise InvalidInputError(
                f"{', '.join(lacking)} can't be set for the endpoint {self.endpoint}; leave it out"
            )

    @property
    def provider_kind(self) -> str:
        """Always ``gemini``."""
        return KIND

    def to_payload(self) -> JSONObject:
        """All settings as JSON, the key included."""
        return {"api_key": self.api_key, **self.to_public_payload()}

    def to_public_payload(self) -> JSONObject:
        """All settings as JSON without the key; this is what is stored with a run."""
        return {
            "model": self.model,
            "endpoint": str(self.endpoint),
            "request_timeout_sec": self.request_timeout_sec,
            "poll_interval_sec": self.poll_interval_sec,
            "reasoning_effort": self.reasoning_effort,
            "enqueue_limits": None if self.enqueue_limits is None else dict(self.enqueue_limits),
            "base_url": self.base_url,
            "max_output_tokens": self.max_output_tokens,
            "request_options": copy.deepcopy(self.request_options),
        }

    @classmethod
    def from_payload(cls, payload: JSONObject) -> GeminiProviderConfig:
        """Read what :meth:`to_payload` or :meth:`to_public_payload` wrote; missing fields get their defaults.

        Raises:
            TypeError: A field is of the wrong type, or there is no model.
        """
        known = {one.name for one in fields(cls)}
        values: dict[str, Any] = {name: value for name, value in payload.items() if name in known}
        _check_text("model", values.get("model"))
        return cls(**values)

    def output_schema(
        self, model: type[BaseModel], *, schema_name: str | None = None
    ) -> StructuredOutputSchema:
        """The schema in Gemini's dialect; see :func:`~batchor_core.providers.gemini.output_schema.model_output_schema`."""
        return model_output_schema(model, schema_name=schema_name)

    def check_output(self, output: OutputSpec) -> None:
        """Refuse a kind of output that the endpoint does not give, and what the options ask for otherwise than the output."""
        if output.kind not in OUTPUTS[self.endpoint]:
            others = [repr(name.value) for name in GeminiEndpoint if output.kind in OUTPUTS[name]]
            raise InvalidInputError(
                f"the job's output is of the kind {output.kind.value!r}, which the endpoint {self.endpoint} does not give; give "
                f"the config endpoint={' or '.join(others)}, or the job another output"
            )
        if isinstance(output, ToolOutput):
            if given := sorted(name for name in self.request_options if camel(name) in TOOL_FIELDS):
                raise InvalidInputError(
                    f"request_options must not set {' and '.join(given)}: the job's output is a ToolOutput, whose tools are asked for"
                )
            return
        if not isinstance(output, VectorOutput):
            return
        if output.dtype != "float32":
            raise InvalidInputError(f"Gemini's vectors are float32, and the job's are {output.dtype}")
        asked = {camel(name): value for name, value in self.request_options.items()}.get(
            "outputDimensionality"
        )
        if asked not in (None, output.dimensions):
            raise InvalidInputError(
                f"request_options ask for {asked!r} dimensions, and the job's output is VectorOutput({output.dimensions}); leave "
                "them out of request_options: requests ask for those of the output"
            )

    def batch_rates(self, *, at: datetime) -> Rates:
        """What the tokens of a batch cost on a day, at Google itself."""
        if (url := effective_base_url(self.base_url)) not in (None, OWN_URL):
            return Unpriced(f"no batch price known for the server {url}")
        return batch_rates("google", self.model, at=at, unseen=self.billed_besides())

    def billed_besides(self) -> list[str]:
        """Calls of Google's own tools."""
        tools = self.request_options.get("tools")
        listed = tools if isinstance(tools, list) else [tools]
        kinds = {camel(kind) for tool in listed if isinstance(tool, Mapping) for kind in tool}
        return [f"calls of the tool {kind}" for kind in sorted(kinds - _FREE_TOOLS)]

    def longest_answer(self) -> int | None:
        """What the requests say."""
        options = {camel(name): value for name, value in self.request_options.items()}
        nested = options.get("generationConfig")
        inner = {camel(name): value for name, value in nested.items()} if isinstance(nested, Mapping) else {}
        given = (self.max_output_tokens, options.get("maxOutputTokens"), inner.get("maxOutputTokens"))
        return next((most for most in given if isinstance(most, int)), None)

    def longest_answer_to(self, line: BatchRequestLine) -> int | None:
        """What the request's body says; ``candidateCount`` answers count together."""
        config: Any = line["body"].get("generationConfig") or {}
        most, count = config.get("maxOutputTokens"), config.get("candidateCount", 1)
        if not isinstance(count, int) or count < 2:
            return most if isinstance(most, int) else None
        return count * (most if isinstance(most, int) else DEFAULT_ANSWER_TOKENS)

    def of_model(self, model: str) -> GeminiProviderConfig:
        """The same with another model."""
        return replace(self, model=model)

    def account_fingerprint(self) -> str | None:
        """Sixteen hex digits that distinguish keys and servers; None without a key."""
        return fingerprint(self)

    def server_url(self) -> str | None:
        """``base_url``, else the environment's; None for Google's own."""
        return effective_base_url(self.base_url)


def _endpoint(value: Any) -> GeminiEndpoint:
    try:
        return GeminiEndpoint(value)
    except ValueError:
        known = ", ".join(repr(str(endpoint)) for endpoint in GeminiEndpoint)
        raise InvalidInputError(f"endpoint {value!r} can't be used; known: {known}") from None


def _check_text(name: str, value: Any, *, may_be_empty: bool = False) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, not {type(value).__name__}")
    if not may_be_empty and not value.strip():
        raise InvalidInputError(f"{name} must not be empty")
