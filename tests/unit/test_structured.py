"""Strict schemas from Pydantic models, and answers back into models."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from enum import Enum
from types import GenericAlias
from typing import Annotated, Any, Generic, Literal, NotRequired, TypeVar

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, HttpUrl, RootModel, create_model, field_validator
from typing_extensions import TypedDict  # Pydantic wants these on Python 3.11

from batchor_core.core.exceptions import (
    InvalidInputError,
    ModelResolutionError,
    StructuredOutputError,
    StructuredOutputSchemaError,
)
from batchor_core.core.structured import (
    StructuredOutputSchema,
    default_schema_name,
    parse_structured_output,
    resolve_model,
)
from batchor_core.providers.openai.strict_schema import (
    MAX_ENUM_VALUES,
    model_output_schema,
    validate_strict_json_schema,
)

T = TypeVar("T")


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Address(BaseModel):
    """Where somebody lives."""

    street: str = Field(description="with the number")
    zip: str | None = None


class Person(BaseModel):
    name: str
    address: Address = Field(description="home", examples=[{"street": "x"}])
    favourite: Color
    born: date | None


class Node(BaseModel):
    value: int
    children: list[Node]
    parent: Node | None = None


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]
    tricks: list[str]


class Owner(BaseModel):
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]


class Page(BaseModel, Generic[T]):
    rows: list[T]


class Keywords(BaseModel):
    """Properties that are called like keywords."""

    title: str
    default: int
    enum: Address
    properties: list[Address]
    required: bool


class TestSchema:
    def test_every_object_is_closed_and_every_property_required(self) -> None:
        assert model_output_schema(Address).schema == {
            "type": "object",
            "description": "Where somebody lives.",
            "properties": {
                "street": {"type": "string", "description": "with the number"},
                "zip": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            },
            "required": ["street", "zip"],
            "additionalProperties": False,
        }

    def test_it_unpacks_as_name_and_schema(self) -> None:
        name, schema = model_output_schema(Address)
        assert isinstance(name, str)
        assert isinstance(schema, dict)
        assert StructuredOutputSchema(name, schema) == model_output_schema(Address)

    def test_a_reference_with_a_description_is_replaced_by_what_it_refers_to(self) -> None:
        schema: Any = model_output_schema(Person).schema
        assert schema["properties"]["address"]["description"] == "home"
        assert schema["properties"]["address"]["properties"]["street"]["type"] == "string"
        assert "Address" not in schema["$defs"]
        assert schema["properties"]["favourite"] == {"$ref": "#/$defs/Color"}

    def test_a_recursive_model_has_an_object_at_its_root(self) -> None:
        schema: Any = model_output_schema(Node).schema
        assert schema["type"] == "object"
        assert schema["properties"]["children"] == {"type": "array", "items": {"$ref": "#/$defs/Node"}}
        assert schema["$defs"]["Node"]["required"] == ["value", "children", "parent"]

    def test_a_described_reference_within_a_cycle_stays_a_reference(self) -> None:
        class Link(BaseModel):
            next: Annotated[list[Link], Field(description="more")]
            up: Annotated[Link, Field(description="one")] | None

        schema: Any = model_output_schema(Link).schema
        validate_strict_json_schema(schema)
        assert {"type": "null"} in schema["properties"]["up"]["anyOf"]

    def test_a_discriminated_union_becomes_anyof(self) -> None:
        schema: Any = model_output_schema(Owner).schema
        assert schema["properties"]["pet"] == {"anyOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}]}
        assert schema["$defs"]["Cat"]["properties"]["kind"] == {"const": "cat", "type": "string"}

    def test_properties_that_are_called_like_keywords_are_kept(self) -> None:
        schema: Any = model_output_schema(Keywords).schema
        assert schema["required"] == ["title", "default", "enum", "properties", "required"]
        assert schema["properties"]["title"] == {"type": "string"}
        assert set(schema["$defs"]) == {"Address"}

    def test_what_only_pydantic_can_check_is_left_to_it(self) -> None:
        class Loose(BaseModel):
            model_config = ConfigDict(regex_engine="python-re")
            url: HttpUrl
            tags: set[str]
            price: Decimal
            code: Annotated[str, Field(pattern="^(?!x)a+$")]
            plain: Annotated[str, Field(pattern="^a+$", min_length=1)]
            mixed: Literal[1, "x", None]

        schema: Any = model_output_schema(Loose).schema
        assert "format" not in schema["properties"]["url"]
        assert schema["properties"]["tags"] == {"type": "array", "items": {"type": "string"}}
        assert "pattern" not in schema["properties"]["code"]
        assert schema["properties"]["plain"] == {"type": "string", "pattern": "^a+$", "minLength": 1}
        assert schema["properties"]["mixed"]["type"] == ["integer", "string", "null"]

    def test_a_root_model_of_an_object_is_that_object(self) -> None:
        schema: Any = model_output_schema(RootModel[Address]).schema
        assert schema["required"] == ["street", "zip"]
        assert "$defs" not in schema
        assert parse_structured_output('{"street": "x", "zip": null}', RootModel[Address]).root.street == "x"

    def test_extension_keywords_are_dropped(self) -> None:
        class Extended(BaseModel):
            a: int = Field(json_schema_extra={"x-unit": "metres"})

        assert model_output_schema(Extended).schema["properties"] == {"a": {"type": "integer"}}

    def test_the_key_order_is_that_of_the_fields(self) -> None:
        assert list(model_output_schema(Person).schema["properties"]) == [
            "name",
            "address",
            "favourite",
            "born",
        ]

    def test_an_alias_is_the_name_that_the_answer_uses(self) -> None:
        class Aliased(BaseModel):
            inner: str = Field(alias="outer-name")

        assert model_output_schema(Aliased).schema["required"] == ["outer-name"]
        assert parse_structured_output('{"outer-name": "x"}', Aliased).inner == "x"

    def test_the_model_itself_is_not_changed(self) -> None:
        before = Person.model_json_schema()
        model_output_schema(Person)
        assert Person.model_json_schema() == before


def _model(**fields: Any) -> type[BaseModel]:
    return create_model("Answer", **fields)


class _Extra(BaseModel):
    model_config = ConfigDict(extra="allow")
    a: int


class _HasExtra(BaseModel):
    items: list[_Extra]


class _Tagged(BaseModel):
    tags: dict[str, str]


class _HasTagged(BaseModel):
    address: _Tagged


class _Partial(TypedDict):
    a: int
    b: NotRequired[int]


class _Callback(BaseModel):
    call: Callable[[], int]


def _nested(levels: int) -> type[BaseModel]:
    model = _model(value=(int, ...))
    for level in range(levels - 1):
        model = create_model(f"Level{level}", below=(model, ...))
    return model


_REFUSED: list[tuple[type[BaseModel], str, str]] = [
    (_model(a=(int, 3)), "$.properties.a has the default 3", "remove the default"),
    (_model(a=(str, None)), "$.properties.a has the default None", "nullable"),
    (_model(a=(Color, Color.RED)), "$.properties.a has the default 'red'", "remove the default"),
    (
        _model(a=(list[int], Field(default_factory=list))),
        "$.properties.a is not required",
        "remove the default",
    ),
    (_model(a=(int | None, 3)), "$.properties.a has the default 3", "remove the default"),
    (_model(a=(Any, ...)), "$.properties.a has no type", "instead of Any"),
    (_model(a=(list, ...)), "$.properties.a.items has no type", "a bare list"),
    (_model(a=(dict[str, int], ...)), "$.properties.a is an open object", "list of models"),
    (_model(a=(dict, ...)), "$.properties.a is an open object", "list of models"),
    (
        _model(a=(tuple[int, str], ...)),
        "$.properties.a has the keyword 'prefixItems'",
        "one named field per position",
    ),
    (_model(a=(_Partial, ...)), "$.properties.a.properties.b is not required", "nullable"),
    (
        _model(a=(int | list[dict[str, int]], ...)),
        "$.properties.a.anyOf[1].items is an open object",
        "key",
    ),
    (_Extra, "$ is an open object", "extra='allow'"),
    (_HasExtra, "$.properties.items.items is an open object", "extra='allow'"),
    (_HasTagged, "$.properties.address.properties.tags is an open object", "list of models"),
    (RootModel[list[int]], "$ has type 'array'", "wrap it in a model with one field"),
    (RootModel[int | str], "$ is a union", "wrap the union"),
    (RootModel[Annotated[Cat | Dog, Field(discriminator="kind")]], "$ is a union", "wrap the union"),
    (_Callback, "has no JSON Schema", ""),
    (_nested(11), "$ has 11 levels of nested objects", "at most 10"),
    (_model(**{f"p{n}": (int, ...) for n in range(5001)}), "$ has 5,001 properties", "at most 5,000"),
    (
        _model(**{f"{n:0>130}": (int, ...) for n in range(1000)}),
        "$ has 130,000 characters",
        "at most 120,000",
    ),
]


class TestRefusal:
    @pytest.mark.parametrize(("model", "problem", "mend"), _REFUSED)
    def test_it_names_the_path_and_the_mend(self, model: type[BaseModel], problem: str, mend: str) -> None:
        with pytest.raises(StructuredOutputSchemaError) as caught:
            model_output_schema(model)
        assert problem in str(caught.value)
        assert mend in str(caught.value)
        assert str(caught.value).startswith(model.__name__)

    def test_ten_levels_are_allowed(self) -> None:
        model_output_schema(_nested(10))

    def test_something_other_than_a_model_is_named(self) -> None:
        wrongs: list[Any] = [dict, int, Address(street="x"), BaseModel.__init__]
        for wrong in wrongs:
            with pytest.raises(StructuredOutputSchemaError, match="must be a Pydantic model class"):
                model_output_schema(wrong)

    def test_a_bad_schema_name_is_refused(self) -> None:
        for name in ("", "a b", "x" * 65, "é"):
            with pytest.raises(InvalidInputError, match="schema name"):
                model_output_schema(Address, schema_name=name)

    def test_it_is_a_value_error(self) -> None:
        assert issubclass(StructuredOutputSchemaError, ValueError)


def _object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


_BAD_SCHEMAS: list[tuple[Any, str]] = [
    ([], "$ is not an object schema"),
    ({}, "$ has type None"),
    ({"type": "string"}, "$ has type 'string'"),
    ({"anyOf": [_object()]}, "$ is a union"),
    ({"$ref": "#/$defs/A", "$defs": {"A": _object()}}, "$ is a reference"),
    ({**_object(), "additionalProperties": True}, "$ is an open object"),
    ({"type": "object", "properties": {}}, "$ is an open object"),
    ({**_object(a={"type": "string"}), "required": []}, "$.properties.a is not required"),
    ({**_object(), "required": ["b"]}, "$ requires 'b'"),
    ({**_object(), "properties": []}, "$ has properties that are not an object"),
    (_object(a=True), "$.properties.a is True, not a schema"),
    (_object(a={"type": "text"}), "$.properties.a has type 'text'"),
    (_object(a={"type": ["string", "nil"]}), "$.properties.a has type 'nil'"),
    (_object(a={"type": "string", "default": "x"}), "$.properties.a has the default 'x'"),
    (_object(a={"type": "string", "format": "uri"}), "$.properties.a has format 'uri'"),
    (_object(a={"type": "array"}), "$.properties.a is an array without items"),
    (_object(a={"anyOf": []}), "$.properties.a has an anyOf"),
    (_object(a={"enum": [], "type": "string"}), "$.properties.a has an enum"),
    (_object(a={"oneOf": [{"type": "string"}]}), "$.properties.a has the keyword 'oneOf'; use anyOf"),
    (_object(a={"allOf": [{"type": "string"}]}), "$.properties.a has the keyword 'allOf'"),
    (_object(a={"type": "string", "not": {"type": "null"}}), "'not'; check it in a Pydantic validator"),
    (_object(a={"type": "object", "patternProperties": {}}), "'patternProperties'"),
    (_object(a={"type": "array", "items": {"type": "string"}, "contains": {}}), "'contains'"),
    (_object(a={"type": "string", "weird": 1}), "'weird'; remove the keyword"),
    (_object(a={"$ref": "#/$defs/A"}), "$.properties.a refers to '#/$defs/A'"),
    (_object(a={"$ref": "other.json"}), "$.properties.a refers to 'other.json'"),
    (
        {**_object(a={"$ref": "#/$defs/A", "description": "d"}), "$defs": {"A": _object()}},
        "'description' beside $ref",
    ),
    ({**_object(), "$defs": {"Unused": {"type": "object"}}}, "$.$defs.Unused is an open object"),
    (
        _object(**{"two words": {"type": "null", "default": None}}),
        "$.properties['two words'] has the default None",
    ),
    (
        _object(a={"type": "string", "enum": [f"{n}{'x' * 60}" for n in range(251)]}),
        "$.properties.a is an enum of 251 strings",
    ),
    (
        _object(**{f"p{n}": {"type": "integer", "enum": list(range(101))} for n in range(10)}),
        "$ has 1,010 enum values",
    ),
]

_GOOD_SCHEMAS: list[dict[str, Any]] = [
    _object(),
    _object(a={"type": ["string", "null"]}, b={"$ref": "#"}),
    {**_object(a={"$ref": "#/$defs/a~1b%20c"}), "$defs": {"a/b c": {"type": "integer", "minimum": 1}}},
    _object(a={"type": "string", "enum": [str(n) for n in range(MAX_ENUM_VALUES)]}),
    _object(a={"type": "array", "items": {"anyOf": [{"type": "null"}, _object()]}, "minItems": 1}),
    {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "T",
        **_object(a={"type": "string", "const": "x"}),
    },
]


class TestValidate:
    @pytest.mark.parametrize(("schema", "problem"), _BAD_SCHEMAS)
    def test_refuses(self, schema: Any, problem: str) -> None:
        with pytest.raises(StructuredOutputSchemaError) as caught:
            validate_strict_json_schema(schema)
        assert problem in str(caught.value)
        assert "; " in str(caught.value)

    @pytest.mark.parametrize("schema", _GOOD_SCHEMAS)
    def test_accepts(self, schema: dict[str, Any]) -> None:
        validate_strict_json_schema(schema)

    def test_a_bottomless_schema_is_an_error_and_no_crash(self) -> None:
        schema = _object()
        for _ in range(5_000):
            schema = _object(a=schema)
        with pytest.raises(StructuredOutputSchemaError, match="nested too deeply"):
            validate_strict_json_schema(schema)


_SCALARS: dict[Any, Any] = {
    int: st.integers(-(2**40), 2**40),
    str: st.text(max_size=5),
    bool: st.booleans(),
    float: st.floats(-1e6, 1e6),
}


class TestProperties:
    @given(
        fields=st.dictionaries(
            st.from_regex(r"[a-z][a-z0-9]{0,5}", fullmatch=True).filter(lambda name: name != "model"),
            st.tuples(
                st.sampled_from([int, str, bool, float]),
                st.sampled_from(["plain", "nullable", "optional", "list"]),
            ),
            max_size=6,
        ),
        data=st.data(),
    )
    def test_every_instance_of_a_model_fits_its_schema_and_comes_back(
        self, fields: Any, data: st.DataObject
    ) -> None:
        shapes: dict[str, Callable[[Any], Any]] = {
            "plain": lambda kind: (kind, ...),
            "nullable": lambda kind: (kind | None, ...),
            "optional": lambda kind: (kind | None, None),
            "list": lambda kind: (GenericAlias(list, (kind,)), ...),
        }
        inner = create_model(
            "Inner", **{f"f_{name}": shapes[shape](kind) for name, (kind, shape) in fields.items()}
        )
        model = create_model("Outer", one=(inner, Field(description="d")), many=(list[inner], ...))
        row = {}
        for name, (kind, shape) in fields.items():
            value = _SCALARS[kind] if shape != "list" else st.lists(_SCALARS[kind], max_size=2)
            row[f"f_{name}"] = data.draw(value | st.none() if shape in ("nullable", "optional") else value)
        answer = model.model_validate({"one": row, "many": [row]})
        schema = model_output_schema(model).schema
        jsonschema.Draft202012Validator(schema).validate(answer.model_dump(mode="json"))
        assert parse_structured_output(answer.model_dump_json(), model) == answer

    @given(st.text(min_size=1, max_size=80))
    def test_every_class_name_gives_a_legal_schema_name(self, name: str) -> None:
        model = type(name, (BaseModel,), {}) if "\0" not in name and name.isprintable() else Address
        named = model_output_schema(model, schema_name=default_schema_name(model)).name
        assert 1 <= len(named) <= 64


@pytest.mark.parametrize(
    ("class_name", "schema_name"),
    [
        ("MyOutputModel", "my_output_model"),
        ("HTTPServerError", "http_server_error"),
        ("_Private", "private"),
        ("Invoice2Line", "invoice2_line"),
        ("snake_case", "snake_case"),
        ("A__B", "a_b"),
        ("Ünïcode", "n_code"),
        ("客户", "output"),
        ("X" * 80, "x" * 64),
    ],
)
def test_the_schema_is_named_after_the_class(class_name: str, schema_name: str) -> None:
    assert default_schema_name(type(class_name, (BaseModel,), {})) == schema_name


def test_a_generic_model_has_a_legal_schema_name() -> None:
    assert default_schema_name(Page[Address]) == "page_address"
    assert model_output_schema(Page[Address]).name == "page_address"


class TestResolveModel:
    def test_a_module_level_class_is_found(self) -> None:
        assert resolve_model(Address.__module__, "Address") is Address

    def test_a_nested_class_is_found(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Person, "Inner", Address, raising=False)
        assert resolve_model(__name__, "Person.Inner") is Address

    def test_a_class_of_the_main_module_is_found_if_this_process_has_it(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys.modules["__main__"], "Answer", Address, raising=False)
        assert resolve_model("__main__", "Answer") is Address
        with pytest.raises(ModelResolutionError):
            resolve_model("__main__", "SomebodyElse")

    @pytest.mark.parametrize(
        ("module_name", "qualname"),
        [
            (__name__, "Missing"),
            (__name__, "test_it.<locals>.Answer"),
            (__name__, "Page[int]"),
            (__name__, "TestResolveModel"),
            (__name__, "default_schema_name"),
            (__name__, ""),
            ("no_such_module_at_all", "Answer"),
            ("..relative", "Answer"),
            (".relative", "Answer"),
            ("", "Answer"),
            ("os;import sys", "Answer"),
            ("../evil", "Answer"),
            ("os", "system"),
            ("os.path", "join"),
            ("a b", "Answer"),
        ],
    )
    def test_everything_else_is_an_error_that_names_it(self, module_name: str, qualname: str) -> None:
        with pytest.raises(ModelResolutionError) as caught:
            resolve_model(module_name, qualname)
        assert (caught.value.module_name, caught.value.qualname) == (module_name, qualname)

    def test_a_module_that_breaks_while_it_is_imported_is_an_error(
        self, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "breaks_on_import.py").write_text("1 / 0")
        monkeypatch.syspath_prepend(tmp_path)
        with pytest.raises(ModelResolutionError):
            resolve_model("breaks_on_import", "Answer")

    def test_a_name_that_is_none_imports_nothing(
        self, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "planted.py").write_text(
            "import pathlib; pathlib.Path(__file__).with_name('marker').touch()"
        )
        monkeypatch.syspath_prepend(tmp_path)
        with pytest.raises(ModelResolutionError):
            resolve_model("planted", "f.<locals>.Answer")
        assert not (tmp_path / "marker").exists()


class Positive(BaseModel):
    n: int

    @field_validator("n")
    @classmethod
    def _check(cls, value: int) -> int:
        return 10 // value + value


class TestParse:
    def test_a_fitting_answer_is_an_instance(self) -> None:
        assert parse_structured_output('{"street": "x", "zip": null}', Address) == Address(street="x")

    @pytest.mark.parametrize(
        ("text", "error_class"),
        [
            ("", "empty_response_text"),
            (" \n\t", "empty_response_text"),
            ("{", "invalid_json"),
            ("sorry", "invalid_json"),
            ('```json\n{"street": "x"}\n```', "invalid_json"),
            ('{"street": "x"} and more', "invalid_json"),
            ("[" * 100_000, "invalid_json"),
            ("\ud800", "invalid_json"),
            ("[]", "structured_output_validation_failed"),
            ("null", "structured_output_validation_failed"),
            ('{"zip": "1"}', "structured_output_validation_failed"),
            ('{"street": 5}', "structured_output_validation_failed"),
        ],
    )
    def test_an_answer_that_does_not_fit_says_how(self, text: str, error_class: str) -> None:
        with pytest.raises(StructuredOutputError) as caught:
            parse_structured_output(text, Address)
        assert caught.value.error_class == error_class

    def test_a_mismatch_keeps_the_answer_and_its_errors(self) -> None:
        with pytest.raises(StructuredOutputError, match=r"not fit Address: street: Field required") as caught:
            parse_structured_output('{"zip": "1"}', Address)
        assert caught.value.raw_error == {
            "output": {"zip": "1"},
            "errors": [{"type": "missing", "loc": ["street"], "msg": "Field required"}],
        }

    def test_a_validator_that_breaks_costs_this_answer_alone(self) -> None:
        with pytest.raises(StructuredOutputError, match="ZeroDivisionError") as caught:
            parse_structured_output('{"n": 0}', Positive)
        assert caught.value.error_class == "structured_output_validation_failed"
