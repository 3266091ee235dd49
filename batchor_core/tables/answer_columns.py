"""Answers as Arrow columns, for each kind of output.

| output | columns |
|---|---|
| TextOutput | none of its own: ``output_text`` has the answer |
| ModelOutput | one for each field of the model, see ``model_columns`` |
| VectorOutput | ``vector``: a fixed-size list of its dtype |
| ToolOutput | ``tool``, its name; and a struct for each tool, which is null where another one was called |
| BodyOutput | ``body``: the JSON text, numbers as they were written |
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Self, assert_never

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, create_model
from pydantic_core import SchemaValidator

from batchor_core.core.enums import ItemStatus
from batchor_core.core.exceptions import StructuredOutputError
from batchor_core.core.outputs import BodyOutput, ModelOutput, OutputSpec, TextOutput, VectorOutput
from batchor_core.core.structured import default_schema_name, parse_structured_output
from batchor_core.core.tools import ToolOutput
from batchor_core.storage.rows import answer_bytes, answer_text, body_text, failed_text
from batchor_core.storage.state import ResultRow
from batchor_core.tables.model_columns import Column, model_columns, plain_columns, to_array
from batchor_core.tables.plain_answers import plain_validator

_COMPLETED = ItemStatus.COMPLETED.value


class AnswerColumns(ABC):
    """How the answers of a job become columns.

    Attributes:
        fields: The columns.
        row_bytes: Bytes of a row where all are alike; 0 where they are not.
    """

    fields: Sequence[pa.Field] = ()
    row_bytes: int = 0

    @abstractmethod
    def arrays(self, page: Sequence[ResultRow]) -> tuple[list[pa.Array], int]:
        """The columns of a page, and how many answers are not what the output says: they are null."""

    def texts(self, page: Sequence[ResultRow]) -> Sequence[str | None] | None:
        """The ``output_text`` of a page; None where it is that of the rows."""
        return [failed_text(row) for row in page]


def as_output(output: type[BaseModel] | OutputSpec | None) -> OutputSpec:
    """What may be given as an asset's or file's output: an output, a model, or None for texts."""
    if output is None:
        return TextOutput()
    return ModelOutput(output) if isinstance(output, type) else output


def answer_columns(output: OutputSpec, *, taken: Sequence[str]) -> AnswerColumns:
    """The columns of an output; a name in ``taken`` is prefixed with ``output_``."""
    match output:
        case TextOutput():
            return _Texts()
        case ModelOutput(model):
            return _Texts() if model is None else _Models.of(model, taken)
        case VectorOutput():
            return _Vectors(output)
        case BodyOutput():
            return _Bodies()
        case ToolOutput(models):
            return _Texts() if models is None else _Tools(output, taken)
        case _:
            assert_never(output)


class _Texts(AnswerColumns):
    def arrays(self, page: Sequence[ResultRow]) -> tuple[list[pa.Array], int]:
        return [], 0

    def texts(self, page: Sequence[ResultRow]) -> None:
        return None


class _Vectors(AnswerColumns):
    """The bytes of the rows, one after the other, are the column's memory: no number is made of them."""

    def __init__(self, output: VectorOutput) -> None:
        self._element = pa.type_for_alias(output.dtype)
        self._size = self.row_bytes = output.dimensions * self._element.bit_width // 8
        self._type = pa.list_(pa.field("element", self._element, nullable=False), output.dimensions)
        self.fields = [pa.field("vector", self._type)]

    def arrays(self, page: Sequence[ResultRow]) -> tuple[list[pa.Array], int]:
        found = [data if (data := answer_bytes(row)) and len(data) == self._size else None for row in page]
        missing, none = pa.array([data is None for data in found], pa.bool_()), bytes(self._size)
        memory = pa.py_buffer(b"".join([none if data is None else data for data in found]))
        length = len(memory) * 8 // self._element.bit_width
        elements = pa.Array.from_buffers(self._element, length, [None, memory])
        vectors = pa.FixedSizeListArray.from_arrays(elements, type=self._type, mask=missing)
        return [vectors], _unfitting(page, found)


class _Bodies(AnswerColumns):
    fields = (pa.field("body", pa.string()),)

    def arrays(self, page: Sequence[ResultRow]) -> tuple[list[pa.Array], int]:
        found = list(map(body_text, page))
        return [to_array(found, pa.string())], _unfitting(page, found)


