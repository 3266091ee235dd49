"""The kinds of output of a job, how an answer of each kind is checked, and what is stored of it.

An answer is stored as a text (``OutputKind.TEXT``; as JSON for models, bodies and calls) or as bytes (vectors).
``runtime.results`` turns what is stored into objects and lines, ``tables.answer_columns`` into columns.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, TypeAlias, assert_never

from pydantic import BaseModel
from typing_extensions import TypeVar  # that of typing has defaults from Python 3.13 on

from batchor_core.core.answers import Answer
from batchor_core.core.arguments import check_whole_number, shown
from batchor_core.core.exceptions import InvalidInputError, StructuredOutputError
from batchor_core.core.failures import ItemFailure
from batchor_core.core.jsontext import exact_json, loads_exactly, loads_kept
from batchor_core.core.output_kinds import Kept as Kept
from batchor_core.core.output_kinds import Output as Output
from batchor_core.core.output_kinds import OutputKind as OutputKind
from batchor_core.core.output_kinds import OutputT as OutputT
from batchor_core.core.structured import parse_structured_output
from batchor_core.core.tools import ToolOutput
from batchor_core.core.types import JSONObject
from batchor_core.core.vectors import DTYPES, VectorDtype, VectorError, vector_array, vector_bytes

ModelT = TypeVar("ModelT", bound=BaseModel, default=Any)


@dataclass(frozen=True, slots=True)
class TextOutput(Output[str]):
    """Answers are texts."""

    kind: ClassVar[Literal[OutputKind.TEXT]] = OutputKind.TEXT

    def check(self, answer: Answer) -> Kept | ItemFailure:
        """Accepts any text."""
        if answer.text is None and answer.value is not None:
            return ItemFailure(
                "non_text_answer", "the answer is not text; give the job another output", retryable=False
            )
        return Kept(answer.text)


@dataclass(frozen=True, slots=True)
class ModelOutput(Output[ModelT], Generic[ModelT]):
    """Answers are JSON that a Pydantic model accepts.

    Attributes:
        model: The model. None for a stored run whose model can't be imported in this process: its answers need only be JSON.
    """

    model: type[ModelT] | None

    kind: ClassVar[Literal[OutputKind.MODEL]] = OutputKind.MODEL

    def check(self, answer: Answer) -> Kept | ItemFailure:
        """The text must be accepted by the model."""
        text = answer.text or ""
        try:
            if self.model is not None:
                parse_structured_output(text, self.model)
            else:
                loads_exactly(text.encode())  # a number that a double can't hold is JSON too
        except StructuredOutputError as error:
            return ItemFailure(error.error_class, error.message, error.may_pass, error.raw_error)
        except ValueError as error:
            return ItemFailure("invalid_json", str(error), retryable=True)
        return Kept(answer.text, True)


@dataclass(frozen=True, slots=True)
class VectorOutput(Output[Sequence[float]]):
    """Answers are vectors of one length.

    They come as base64 or as lists of numbers and are stored as bytes: little-endian elements, one after the other.

    Attributes:
        dimensions: Elements of each vector.
        dtype: Their type: float32, float64, int8 or uint8.

    Raises:
        InvalidInputError: ``dimensions`` or ``dtype`` is not usable.
    """

    dimensions: int
    dtype: VectorDtype = "float32"

    kind: ClassVar[Literal[OutputKind.VECTOR]] = OutputKind.VECTOR

    def __post_init__(self) -> None:
        check_whole_number("VectorOutput.dimensions", self.dimensions, least=1)
        if self.dtype not in DTYPES:
            raise InvalidInputError(
                f"VectorOutput.dtype must be one of {', '.join(DTYPES)}, not {shown(self.dtype)}"
            )

    def check(self, answer: Answer) -> Kept | ItemFailure:
        """The vector must have the dimensions, and no NaN or infinity."""
        try:
            return Kept(data=vector_bytes(answer.value, dimensions=self.dimensions, dtype=self.dtype))
        except VectorError as error:
            return ItemFailure(error.error_class, str(error), error.may_pass)

    def value(self, data: bytes) -> array[Any]:
        """A stored vector."""
        return vector_array(data, self.dtype)

    def to_payload(self) -> JSONObject:
        """As it is stored with a run."""
        return {"kind": self.kind.value, "dimensions": self.dimensions, "dtype": self.dtype}


@dataclass(frozen=True, slots=True)
class BodyOutput(Output[Any]):
    """Answers are whole response bodies as JSON, with every number as it was written."""

    kind: ClassVar[Literal[OutputKind.BODY]] = OutputKind.BODY

    def check(self, answer: Answer) -> Kept | ItemFailure:
        """Accepts any JSON."""
        if answer.value is None:
            return ItemFailure("empty_response_body", "the answer has no body", retryable=True)
        try:
            return Kept(exact_json(answer.value).decode(), True)
        except (TypeError, ValueError, RecursionError) as error:
            return ItemFailure("invalid_json", f"the body can't be kept as JSON: {error}", retryable=False)

    def value(self, text: str) -> Any:
        """A stored body."""
        return loads_kept(text)


OutputSpec: TypeAlias = TextOutput | ModelOutput[Any] | VectorOutput | BodyOutput | ToolOutput
"""What the answers of a job are."""

OUTPUTS = (TextOutput, ModelOutput, VectorOutput, BodyOutput, ToolOutput)


def check_output(name: str, output: Any) -> OutputSpec:
    """Return ``output`` if it is an output.

    Raises:
        InvalidInputError: It is not an output.
    """
    if isinstance(output, OUTPUTS):
        return output
    if isinstance(output, type) and issubclass(output, BaseModel):
        raise InvalidInputError(
            f"{name} is the model {output.__name__}; give {name}=ModelOutput({output.__name__}), or structured_output="
            f"{output.__name__}"
        )
    names = ", ".join(kind.__name__ for kind in OUTPUTS)
    if isinstance(output, type) and output in OUTPUTS:
        raise InvalidInputError(f"{name} is the class {output.__name__}; give {output.__name__}(...)")
    raise InvalidInputError(f"{name} must be one of {names}, not {shown(output)}")


def output_from_payload(payload: JSONObject) -> OutputSpec:
    """Read what ``to_payload`` of an output wrote; of a model, only that it is one.

    Raises:
        InvalidInputError: A newer version of the engine wrote it.
    """
    try:
        kind = OutputKind(str(payload.get("kind")))
    except ValueError:
        raise InvalidInputError(
            f"the run's output is of the kind {payload.get('kind')!r}, which this version does not know; update batchor_core"
        ) from None
    match kind:
        case OutputKind.TEXT:
            return TextOutput()
        case OutputKind.MODEL:
            return ModelOutput(None)
        case OutputKind.VECTOR:
            return VectorOutput(payload["dimensions"], payload["dtype"])
        case OutputKind.BODY:
            return BodyOutput()
        case OutputKind.TOOL:
            return ToolOutput(None)
        case _:
            assert_never(kind)
