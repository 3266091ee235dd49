"""Pydantic models as closed JSON Schemas, and answers back as models.

The schema is Pydantic's own, rewritten where a closed schema needs another form of the same thing; this never raises.
The model class still checks what the rewriting drops, such as ``uniqueItems``, when the answer is parsed.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard, TypeVar, cast

from pydantic import BaseModel, ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticUserError
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import from_json

from batchor_core.core.closed_schema import closed_schema
from batchor_core.core.exceptions import (
    ModelResolutionError,
    StructuredOutputError,
    StructuredOutputSchemaError,
)
from batchor_core.core.types import JSONObject, JSONValue
from batchor_core.core.validation import check_schema_name

MAX_SCHEMA_NAME = 64

SchemaModelT = TypeVar("SchemaModelT", bound=BaseModel)
_Node = dict[str, Any]


@dataclass(frozen=True, slots=True)
class StructuredOutputSchema:
    """A closed JSON Schema, in the dialect of a provider. Unpacks as ``name, schema``.

    Attributes:
        name: Name of the schema at the provider: 1 to 64 of ``A-Z a-z 0-9 _ -``.
        schema: The schema itself. Treat it as read-only.
    """

    name: str
    schema: JSONObject

    def __iter__(self) -> Iterator[str | JSONObject]:
        return iter((self.name, self.schema))


def closed_model_schema(model: type[BaseModel], *, schema_name: str | None = None) -> StructuredOutputSchema:
    """Derive the JSON Schema of a Pydantic model, closed: every property is required and no other is allowed.

    ``T | None = None`` becomes a nullable property. Titles are dropped, descriptions kept. The provider's config
    decides whether the provider accepts the schema (:meth:`~batchor_core.core.models.ProviderConfig.output_schema`).

    Args:
        model: The class that answers are parsed into.
        schema_name: Name of the schema at the provider; by default :func:`default_schema_name`.

    Raises:
        StructuredOutputSchemaError: The model has no JSON Schema.
        InvalidInputError: ``schema_name`` is not 1 to 64 of ``A-Z a-z 0-9 _ -``.
    """
    if not _is_model(model):
        raise StructuredOutputSchemaError(f"structured output must be a Pydantic model class, not {model!r}")
    name = default_schema_name(model) if schema_name is None else check_schema_name(schema_name)
    try:
        plain = model.model_json_schema(schema_generator=_QuietGenerator)
    except (PydanticInvalidForJsonSchema, PydanticUserError) as error:
        raise StructuredOutputSchemaError(f"{model.__name__}: has no JSON Schema: {error}") from error
    return StructuredOutputSchema(name=name, schema=closed_schema(plain))


def default_schema_name(model: type[BaseModel]) -> str:
    """The class name in snake case, as a name that providers take: ``Page[LineItem]`` gives ``page_line_item``."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", model.__name__)
    plain = re.sub(r"[^A-Za-z0-9]+", "_", spaced).strip("_").lower()
    return plain[:MAX_SCHEMA_NAME].rstrip("_") or "output"  # a name in another script leaves nothing


def resolve_model(
    module_name: str, qualname: str, *, allowed_modules: Sequence[str] | None = None
) -> type[BaseModel]:
    """Import the output model of a stored run again.

    Importing runs code, so only dotted identifiers are looked at, and only a ``BaseModel`` subclass is returned. A
    class of ``__main__`` is found if this process's main module has it. With ``allowed_modules``, nothing outside these
    packages and modules is imported.

    Raises:
        ModelResolutionError: The name is invalid, not allowed, can't be imported, or is not a Pydantic model.
    """
    if allowed_modules is not None and not any(
        module_name == allowed or module_name.startswith(f"{allowed}.") for allowed in allowed_modules
    ):
        raise ModelResolutionError(
            module_name, qualname, reason="its module is not among EngineSettings.model_modules"
        )
    names = [*module_name.split("."), *qualname.split(".")]
    # also refuses <locals>, Generic[int] and relative names
    if not all(name.isidentifier() for name in names):
        raise ModelResolutionError(module_name, qualname)
    try:
        found: object = (
            sys.modules[module_name] if module_name in sys.modules else importlib.import_module(module_name)
        )
        for name in qualname.split("."):
            found = getattr(found, name)
    except Exception as error:  # a user's module may raise anything while it is imported
        raise ModelResolutionError(module_name, qualname) from error
    if not _is_model(found):
        raise ModelResolutionError(module_name, qualname)
    return found


