"""Answers that are calls of tools: each tool is a Pydantic model, whose fields are the arguments.

An answer is stored as ``{"tool": "look_up", "arguments": {...}}``. Nothing is called: the caller reads which tool the model chose,
with its arguments as an instance.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from operator import or_
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel, create_model

from batchor_core.core.answers import Answer
from batchor_core.core.exceptions import InvalidInputError, StructuredOutputError
from batchor_core.core.failures import ItemFailure
from batchor_core.core.jsontext import exact_json, loads_exactly
from batchor_core.core.output_kinds import Kept, Output, OutputKind
from batchor_core.core.structured import StructuredOutputSchema, default_schema_name, parse_structured_output
from batchor_core.core.types import JSONObject


@dataclass(frozen=True, slots=True)
class ToolSchema:
    """A tool as requests describe it.

    Attributes:
        name: Its name, that of its model in snake case.
        description: The docstring of its model; empty if there is none.
        schema: The strict schema of its arguments, in the dialect of the provider. Treat it as read-only.
    """

    name: str
    description: str
    schema: JSONObject

    def to_payload(self) -> JSONObject:
        """As it is stored with a run."""
        return {"name": self.name, "description": self.description, "schema": self.schema}


@dataclass(frozen=True, slots=True)
class WantedTools:
    """What a request asks for: a call of exactly one of these tools.

    Attributes:
        tools: The tools.
    """

    tools: tuple[ToolSchema, ...]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that a model made.

    Attributes:
        name: The tool's name.
        arguments: Its arguments as JSON text, or as a server has decoded it.
    """

    name: str
    arguments: Any


@dataclass(frozen=True, slots=True)
class ToolOutput(Output[BaseModel]):
    """Answers are calls of tools: each request has to be answered with a call of exactly one of them.

    An answer without a call, with several calls, of an unknown tool or with arguments that don't fit is retried as an answer
    is that doesn't fit its model.

    Attributes:
        models: A Pydantic model for each tool. Its name in snake case is the tool's, its docstring the description, its fields
            are the arguments. None for a stored run whose models can't be imported in this process: its answers need only be
            JSON.

    Raises:
        InvalidInputError: There is no model, one is no Pydantic model, or two have the same name.
    """

    models: Sequence[type[BaseModel]] | None

    kind: ClassVar[Literal[OutputKind.TOOL]] = OutputKind.TOOL

    def __post_init__(self) -> None:
        if self.models is None:
            return
        models: Any = self.models
        if (
            isinstance(models, type)
            or not isinstance(models, Sequence)
            or isinstance(models, str)
            or not models
        ):
            raise InvalidInputError(
                f"ToolOutput takes a list of Pydantic models, one for each tool, not {models!r}"
            )
        for model in models:
            if not (isinstance(model, type) and issubclass(model, BaseModel)):
                raise InvalidInputError(f"ToolOutput takes Pydantic model classes, not {model!r}")
        object.__setattr__(self, "models", tuple(models))
        names = [default_schema_name(model) for model in models]
        if "tool" in names:
            raise InvalidInputError("a tool can't be called 'tool'; give its model another name")
        if twice := [name for name in names if names.count(name) > 1]:
            raise InvalidInputError(
                f"two models of ToolOutput make a tool of the name {twice[0]!r}; rename one of them"
            )

    @property
    def by_name(self) -> dict[str, type[BaseModel]]:
        """The models by the names of their tools."""
        return {default_schema_name(model): model for model in self.models or ()}

    def wanted(self, schema_of: Callable[[type[BaseModel]], StructuredOutputSchema]) -> WantedTools:
        """The tools as requests describe them.

        Args:
            schema_of: Gives the schema of a model in the dialect of the provider.

        Raises:
            StructuredOutputSchemaError: The provider would refuse a model's schema.
        """
        return WantedTools(
            tuple(
                ToolSchema(name, inspect.cleandoc(model.__doc__ or ""), schema_of(model).schema)
                for name, model in self.by_name.items()
            )
        )

    def check(self, answer: Answer) -> Kept | ItemFailure:
        """There must be one call, of a known tool, whose arguments the tool's model accepts."""
        calls: Sequence[ToolCall] = answer.value or ()
        if len(calls) != 1:
            said = "several tools" if calls else "no tool"
            return ItemFailure(f"{said.replace(' ', '_')}_called", f"the model called {said}", retryable=True)
        (call,) = calls
        if self.models is not None and call.name not in self.by_name:
            known = ", ".join(self.by_name)
            return ItemFailure(
                "unknown_tool", f"the model called {call.name[:64]!r}; the tools are {known}", retryable=True
            )
        arguments = call.arguments if isinstance(call.arguments, str) else exact_json(call.arguments).decode()
        text = f'{{"tool":{exact_json(call.name).decode()},"arguments":{arguments or "{}"}}}'
        try:
            loads_exactly(
                (arguments or "{}").encode()
            )  # by itself, so that it can't add members to what is stored
            if self.models is not None:
                self.called(text)
        except StructuredOutputError as error:
            return ItemFailure(error.error_class, error.message, error.may_pass, error.raw_error)
        except ValueError as error:
            return ItemFailure("invalid_json", f"the arguments are not JSON: {error}", retryable=True)
        return Kept(text, True)

    def called(self, text: str) -> BaseModel:
        """The arguments of a stored call, as an instance of the tool's model.

        Raises:
            StructuredOutputError: They don't fit, or there is no such tool.
        """
        call: Any = parse_structured_output(text, _calls_of(tuple(self.models or ())))
        arguments: BaseModel = call.root.arguments
        return arguments


@lru_cache(maxsize=32)
def _calls_of(models: tuple[type[BaseModel], ...]) -> type[BaseModel]:
    """A model of the stored calls of these tools."""
    made_by: Any = create_model  # its types don't know of models that are made of values
    calls: list[Any] = [
        made_by(
            model.__name__,
            __config__=ConfigDict(protected_namespaces=()),
            tool=(Literal[default_schema_name(model)], ...),
            arguments=(model, ...),
        )
        for model in models
    ]
    wrapper: Any = RootModel
    one: Any = calls[0] if len(calls) == 1 else Annotated[reduce(or_, calls), Field(discriminator="tool")]
    made: type[BaseModel] = wrapper[one]
    return made
