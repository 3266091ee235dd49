"""The kinds of output, and what all of them have in common."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar, Generic, NamedTuple

from typing_extensions import TypeVar  # that of typing has defaults from Python 3.13 on

from batchor_core.core.types import JSONObject

OutputT = TypeVar("OutputT", default=Any, covariant=True)


class OutputKind(StrEnum):
    """What the answers of a run are."""

    TEXT = "text"
    MODEL = "model"
    VECTOR = "vector"
    BODY = "body"
    TOOL = "tool"


class Kept(NamedTuple):
    """What is stored of a good answer: a text or bytes.

    Attributes:
        text: The text.
        text_is_json: Whether it is the JSON of the answer's value.
        data: The bytes.
    """

    text: str | None = None
    text_is_json: bool = False
    data: bytes | None = None


class Output(Generic[OutputT]):
    """Base of every kind of output, for type checkers: its parameter is the type of ``ItemResult.output``."""

    __slots__ = ()

    kind: ClassVar[OutputKind]

    def to_payload(self) -> JSONObject:
        """As it is stored with a run; of a model, the name and the schema are stored beside it."""
        return {"kind": self.kind.value}
