"""Pydantic models as OpenAI's strict JSON Schemas, and answers back as models.

``model_output_schema`` first rewrites what Pydantic gives wherever strict mode wants another spelling of the same thing
(nothing raises here), then ``validate_strict_json_schema`` refuses what is left over. What the rewriting drops, such as
``format: uri`` or ``uniqueItems``, OpenAI can't enforce and the model class still checks when the answer is parsed.

Rules and limits: https://platform.openai.com/docs/guides/structured-outputs#supported-schemas (2026).
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard, TypeVar, cast
from urllib.parse import unquote

from pydantic import BaseModel, ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticUserError
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import from_json

from batchor_core.core.exceptions import (
    ModelResolutionError,
    StructuredOutputError,
    StructuredOutputSchemaError,
)
from batchor_core.core.json_limits import is_text, json_fault, limits_fault, shown
from batchor_core.core.repeating import validator_fault_may_pass
from batchor_core.core.types import JSONObject, JSONValue
from batchor_core.core.validation import check_schema_name

MAX_PROPERTIES = 5_000
MAX_NESTING = 10
MAX_TOTAL_CHARS = 120_000  # names of properties and definitions, enum and const values
MAX_ENUM_VALUES = 1_000
LARGE_ENUM = 250  # from here on the values of one string enum have a limit of their own
MAX_LARGE_ENUM_CHARS = 15_000
MAX_SCHEMA_NAME = 64

SchemaModelT = TypeVar("SchemaModelT", bound=BaseModel)
_Node = dict[str, Any]

_DEFINITION = "#/$defs/"
_TYPES = {"string", "number", "boolean", "integer", "object", "array", "null"}
_FORMATS = {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"}
_SUPPORTED = {
    *("type", "title", "description", "enum", "const", "anyOf", "$defs", "$schema", "$id", "$comment"),
    *("examples", "deprecated", "readOnly", "writeOnly"),
    *("pattern", "format", "minLength", "maxLength"),
    *("multipleOf", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    *("items", "minItems", "maxItems"),
    *("properties", "required", "additionalProperties"),
}
_HOLDERS = {"properties", "$defs", "anyOf", "items"}
"""Keywords whose values hold schemas, which are walked."""
_IN_CODE = "check it in a Pydantic validator instead"
_PAIRS = "use a list of models with a key and a value field"
_MENDS = {
    "default": "remove the default, or make the field nullable with None as its default (`T | None = None`)",
    "oneOf": "use anyOf (in Pydantic: a plain or discriminated union)",
    "allOf": "write the combined properties into one model",
    "not": _IN_CODE,
    "if": _IN_CODE,
    "then": _IN_CODE,
    "else": _IN_CODE,
    "dependentRequired": _IN_CODE,
    "dependentSchemas": _IN_CODE,
    "uniqueItems": _IN_CODE,
    "contains": _IN_CODE,
    "prefixItems": "use a model with one named field per position, or a list",
    "patternProperties": _PAIRS,
    "propertyNames": _PAIRS,
    "unevaluatedProperties": _PAIRS,
    "minProperties": _PAIRS,
    "maxProperties": _PAIRS,
}
# Notes for people and OpenAPI tools, which cost prompt tokens, and rules that the model class checks by itself
_DROPPED = {
    *("title", "examples", "deprecated", "readOnly", "writeOnly", "discriminator", "$comment"),
    *("uniqueItems", "contentEncoding", "contentMediaType", "contentSchema"),
}
_LOOKAROUND = re.compile(r"\(\?<?[=!]")
_PLAIN_NAME = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")


@dataclass(frozen=True, slots=True)
class StructuredOutputSchema:
    """A JSON Schema that OpenAI takes in strict mode. Unpacks as ``name, schema``.

    Attributes:
        name: What the provider is told the schema is called: 1 to 64 of ``A-Z a-z 0-9 _ -``.
        schema: The schema itself. Treat it as read-only.
    """

    name: str
    schema: JSONObject

    def __iter__(self) -> Iterator[str | JSONObject]:
        return iter((self.name, self.schema))


def model_output_schema(model: type[BaseModel], *, schema_name: str | None = None) -> StructuredOutputSchema:
    """Derive the strict JSON Schema of a Pydantic model.

    Every property becomes required and every object closed. ``T | None = None`` is sent as a nullable property; any
    other default is an error, since strict mode has no defaults. Titles are dropped, descriptions kept.

    Args:
        model: The class that answers are parsed into.
        schema_name: Name of the schema at the provider; by default :func:`default_schema_name`.

    Raises:
        StructuredOutputSchemaError: OpenAI would refuse the schema; names the JSON path, what is wrong and the mend.
        InvalidInputError: ``schema_name`` is not 1 to 64 of ``A-Z a-z 0-9 _ -``.
    """
    if not _is_model(model):
        raise StructuredOutputSchemaError(f"structured output must be a Pydantic model class, not {model!r}")
    name = default_schema_name(model) if schema_name is None else check_schema_name(schema_name)
    try:
        plain = model.model_json_schema(schema_generator=_QuietGenerator)
    except (PydanticInvalidForJsonSchema, PydanticUserError) as error:
        raise StructuredOutputSchemaError(f"{model.__name__}: has no JSON Schema: {error}") from error
    schema = _Rewriting(plain).schema()
    try:
        validate_strict_json_schema(schema)
    except StructuredOutputSchemaError as error:
        raise StructuredOutputSchemaError(f"{model.__name__}: {error}") from None
    return StructuredOutputSchema(name=name, schema=schema)


def default_schema_name(model: type[BaseModel]) -> str:
    """The class name in snake case, as a name that OpenAI takes: ``Page[LineItem]`` gives ``page_line_item``."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", model.__name__)
    plain = re.sub(r"[^A-Za-z0-9]+", "_", spaced).strip("_").lower()
    return plain[:MAX_SCHEMA_NAME].rstrip("_") or "output"  # a name in another script leaves nothing


