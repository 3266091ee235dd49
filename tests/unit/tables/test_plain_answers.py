"""The columns of a result file hold what the model's instances hold, whichever way they are made and whatever shares a page.

Models and answers are generated; each answer goes through instances and, where a model allows it, through plain dicts.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import enum
import functools
import json
import uuid
from decimal import Decimal
from typing import Annotated, Any, Literal

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import (
    AfterValidator,
    AliasChoices,
    AliasPath,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    RootModel,
    StringConstraints,
    WrapValidator,
    computed_field,
    create_model,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import core_schema

from batchor_core.core.enums import ItemStatus
from batchor_core.storage.rows import row_of
from batchor_core.storage.state import PersistedItemRecord, ResultRow
from batchor_core.tables.answer_columns import _Models
from batchor_core.tables.model_columns import model_columns
from batchor_core.tables.plain_answers import plain_validator
from batchor_core.tables.result_columns import OWN_COLUMNS

EXAMPLES = 150
"""Each makes a model of its own, which takes a while. A thousand pass too."""


class Mood(enum.StrEnum):
    GOOD = "good"
    BAD = "bad"


class Lenient(enum.StrEnum):
    GOOD = "good"
    BAD = "bad"

    @classmethod
    def _missing_(cls, value: object) -> Any:
        return next((member for member in cls if member.value == str(value).casefold()), None)


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Ratio(enum.Enum):
    HALF = 0.5
    WHOLE = 1.0


class Mixed(enum.Enum):
    ONE = 1
    TWO = "two"


class Inner(BaseModel):
    name: str
    count: int = Field(ge=0)


class StrictInner(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    count: int
    share: float | None


class Stripped(BaseModel):
    model_config = ConfigDict(str_strip_whitespace=True, str_to_upper=True, coerce_numbers_to_str=True)
    name: str


class WithDefaults(BaseModel):
    name: str = "nobody"
    count: int | None = None


class OneValidator(BaseModel):
    name: str

    @field_validator("name", mode="before")
    @classmethod
    def anything(cls, value: Any) -> Any:
        return str(value).upper()


class Swapped(BaseModel):
    a: int
    b: int

    @model_validator(mode="after")
    def order(self) -> Swapped:
        if self.a > self.b:
            self.a, self.b = self.b, self.a
        return self


class Unwrapped(BaseModel):
    a: int

    @model_validator(mode="before")
    @classmethod
    def unwrap(cls, data: Any) -> Any:
        return data.get("data", data) if isinstance(data, dict) else data


class Sized(BaseModel):
    width: int

    @computed_field
    def double(self) -> int:
        return self.width * 2

    @computed_field  # type: ignore[prop-decorator]
    @property
    def inverse(self) -> float:
        return 1 / self.width


class Shown(BaseModel):
    model_config = ConfigDict(use_enum_values=True)
    mood: Mood


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]
    name: str


class Tags(RootModel[list[str]]):
    pass


class Tree(BaseModel):
    name: str
    children: list[Tree]


class Hidden(BaseModel):
    _secret: int = 1
    name: str


class Forged(BaseModel):
    name: str

    def __getattribute__(self, attribute: str) -> Any:
        found = super().__getattribute__(attribute)
        return f"forged {found}" if attribute == "name" else found


class Code:
    """A type of the user's that is validated as text."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        return core_schema.str_schema()


def wrapped(value: Any, handler: Any) -> Any:
    return handler(value) if value != "x" else "wrapped"