def resolve_stored_model(
    module_name: str,
    qualname: str,
    *,
    output_schema: JSONObject | None,
    schema_name: str | None,
    allowed_modules: Sequence[str] | None = None,
) -> type[BaseModel]:
    """The output model of a stored run, if it still has the schema that was sent.

    Raises:
        ModelResolutionError: As :func:`resolve_model`; or the class has changed since.
    """
    model = resolve_model(module_name, qualname, allowed_modules=allowed_modules)
    if output_schema is not None:
        try:
            now: JSONObject | None = closed_model_schema(model, schema_name=schema_name).schema
        except StructuredOutputSchemaError:
            now = None
        if now != output_schema:
            raise ModelResolutionError(
                module_name,
                qualname,
                reason="it has another schema than the one that the run was started with",
            )
    return model


def parse_structured_output(text: str, model: type[SchemaModelT]) -> SchemaModelT:
    """Parse an answer into the model, through ``model_validate_json``.

    Raises:
        StructuredOutputError: With ``error_class`` ``empty_response_text``, ``invalid_json`` (``raw_error`` is the text)
            or ``structured_output_validation_failed`` (``raw_error`` holds the parsed ``output`` and the ``errors``).
    """
    if not text or text.isspace():
        raise StructuredOutputError("empty_response_text", "the answer has no text")
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        if (
            error.errors(include_url=False, include_context=False, include_input=False)[0]["type"]
            in _NOT_JSON
        ):
            raise StructuredOutputError(
                "invalid_json", f"the answer is not JSON: {_summary(error)}", raw_error=text
            ) from error
        raise _mismatch(text, model, _summary(error), errors=_details(error)) from error
    except Exception as error:  # a validator of the user's model may raise anything; it costs this item alone
        why = f"{type(error).__name__}: {error}"
        may_pass = validator_fault_may_pass(error)
        if not may_pass:
            why = f"its validator failed with {why}; correct the validator"
        raise _mismatch(text, model, why, errors=None, may_pass=may_pass) from error


def validator_fault_may_pass(error: Exception) -> bool:
    """Whether another answer may pass a model's validator that raised ``error``, which is no ValidationError.

    A missing key or a division by zero comes from the answer. An undefined name comes from the validator's code, and
    another answer does not change that.
    """
    return isinstance(error, ValueError | LookupError | ArithmeticError | AssertionError)


def _is_model(value: object) -> TypeGuard[type[BaseModel]]:
    return isinstance(value, type) and issubclass(value, BaseModel) and value is not BaseModel


_NOT_JSON = {"json_invalid", "string_unicode"}


def _mismatch(
    text: str, model: type[BaseModel], why: str, *, errors: JSONValue, may_pass: bool = True
) -> StructuredOutputError:
    return StructuredOutputError(
        "structured_output_validation_failed",
        f"the answer does not fit {model.__name__}: {why}",
        raw_error={"output": cast(JSONValue, from_json(text)), "errors": errors},
        may_pass=may_pass,
    )


def _summary(error: ValidationError) -> str:
    details = error.errors(include_url=False, include_context=False, include_input=False)
    shown = "; ".join(f"{'.'.join(map(str, one['loc'])) or '$'}: {one['msg']}" for one in details[:3])
    return shown if len(details) <= 3 else f"{shown}; and {len(details) - 3} more"


def _details(error: ValidationError) -> JSONValue:
    return cast(
        JSONValue, from_json(error.json(include_url=False, include_context=False, include_input=False))
    )


class _QuietGenerator(GenerateJsonSchema):
    # a default that is no JSON is an error with a path in the check, so no warning is needed
    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012 - Pydantic's way