def validate_strict_json_schema(schema: Mapping[str, JSONValue]) -> None:
    """Check a whole schema against OpenAI's rules and limits for strict mode.

    Raises:
        StructuredOutputSchemaError: Names the JSON path (``$.properties.address.properties.tags``, followed through
            ``$ref``), what is wrong there, and how to mend it.
    """
    try:
        _Check(schema).run()
    except RecursionError:
        raise _error(
            "$", "is nested too deeply to be read", f"at most {MAX_NESTING} levels are allowed"
        ) from None


def resolve_model(
    module_name: str, qualname: str, *, allowed_modules: Sequence[str] | None = None
) -> type[BaseModel]:
    """Import the output model of a stored run again.

    Importing runs code, so only dotted identifiers are looked at, and only a ``BaseModel`` subclass is returned. A
    class of ``__main__`` is found if this process's main module has it. With ``allowed_modules``, nothing outside these
    packages and modules is imported.

    Raises:
        ModelResolutionError: The name is not one, is not allowed, can't be imported, or is no Pydantic model.
    """
    if allowed_modules is not None and not any(
        module_name == allowed or module_name.startswith(f"{allowed}.") for allowed in allowed_modules
    ):
        raise ModelResolutionError(
            module_name, qualname, reason="its module is not among EngineSettings.model_modules"
        )
    names = [*module_name.split("."), *qualname.split(".")]
    if not all(
        name.isidentifier() for name in names
    ):  # also refuses <locals>, Generic[int] and relative names
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
            now: JSONObject | None = model_output_schema(model, schema_name=schema_name).schema
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


def _is_model(value: object) -> TypeGuard[type[BaseModel]]:
    return isinstance(value, type) and issubclass(value, BaseModel) and value is not BaseModel


_NOT_JSON = {"json_invalid", "string_unicode"}