TYPES: list[Any] = [
    *(Code, list[Code]),
    *(str, int, float, bool, bytes, dt.date, dt.datetime, dt.time, dt.timedelta, Decimal, uuid.UUID, Any),
    *(Mood, Lenient, Level, Ratio, Mixed, Literal["a", "b"], Literal[1, 2], Literal[True], Literal[1, "a"]),
    *(Literal["a", None], Literal[Mood.GOOD]),
    *(
        list[str],
        list[int],
        list[Mood],
        list[Lenient],
        list[list[float]],
        set[int],
        frozenset[str],
        tuple[int, ...],
    ),
    *(tuple[int, str], dict[str, int], int | str, int | float, str | None, list[int | None]),
    *(
        Inner,
        StrictInner,
        Stripped,
        WithDefaults,
        OneValidator,
        Swapped,
        Unwrapped,
        Sized,
        Shown,
        Tags,
        Tree,
        Hidden,
    ),
    *(
        Forged,
        Cat | Dog,
        Annotated[Cat | Dog, Field(discriminator="kind")],
        list[Inner],
        list[StrictInner | None],
    ),
    Annotated[str, StringConstraints(strip_whitespace=True, to_lower=True, max_length=5)],
    Annotated[int, Field(ge=0, le=10**9)],
    Annotated[int, Field(strict=True)],
    Annotated[float, Field(allow_inf_nan=False)],
    Annotated[float, Field(multiple_of=0.5)],
    Annotated[str, Field(pattern="^[a-z]+$")],
    Annotated[list[int], Field(max_length=2)],
    Annotated[str, BeforeValidator(lambda value: str(value) + "!")],
    Annotated[int, AfterValidator(lambda value: value / 2)],
    Annotated[int, AfterValidator(lambda value: {value})],
    Annotated[str, WrapValidator(wrapped)],
    Annotated[int, PlainSerializer(lambda value: f"<{value}>")],
]
CONFIGS: list[Any] = [  # dicts; ConfigDict is typed key by key
    *({}, {}, {"extra": "forbid"}, {"extra": "ignore"}, {"extra": "allow"}, {"strict": True}),
    *({"str_strip_whitespace": True}, {"coerce_numbers_to_str": True}, {"use_enum_values": True}),
    *({"alias_generator": to_camel}, {"alias_generator": to_camel, "populate_by_name": True}),
    *({"allow_inf_nan": False}, {"validate_default": True}, {"frozen": True}, {"str_max_length": 3}),
]
FIELDS: list[dict[str, Any]] = [
    *({}, {}, {}, {"default": None}, {"default": 5}, {"default": "x"}, {"default_factory": list}),
    *(
        {"alias": "other"},
        {"validation_alias": AliasChoices("first", "second")},
        {"serialization_alias": "shown"},
    ),
    *(
        {"validation_alias": AliasPath("nested", 0)},
        {"validation_alias": "other", "default": None},
        {"exclude": True},
    ),
]
NAMES = ["x", "some_name", "y"]


@st.composite
def models(draw: st.DrawFn) -> type[BaseModel]:
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True))
    fields = {}
    for name in names:
        settings = dict(draw(st.sampled_from(FIELDS)))
        annotation = draw(st.sampled_from(TYPES))
        if draw(st.booleans()):
            annotation = annotation | None
        default = settings.pop("default", ...) if "default_factory" not in settings else None
        fields[name] = (
            annotation,
            Field(**settings) if "default_factory" in settings else Field(default, **settings),
        )
    made: type[BaseModel] = create_model(  # type: ignore[call-overload]
        "Generated", __config__=draw(st.sampled_from(CONFIGS)), **fields
    )
    return made


LEAVES: list[Any] = [
    *(None, True, False, 0, 1, 2, 5, -1, 1.0, 1.5, 0.5, 2**62, 2**63 - 1, 2**63, -(2**70), 1e308, 10**40),
    *(
        float("nan"),
        float("inf"),
        "",
        "a",
        "b",
        "x",
        " pad ",
        "good",
        "GOOD",
        "Good",
        "bad",
        "two",
        "1",
        "1.5",
        "true",
    ),
    *(
        "NaN",
        "abcdefgh",
        "2026-01-02",
        "2026-01-02T03:04:05Z",
        "12:30:00",
        "P1D",
        "aGk=",
        str(uuid.UUID(int=7)),
        "日本",
    ),
]
LEAF = st.sampled_from(LEAVES)
KEYS = ["name", "count", "share", "a", "b", "width", "mood", "kind", "lives", "children", "data", "extra"]
SHAPED = [
    *(
        {"name": "n", "count": 1},
        {"count": 1, "share": 0.5},
        {"count": "1", "share": None},
        {"name": " n "},
        {"name": 5},
    ),
    *(
        {},
        {"a": 2, "b": 1},
        {"data": {"a": 1}},
        {"width": 3},
        {"width": 0},
        {"mood": "good"},
        {"kind": "cat", "lives": 9},
    ),
    *(
        {"kind": "dog", "name": "d"},
        {"name": "t", "children": [{"name": "u", "children": []}]},
        ["a"],
        [1, 2],
        [1, 1],
    ),
    *(
        [[1.5], []],
        ["good", "bad"],
        ["Good"],
        [{"name": "n", "count": 2**65}],
        {"name": "n", "count": 1, "extra": 2},
    ),
]
VALUE = (
    LEAF
    | st.sampled_from(SHAPED)
    | st.lists(LEAF, max_size=3)
    | st.dictionaries(st.sampled_from(KEYS), LEAF, max_size=3)
)
ANSWER_KEYS = [*NAMES, "someName", "other", "first", "second", "nested", "shown", "extra"]
ANSWERS = st.dictionaries(st.sampled_from(ANSWER_KEYS), VALUE, max_size=5).map(json.dumps) | st.sampled_from(
    ["", "not json", "[]", "null", '{"x": 1', '{"x": "a", "x": "b"}', '{"x": "\\ud800"}', "5", '{"x": 1e999}']
)