class _Models(AnswerColumns):
    """A column for each field of a model."""

    def __init__(
        self, model: type[BaseModel], columns: Sequence[Column], plain: SchemaValidator | None
    ) -> None:
        self._model = model
        self._columns = columns
        # gives an answer as a dict of what the columns take; None if only the model's instances can tell
        self._plain = plain
        self.fields = list(map(_described, columns))

    @classmethod
    def of(cls, model: type[BaseModel], taken: Sequence[str]) -> Self:
        columns = model_columns(model, taken=taken)
        return cls(model, columns, plain_validator(model, columns))

    def texts(self, page: Sequence[ResultRow]) -> None:
        return None

    def arrays(self, page: Sequence[ResultRow]) -> tuple[list[pa.Array], int]:
        if self._plain is not None:
            dicts = self._dicts(page, self._plain)
            return plain_columns(dicts, self._columns), _unfitting(page, dicts)
        answers = [_parse(row, self._model) for row in page]
        return [column.array(column.values_of(answers)) for column in self._columns], _unfitting(
            page, answers
        )

    def _dicts(self, page: Sequence[ResultRow], plain: SchemaValidator) -> list[dict[str, Any] | None]:
        validate: Callable[[Any], dict[str, Any]] = plain.validate_json
        texts = [row.output_text if row.status == _COMPLETED else None for row in page]
        try:
            if None not in texts:
                return list(map(validate, texts))
            return [None if row.status != _COMPLETED else validate(row.output_text) for row in page]
        except (ValueError, TypeError):  # TypeError where there is no text; a ValidationError is a ValueError
            return [self._dict(row, plain) for row in page]

    def _dict(self, row: ResultRow, plain: SchemaValidator) -> dict[str, Any] | None:
        if row.status != _COMPLETED:
            return None
        try:
            members: dict[str, Any] = plain.validate_json(row.output_text)  # type: ignore[arg-type]
            return members
        except (ValueError, TypeError):
            answer = _parse(row, self._model)
            return None if answer is None else self._members(answer)

    def _members(self, answer: BaseModel) -> dict[str, Any]:
        """The same from an instance."""
        return {column.attribute: column.converted(column.values_of([answer]))[0] for column in self._columns}


class _Tools(AnswerColumns):
    """The tool's name, and for each tool its arguments."""

    def __init__(self, output: ToolOutput, taken: Sequence[str]) -> None:
        self._output = output
        members: dict[str, Any] = {name: (model | None, None) for name, model in output.by_name.items()}
        self._row = create_model(
            "Calls", __config__=ConfigDict(protected_namespaces=()), tool=(str | None, None), **members
        )
        self._columns = model_columns(self._row, taken=taken)
        self.fields = list(map(_described, self._columns))

    def texts(self, page: Sequence[ResultRow]) -> None:
        return None

    def arrays(self, page: Sequence[ResultRow]) -> tuple[list[pa.Array], int]:
        rows = [None if row.status != _COMPLETED else self._called(row) for row in page]
        return [column.array(column.values_of(rows)) for column in self._columns], _unfitting(page, rows)

    def _called(self, row: ResultRow) -> BaseModel | None:
        try:
            arguments = self._output.called(answer_text(row))
        except StructuredOutputError:
            return None
        name = default_schema_name(type(arguments))
        others = dict.fromkeys(self._output.by_name)
        made: BaseModel = self._row.model_construct(**(others | {"tool": name, name: arguments}))
        return made


def _described(column: Column) -> pa.Field:
    metadata = {"description": column.description} if column.description else None
    return pa.field(column.name, column.type, metadata=metadata)


def _unfitting(page: Sequence[ResultRow], answers: Sequence[object]) -> int:
    if None not in answers:
        return 0
    return sum(answer is None and row.status == _COMPLETED for row, answer in zip(page, answers, strict=True))


def _parse(row: ResultRow, model: type[BaseModel]) -> BaseModel | None:
    if row.status != _COMPLETED:
        return None
    try:
        return parse_structured_output(answer_text(row), model)
    except StructuredOutputError:
        return None  # answered under an older form of the model; output_text has it