def _mismatch(
    text: str, model: type[BaseModel], why: str, *, errors: JSONValue, may_pass: bool = True
) -> StructuredOutputError:
    return StructuredOutputError(
        "structured_output_validation_failed",
        f"the answer is no {model.__name__}: {why}",
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


class _Rewriting:
    """Spells a schema of Pydantic's in the dialect of strict mode, wherever that loses nothing."""

    def __init__(self, plain: _Node) -> None:
        self._root = plain
        self._plain: dict[str, Any] = plain.get("$defs", {})
        self._done: dict[str, _Node] = {}
        self._open: set[str] = set()

    def schema(self) -> JSONObject:
        root = self._node({key: value for key, value in self._root.items() if key != "$defs"})
        if "$ref" in root:  # a recursive model refers to itself from the root
            root = dict(self._definition(_definition_name(root["$ref"])) or root)
        definitions = self._reachable(root)
        return cast(JSONObject, {**root, "$defs": definitions} if definitions else root)

    def _node(self, node: Any) -> _Node:
        if not isinstance(node, dict):
            return {"type": node}  # such as True, left for the check to refuse
        node = {key: value for key, value in node.items() if key not in _DROPPED and not key.startswith("x-")}
        if isinstance(node.get("allOf"), list) and len(node["allOf"]) == 1:
            node = {**node.pop("allOf")[0], **node}
        if "$ref" in node and len(node) > 1:
            return self._inlined(node)
        return self._spelled(node)

    def _inlined(self, node: _Node) -> _Node:
        # OpenAI takes no keywords beside $ref, so what it refers to is put in its place
        ref = node.pop("$ref")
        target = self._definition(_definition_name(ref))
        return {"$ref": ref} if target is None else {**target, **node}

    def _definition(self, name: str) -> _Node | None:
        """The rewritten definition; None while it is being rewritten itself, or when there is none."""
        if name in self._open or name not in self._plain:
            return None
        if name not in self._done:
            self._open.add(name)
            self._done[name] = self._node(self._plain[name])
            self._open.remove(name)
        return self._done[name]

    def _spelled(self, node: _Node) -> _Node:
        # Pydantic writes oneOf for discriminated unions only, whose tags make them exclusive anyway
        if "oneOf" in node and "anyOf" not in node:
            node["anyOf"] = node.pop("oneOf")
        if isinstance(node.get("anyOf"), list):
            node["anyOf"] = [self._node(choice) for choice in node["anyOf"]]
        if "items" in node:
            node["items"] = self._node(node["items"])
        if "type" not in node and ("enum" in node or "const" in node):
            node = {"type": _types_of(node.get("enum", [node.get("const")])), **node}
        if node.get("format") not in _FORMATS:
            node.pop("format", None)
        if _LOOKAROUND.search(str(node.get("pattern", ""))):
            del node["pattern"]
        if isinstance(node.get("properties"), dict):
            node = self._closed(node)
        return node

    def _closed(self, node: _Node) -> _Node:
        properties = {name: self._node(value) for name, value in node["properties"].items()}
        required = set(node.get("required", ()))
        for name, value in properties.items():
            if value.get("default", "") is None and _takes_null(value):
                # with every property required, the model says null where it would have left the property out
                del value["default"]
                required.add(name)
        return {
            "type": "object",
            **node,
            "properties": properties,
            "required": [name for name in properties if name in required],
            "additionalProperties": node.get("additionalProperties", False),
        }

    def _reachable(self, root: _Node) -> dict[str, _Node]:
        found: dict[str, _Node] = {}
        waiting = [root]
        while waiting:
            for ref in _refs(waiting.pop()):
                name = _definition_name(ref)
                if name not in found and (target := self._definition(name)) is not None:
                    found[name] = target
                    waiting.append(target)
        return found


def _takes_null(node: _Node) -> bool:
    kinds = node.get("type")
    if kinds == "null" or (isinstance(kinds, list) and "null" in kinds):
        return True
    return any(isinstance(choice, dict) and _takes_null(choice) for choice in node.get("anyOf", ()))


def _types_of(values: list[Any]) -> str | list[str]:
    names = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}
    kinds = list(dict.fromkeys(names.get(type(value), "object") for value in values))
    return kinds[0] if len(kinds) == 1 else kinds