def row(text: str | None, index: int = 0, status: ItemStatus = ItemStatus.COMPLETED) -> ResultRow:
    return row_of(PersistedItemRecord(f"row-{index}", index, status, 1, {}, index + 1, text))


def columns_of(model: type[BaseModel], page: list[ResultRow], *, plainly: bool) -> tuple[list[str], int]:
    """Each column's type and values as text, in which NaN equals itself and 1 is not 1.0 or True."""
    columns = model_columns(model, taken=OWN_COLUMNS)
    plain = plain_validator(model, columns) if plainly else None
    arrays, unfitting = _Models(model, columns, plain).arrays(page)
    assert [array.type for array in arrays] == [column.type for column in columns]
    return [repr(array.to_pylist()) for array in arrays], unfitting


def split(model: type[BaseModel], page: list[ResultRow], *, plainly: bool) -> tuple[list[str], int]:
    """The same, each row on a page of its own."""
    columns = model_columns(model, taken=OWN_COLUMNS)
    plain = plain_validator(model, columns) if plainly else None
    answers = _Models(model, columns, plain)
    pages = [answers.arrays([one]) for one in page]
    joined = [pa.concat_arrays([arrays[at] for arrays, _ in pages]) for at in range(len(columns))]
    return [repr(array.to_pylist()) for array in joined], sum(unfitting for _, unfitting in pages)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(models(), st.lists(ANSWERS, min_size=1, max_size=6))
def test_generated_models_and_answers_give_the_same_by_every_way(
    model: type[BaseModel], answers: list[str]
) -> None:
    page = [row(text, index) for index, text in enumerate(answers)]
    page += [row(None, len(page)), row("{}", len(page) + 1, ItemStatus.FAILED_PERMANENT)]
    by_instances = columns_of(model, page, plainly=False)
    assert columns_of(model, page, plainly=True) == by_instances
    assert split(model, page, plainly=True) == by_instances
    assert split(model, page, plainly=False) == by_instances


PLAIN = [
    one for one in TYPES if plain_validator(made := create_model("M", x=(one, ...)), model_columns(made))
]


@functools.cache
def near_the_mark(at: int) -> list[Any]:
    """Values that a field of the plain type takes."""
    one = create_model("One", x=(PLAIN[at], ...))
    taken = []
    for value in [*LEAVES, *SHAPED]:
        with contextlib.suppress(ValueError):
            one.model_validate_json(json.dumps({"x": value}))
            taken.append(value)
    return taken


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.integers(0, len(PLAIN) - 1), min_size=1, max_size=4), st.sampled_from(CONFIGS), st.data())
def test_models_that_are_plain_give_the_same_by_every_way(
    kinds: list[int], config: Any, data: st.DataObject
) -> None:
    """As above, with fewer wasted answers: every field is of a plain type and most values are near the mark."""
    fields: dict[str, Any] = {f"some_{position}": (PLAIN[at], ...) for position, at in enumerate(kinds)}
    model: type[BaseModel] = create_model("Plain", __config__=config, **fields)
    names = [to_camel(name) if "alias_generator" in config else name for name in fields]
    values = [st.sampled_from([*near_the_mark(at), "?"]) for at in kinds]
    answers = st.fixed_dictionaries(dict(zip(names, values, strict=True)))
    texts = data.draw(st.lists(answers, min_size=1, max_size=5))
    page = [row(json.dumps(answer), index) for index, answer in enumerate(texts)]
    by_instances = columns_of(model, page, plainly=False)
    assert columns_of(model, page, plainly=True) == by_instances
    assert split(model, page, plainly=True) == by_instances


# --- which models are plain ----------------------------------------------------------------------------------------------


def is_plain(annotation: Any, **settings: Any) -> bool:
    model = create_model("Model", x=(annotation, Field(settings.pop("default", ...), **settings)))
    return plain_validator(model, model_columns(model)) is not None


@pytest.mark.parametrize(
    "annotation",
    [
        *(
            str,
            int,
            float,
            bool,
            int | None,
            Mood,
            Lenient,
            Level,
            Ratio,
            Literal["a", "b"],
            Literal["a", None],
        ),
        *(list[Mood], list[Inner | None], Inner, StrictInner, Stripped, WithDefaults, Shown, Cat),
        Annotated[int, Field(ge=1, le=5)],
        Annotated[str, Field(pattern="a+", max_length=3)],
        Annotated[str, StringConstraints(to_lower=True)],
        Annotated[str, Field(alias="other")],
    ],
)
def test_models_of_values_are_plain(annotation: Any) -> None:
    assert is_plain(annotation)


