"""The end of one item, as a reader of results gets it: one class for each kind of output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, TypeAlias

from pydantic import BaseModel

from batchor_core.core import html
from batchor_core.core.enums import ItemStatus
from batchor_core.core.failures import ItemFailure
from batchor_core.core.lazy_field import Late
from batchor_core.core.outputs import ModelT, OutputT
from batchor_core.core.structured import default_schema_name
from batchor_core.core.types import JSONObject
from batchor_core.core.usage import TokenUsage

Order: TypeAlias = Literal["input", "ended"]
"""The order of results: that of the items in the input, or that in which they became terminal."""


class ReusedFrom(NamedTuple):
    """Whose answer an item has that was not sent itself.

    Attributes:
        run_id: The run that the answer was paid for in; it may have been deleted since.
        item_id: The item in it.
    """

    run_id: str
    item_id: str


class ItemResult(Late, Generic[OutputT]):
    """What the results of all kinds of runs have in common.

    Attributes:
        item_id: The item.
        status: COMPLETED or FAILED_PERMANENT.
        attempt_count: Answered attempts.
        output_text: The answer as text, where it is text; the refusal's text where the model refused.
        raw_response: The provider's whole record; None once raw artifacts are pruned.
        error: Why it failed.
        metadata: The item's metadata.
        usage: Tokens of the last answer.
        cost_usd: US dollars for all its answered attempts, as far as a price is known; None if none is, or nothing was
            billed; 0 for a reused answer.
        reused_from: The item whose answer this is, if it was not asked for anew; such a result has no usage.
    """

    __slots__ = ()

    if TYPE_CHECKING:  # the fields are those of the subclasses, each in its documented order

        @property
        def item_id(self) -> str: ...
        @property
        def status(self) -> ItemStatus: ...
        @property
        def attempt_count(self) -> int: ...
        @property
        def output_text(self) -> str | None: ...
        @property
        def raw_response(self) -> JSONObject | None: ...
        @property
        def error(self) -> ItemFailure | None: ...
        @property
        def metadata(self) -> JSONObject: ...
        @property
        def usage(self) -> TokenUsage | None: ...
        @property
        def cost_usd(self) -> float | None: ...
        @property
        def reused_from(self) -> ReusedFrom | None: ...

        @property
        def output(self) -> OutputT | None:
            """The answer as the job's output says, None on failure."""

    def _repr_html_(self) -> str:
        """The result in a notebook, without the raw response."""
        pairs = [
            ("status", self.status.value),
            ("output", answer_or_error(self)),
            ("attempts", self.attempt_count),
            ("metadata", self.metadata),
        ]
        return html.facts(self.item_id, pairs)


def answer_or_error(result: ItemResult[Any]) -> object:
    """What a person wants to see of a result: the answer, or why there is none."""
    error = result.error
    return result.output if error is None else f"{error.error_class}: {error.message}"


@dataclass(frozen=True, slots=True)
class TextItemResult(ItemResult[str]):
    """The end of one item of a text run.

    ``output_text`` is the answer, or the refusal's text; for the other fields see :class:`ItemResult`.
    """

    item_id: str
    status: ItemStatus
    attempt_count: int
    output_text: str | None = None
    raw_response: JSONObject | None = None
    error: ItemFailure | None = None
    metadata: JSONObject = field(default_factory=dict)
    usage: TokenUsage | None = None
    cost_usd: float | None = None
    reused_from: ReusedFrom | None = None

    @property
    def output(self) -> str | None:
        """The answer, None on failure, for code that reads runs of any kind: here the text, in structured runs an object."""
        return None if self.error is not None else self.output_text


@dataclass(frozen=True, slots=True)
class _WithOutput(ItemResult[OutputT], Generic[OutputT]):
    """The fields of results whose output is more than their text."""

    item_id: str
    status: ItemStatus
    attempt_count: int
    output: OutputT | None = None
    output_text: str | None = None
    raw_response: JSONObject | None = None
    error: ItemFailure | None = None
    metadata: JSONObject = field(default_factory=dict)
    usage: TokenUsage | None = None
    cost_usd: float | None = None
    reused_from: ReusedFrom | None = None


@dataclass(frozen=True, slots=True)
class StructuredItemResult(_WithOutput[ModelT], Generic[ModelT]):
    """The end of one item of a structured run.

    Attributes, besides those of :class:`ItemResult`:
        output: The validated model instance, None on failure.
        output_text: The answer before parsing.
    """


@dataclass(frozen=True, slots=True)
class VectorItemResult(_WithOutput[Sequence[float]]):
    """The end of one item of a run whose answers are vectors.

    Attributes, besides those of :class:`ItemResult`:
        output: The vector as an ``array.array``, None on failure. ``numpy.asarray(output)`` takes its memory as it is.
        output_text: The refusal's text, if it was refused.
    """


@dataclass(frozen=True, slots=True)
class BodyItemResult(_WithOutput[Any]):
    """The end of one item of a run whose answers are whole response bodies.

    Attributes, besides those of :class:`ItemResult`:
        output: The body as JSON, None on failure. A number that a float can't hold is a Decimal.
        output_text: The refusal's text, if the model refused.
    """


@dataclass(frozen=True, slots=True)
class ToolItemResult(_WithOutput[BaseModel]):
    """The end of one item of a run whose answers are calls of tools.

    Attributes, besides those of :class:`ItemResult`:
        output: The arguments, as an instance of the tool's model; None on failure.
        output_text: The call as JSON, ``{"tool": ..., "arguments": ...}``; the refusal's text, if the model refused.
    """

    @property
    def tool(self) -> str | None:
        """The name of the tool that was called; None on failure."""
        return None if self.output is None else default_schema_name(type(self.output))


BatchResultItem: TypeAlias = ItemResult[Any]
"""A result of any kind of run: a TextItemResult, StructuredItemResult, VectorItemResult, BodyItemResult or ToolItemResult."""