def _children(node: Mapping[str, Any]) -> list[Any]:
    items = [node["items"]] if "items" in node else []
    return [*node.get("properties", {}).values(), *node.get("anyOf", ()), *items]


def _refs(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for child in _children(node):
            yield from _refs(child)


def _definition_name(ref: str) -> str:
    return unquote(ref.removeprefix(_DEFINITION)).replace("~1", "/").replace("~0", "~")


class _Check:
    """One walk over a schema that raises at the first thing that strict mode refuses."""

    def __init__(self, schema: Any) -> None:
        self._root = schema
        definitions = schema.get("$defs", {}) if isinstance(schema, Mapping) else {}
        self._definitions: Mapping[str, Any] = definitions if isinstance(definitions, Mapping) else {}
        self._seen: set[str] = set()
        self._nesting: dict[str, int] = {}
        self._properties = 0
        self._enum_values = 0
        self._chars = sum(len(name) for name in self._definitions)

    def run(self) -> None:
        self._check_root()
        self._walk(self._root, "$")
        for name, definition in self._definitions.items():
            if name not in self._seen:
                self._seen.add(name)
                self._walk(definition, _below("$.$defs", name))
        self._check_totals()

    def _check_root(self) -> None:
        root = self._root
        if not isinstance(root, Mapping):
            raise _error("$", "is not an object schema", "give a JSON Schema with type: object")
        if "anyOf" in root or "oneOf" in root:
            raise _error("$", "is a union", "wrap the union in a model with one field")
        if "$ref" in root:
            raise _error("$", "is a reference", "put the definition itself at the root")
        if root.get("type") != "object":
            raise _error(
                "$", f"has type {root.get('type')!r}, not 'object'", "wrap it in a model with one field"
            )

    def _walk(self, node: Any, path: str) -> None:
        if not isinstance(node, Mapping):
            raise _error(path, f"is {node!r}, not a schema", "give it a type")
        if "$ref" in node:
            self._follow(node, path)
            return
        for keyword in node:
            if keyword not in _SUPPORTED:
                raise _error(path, f"has {_shown(node, keyword)}", _MENDS.get(keyword, "remove the keyword"))
        self._check_values(node, path)
        if "anyOf" in node:
            self._check_union(node["anyOf"], path)
        kinds = self._check_type(node, path)
        self._count_values(node, path)
        if node.get("format", "date") not in _FORMATS:
            raise _error(
                path, f"has format {node['format']!r}", f"use one of {', '.join(sorted(_FORMATS))}, or none"
            )
        if "object" in kinds or "properties" in node:
            self._check_object(node, path)
        if "array" in kinds:
            if "items" not in node:
                raise _error(path, "is an array without items", "say what the list holds, such as list[str]")
            self._walk(node["items"], f"{path}.items")

    def _check_values(self, node: Mapping[str, Any], path: str) -> None:
        """Check what is no schema itself: limits, enum values, descriptions. They go into every request line."""
        for names in (node.get("properties", ()), node.get("$defs", ())):
            for name in names:
                if not isinstance(name, str) or not is_text(name):
                    raise _error(
                        path, f"has a property or definition named {name!r}", "use text that UTF-8 can hold"
                    )
        plain = {keyword: value for keyword, value in node.items() if keyword not in _HOLDERS}
        if fault := limits_fault(node) or json_fault(plain):
            raise _error(f"{path}{fault.where}", fault.problem, fault.fix)

    def _follow(self, node: Mapping[str, Any], path: str) -> None:
        ref = node["$ref"]
        if len(node) > 1:
            beside = ", ".join(repr(key) for key in node if key != "$ref")
            raise _error(path, f"has {beside} beside $ref", "move it into the definition")
        if ref == "#":
            return
        if (
            not isinstance(ref, str)
            or not ref.startswith(_DEFINITION)
            or _definition_name(ref) not in self._definitions
        ):
            raise _error(
                path,
                f"refers to {ref!r}, which is not there",
                "refer to '#' or to a name in the root's $defs",
            )
        name = _definition_name(ref)
        if name not in self._seen:
            self._seen.add(name)
            self._walk(self._definitions[name], path)

    def _check_union(self, choices: Any, path: str) -> None:
        if not isinstance(choices, list) or not choices:
            raise _error(path, "has an anyOf that is no list of schemas", "give at least one schema")
        for index, choice in enumerate(choices):
            self._walk(choice, f"{path}.anyOf[{index}]")

    def _check_type(self, node: Mapping[str, Any], path: str) -> set[str]:
        declared = node.get("type")
        if declared is None:
            if "anyOf" in node:
                return set()
            raise _error(
                path,
                "has no type, so that any value fits",
                "give it a type instead of Any, object or a bare list",
            )
        kinds = declared if isinstance(declared, list) else [declared]
        for kind in kinds:
            if kind not in _TYPES:
                raise _error(path, f"has type {kind!r}", f"use one of {', '.join(sorted(_TYPES))}")
        return set(kinds)

    def _check_object(self, node: Mapping[str, Any], path: str) -> None:
        if node.get("additionalProperties") is not False:
            mend = f"{_PAIRS} instead of a dict, and no extra='allow' (additionalProperties must be false)"
            raise _error(path, "is an open object, which takes any further keys", mend)
        properties = node.get("properties", {})
        if not isinstance(properties, Mapping):
            raise _error(path, "has properties that are no object", "map each name to a schema")
        required = node.get("required", [])
        for name, value in properties.items():
            below = _below(f"{path}.properties", name)
            self._properties += 1
            self._chars += len(name)
            self._walk(value, below)
            if name not in required:
                raise _error(
                    below, "is not required (it has a default or may be left out)", _MENDS["default"]
                )
        for name in required:
            if name not in properties:
                raise _error(
                    path, f"requires {name!r}, which is not among its properties", "remove it from required"
                )

    def _count_values(self, node: Mapping[str, Any], path: str) -> None:
        if "const" in node:
            self._chars += len(str(node["const"]))
        if "enum" not in node:
            return
        values = node["enum"]
        if not isinstance(values, list) or not values:
            raise _error(path, "has an enum that is no list of values", "give at least one value")
        chars = sum(len(str(value)) for value in values)
        if len(values) > LARGE_ENUM and node.get("type") == "string" and chars > MAX_LARGE_ENUM_CHARS:
            problem = f"is an enum of {len(values):,} strings with {chars:,} characters"
            raise _error(
                path,
                problem,
                f"beyond {LARGE_ENUM} values at most {MAX_LARGE_ENUM_CHARS:,} characters are allowed",
            )
        self._enum_values += len(values)
        self._chars += chars

    def _check_totals(self) -> None:
        nesting = self._levels(self._root)
        for found, limit, what in (
            (self._properties, MAX_PROPERTIES, "properties"),
            (nesting, MAX_NESTING, "levels of nested objects"),
            (self._enum_values, MAX_ENUM_VALUES, "enum values"),
            (self._chars, MAX_TOTAL_CHARS, "characters of names and enum values"),
        ):
            if found > limit:
                raise _error("$", f"has {found:,} {what}", f"at most {limit:,} are allowed; split the model")

    def _levels(self, node: Any) -> int:
        """Objects within each other. A reference back to where we come from adds none, so recursion is free."""
        if "$ref" in node:
            name = "" if node["$ref"] == "#" else _definition_name(node["$ref"])
            if name and name not in self._nesting:
                self._nesting[name] = 0
                self._nesting[name] = self._levels(self._definitions[name])
            return self._nesting.get(name, 0)
        return ("properties" in node) + max(map(self._levels, _children(node)), default=0)


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if _PLAIN_NAME.fullmatch(name) else f"{path}[{name!r}]"


def _shown(node: Mapping[str, Any], keyword: str) -> str:
    return f"the default {shown(node[keyword])}" if keyword == "default" else f"the keyword {keyword!r}"


def _error(path: str, problem: str, mend: str) -> StructuredOutputSchemaError:
    return StructuredOutputSchemaError(f"{path} {problem}; {mend}")