@pytest.mark.parametrize(
    "annotation",
    [
        *(
            Code,
            Mixed,
            Literal[1, "a"],
            Literal[Mood.GOOD],
            int | str,
            dict[str, int],
            set[int],
        ),
        *(
            dt.date,
            Decimal,
            uuid.UUID,
            bytes,
            Any,
            Tags,
            Tree,
            OneValidator,
            Swapped,
            Unwrapped,
            Sized,
            Hidden,
            Forged,
        ),
        Annotated[str, BeforeValidator(str.upper)],
        Annotated[int, AfterValidator(lambda value: value / 2)],
        Annotated[str, WrapValidator(wrapped)],
    ],
)
def test_models_with_code_or_with_another_form_are_not(annotation: Any) -> None:
    assert not is_plain(annotation)


def test_defaults_are_plain_unless_code_makes_them() -> None:
    assert is_plain(str | None, default=None)
    assert is_plain(str, default="x")
    assert not is_plain(Mood, default=Mood.GOOD)
    made = create_model("Model", x=(list[str], Field(default_factory=list)))
    assert plain_validator(made, model_columns(made)) is None


# --- by name -----------------------------------------------------------------------------------------------------------------


def test_an_enum_that_takes_any_letter_case_shows_its_member_whoever_shares_the_page() -> None:
    model = create_model("Model", mood=(Lenient, ...), count=(int, ...))
    for others in (
        [],
        [row('{"mood": "bad", "count": "7"}', 1)],
        [row('{"mood": "bad", "count": 1e400}', 1)],
    ):
        [moods, _], _ = columns_of(model, [row('{"mood": "Good", "count": 1}'), *others], plainly=True)
        assert moods.startswith("['good'")


def test_computed_fields_have_columns_typed_and_named_as_fields_are() -> None:
    columns = model_columns(Sized)
    assert [(column.name, column.type) for column in columns] == [
        ("width", pa.int64()),
        ("double", pa.int64()),
        ("inverse", pa.float64()),
    ]
    values, unfitting = columns_of(Sized, [row('{"width": 2}'), row('{"width": 0}', 1)], plainly=True)
    assert values == ["[2, 0]", "[4, 0]", "[0.5, None]"]  # what raises is null, and costs no other value
    assert unfitting == 0


def test_computed_fields_of_inner_models_are_in_the_struct() -> None:
    model = create_model("Model", sizes=(list[Sized], ...))
    [sizes], _ = columns_of(model, [row('{"sizes": [{"width": 4}, {"width": 0}]}')], plainly=True)
    assert sizes == repr(
        [[{"width": 4, "double": 8, "inverse": 0.25}, {"width": 0, "double": 0, "inverse": None}]]
    )


def test_a_computed_field_that_is_called_like_one_of_ours_is_prefixed() -> None:
    class Model(BaseModel):
        x: int

        @computed_field
        def status(self) -> str:
            return "mine"

    assert [column.name for column in model_columns(Model, taken=["status"])] == ["x", "output_status"]


def test_a_validator_that_gives_another_type_is_never_cut_to_fit() -> None:
    model = create_model("Model", x=(Annotated[int, AfterValidator(lambda value: value / 2)], ...))
    assert columns_of(model, [row('{"x": 3}')], plainly=True) == (["[None]"], 0)


def test_a_number_beyond_the_column_is_null_and_costs_no_other() -> None:
    page = [row('{"name": "a", "count": 1}'), row(f'{{"name": "b", "count": {2**70}}}', 1)]
    assert columns_of(Inner, page, plainly=True) == (["['a', 'b']", "[1, None]"], 0)


def test_a_model_that_was_made_stricter_does_not_take_what_it_refuses() -> None:
    page = [row('{"count": 1, "share": 1, "old": 2}'), row('{"count": 2, "share": null}', 1)]
    assert columns_of(StrictInner, page, plainly=True) == (["[None, 2]", "[None, None]"], 1)


def test_a_number_beyond_a_float_is_left_to_instances_which_have_a_null_for_it() -> None:
    class Share(BaseModel):
        share: float

    class Unlimited(BaseModel):
        share: float = float("inf")

    validator = plain_validator(Share, model_columns(Share))
    assert validator is not None
    assert validator.validate_json('{"share": 1e308}') == {"share": 1e308}
    with pytest.raises(ValueError, match="finite"):
        validator.validate_json('{"share": 1e400}')
    assert plain_validator(Unlimited, model_columns(Unlimited)) is None
