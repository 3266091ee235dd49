"""Settings of the provider that runs a command."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, ClassVar

from pydantic import BaseModel

from batchor_core.core.enums import OpenAIEndpoint
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.models import ProviderConfig
from batchor_core.core.outputs import OutputSpec
from batchor_core.core.pricing import Unpriced
from batchor_core.core.structured import StructuredOutputSchema
from batchor_core.core.types import BatchRequestLine, JSONObject
from batchor_core.providers.openai.config import OpenAIProviderConfig

KIND = "command"


@dataclass(frozen=True)
class CommandProviderConfig(ProviderConfig):
    """Settings of a command that turns a file of requests into a file of answers, both as OpenAI's Batch API has them.

    The command is not stored with a run, so that no database can choose what runs on a machine: a run is resumed by starting
    its job again.

    Attributes:
        command: Program and arguments, run without a shell; ``{input}``, ``{output}`` and ``{model}`` in them are replaced.
        model: Written into every request.
        folder: Where requests, answers and logs of batches lie, at a place that outlives the process.
        endpoint: What the requests are for.
        max_output_tokens: The longest answer, in tokens; no limit when None.
        request_options: Other fields of each request's body.
        poll_interval_sec: Seconds between two cycles of ``Run.wait``; at the default they grow with the age of the batches.

    Raises:
        InvalidInputError: A value is not usable.
        TypeError: A value is of the wrong type.
    """

    operational_settings: ClassVar[frozenset[str]] = frozenset({"poll_interval_sec"})

    command: Sequence[str]
    model: str
    folder: str
    endpoint: OpenAIEndpoint = OpenAIEndpoint.CHAT_COMPLETIONS
    max_output_tokens: int | None = None
    request_options: dict[str, Any] = field(default_factory=dict, hash=False)
    poll_interval_sec: float = 1.0

    def __post_init__(self) -> None:
        command: Any = self.command
        if isinstance(command, str) or not all(isinstance(word, str) for word in command):
            raise InvalidInputError(
                "command must be a list of a program and its arguments, such as ['vllm', 'run-batch', ...]"
            )
        object.__setattr__(self, "command", tuple(command))
        for name in ("{input}", "{output}"):
            if self.command and not any(name in word for word in self.command):
                raise InvalidInputError(
                    f"command must have {name} in one of its arguments, where the file's path goes"
                )
        if not isinstance(self.folder, str) or not self.folder:
            raise InvalidInputError("folder must be the path of a folder")
        object.__setattr__(self, "endpoint", self.requests.endpoint)

    @property
    def requests(self) -> OpenAIProviderConfig:
        """What builds the requests."""
        return OpenAIProviderConfig(
            model=self.model,
            endpoint=self.endpoint,
            max_output_tokens=self.max_output_tokens,
            request_options=self.request_options,
        )

    @property
    def provider_kind(self) -> str:
        """Always ``"command"``."""
        return KIND

    def to_payload(self) -> JSONObject:
        """All settings as JSON."""
        return {"command": list(self.command), **self.to_public_payload()}

    def to_public_payload(self) -> JSONObject:
        """All settings as JSON but for the command; this is what is stored with a run."""
        return {
            "model": self.model,
            "folder": self.folder,
            "endpoint": str(self.endpoint),
            "max_output_tokens": self.max_output_tokens,
            "request_options": copy.deepcopy(self.request_options),
            "poll_interval_sec": self.poll_interval_sec,
        }

    @classmethod
    def from_payload(cls, payload: JSONObject) -> CommandProviderConfig:
        """Read what :meth:`to_payload` or :meth:`to_public_payload` wrote; the latter has no command."""
        known = {one.name for one in fields(cls)}
        return cls(**({"command": ()} | {name: value for name, value in payload.items() if name in known}))

    def output_schema(
        self, model: type[BaseModel], *, schema_name: str | None = None
    ) -> StructuredOutputSchema:
        """The strict schema, as for OpenAI."""
        return self.requests.output_schema(model, schema_name=schema_name)

    def check_output(self, output: OutputSpec) -> None:
        """Refuse a kind of output that the endpoint does not give."""
        self.requests.check_output(output)

    def batch_rates(self, *, at: datetime) -> Unpriced:
        """There is no bill."""
        return Unpriced("the command runs on this machine and sends no bill")

    def longest_answer(self) -> int | None:
        """What the requests say."""
        return self.requests.longest_answer()

    def longest_answer_to(self, line: BatchRequestLine) -> int | None:
        """What the request's body says."""
        return self.requests.longest_answer_to(line)
