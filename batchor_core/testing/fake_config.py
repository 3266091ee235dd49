"""Settings of :class:`~batchor_core.testing.FakeProvider`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from pydantic import BaseModel

from batchor_core.core.models import ProviderConfig
from batchor_core.core.structured import StructuredOutputSchema
from batchor_core.core.types import BatchRequestLine, JSONObject
from batchor_core.providers.openai.answer_length import longest_answer
from batchor_core.providers.openai.strict_schema import model_output_schema

FAKE_KIND = "fake"


@dataclass(frozen=True)
class FakeProviderConfig(ProviderConfig):
    """Settings of :class:`~batchor_core.testing.FakeProvider`.

    Attributes:
        model: Written into every request.
        api_key: A secret, to test that it stays secret; left out of ``repr`` and the stored settings.
        poll_interval_sec: Seconds between two cycles of ``Run.wait``.
    """

    model: str = "fake-model"
    api_key: str = field(default="", repr=False)
    poll_interval_sec: float = 0.0

    @property
    def provider_kind(self) -> str:
        """Always ``"fake"``."""
        return FAKE_KIND

    def output_schema(
        self, model: type[BaseModel], *, schema_name: str | None = None
    ) -> StructuredOutputSchema:
        """OpenAI's strict schema, so that tests notice a model that OpenAI would refuse."""
        return model_output_schema(model, schema_name=schema_name)

    def longest_answer_to(self, line: BatchRequestLine) -> int | None:
        """What the request's body says."""
        return longest_answer(line["body"])

    def of_model(self, model: str) -> FakeProviderConfig:
        """The same with another model."""
        return replace(self, model=model)

    def to_payload(self) -> JSONObject:
        """All settings as JSON."""
        return {"api_key": self.api_key, **self.to_public_payload()}

    def to_public_payload(self) -> JSONObject:
        """All settings as JSON without the key."""
        return {"model": self.model, "poll_interval_sec": self.poll_interval_sec}

    @classmethod
    def from_payload(cls, payload: JSONObject) -> FakeProviderConfig:
        """Read what :meth:`to_payload` or :meth:`to_public_payload` wrote.

        Raises:
            TypeError: A field is of the wrong type.
        """
        model, key = payload.get("model", "fake-model"), payload.get("api_key", "")
        interval = payload.get("poll_interval_sec", 0.0)
        if not isinstance(model, str) or not isinstance(key, str):
            raise TypeError("model and api_key must be strings")
        if not isinstance(interval, int | float) or isinstance(interval, bool):
            raise TypeError(f"poll_interval_sec must be a number, not {type(interval).__name__}")
        return cls(model=model, api_key=key, poll_interval_sec=interval)
