"""custom_ids say which item they are for, and are told apart whatever the ids are."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from batchor_core.core.custom_ids import (
    MAX_CHARS,
    MAX_INDEX_DIGITS,
    NEWEST,
    SUBMISSION_CHARS,
    Attempt,
    CustomIdFormat,
    CustomIds,
    most_chars,
    parse,
)

LEGAL = re.compile(r"[a-zA-Z0-9_-]{1,64}")
OLD = CustomIds("run", CustomIdFormat.INDEX_FIRST)
NEW = CustomIds("run")

formats = st.sampled_from(CustomIdFormat)
indexes = st.integers(0, 10**MAX_INDEX_DIGITS - 1)
generations = st.integers(0, 99) | st.integers(0, 2**48 - 1)
ids = st.text(min_size=1) | st.text("ab-_=0123456789", min_size=1, max_size=80)


@pytest.mark.parametrize(
    ("item_id", "piece"),
    [
        ("review-17", "review-17"),
        ("row_5", "row_5"),
        ("5", "5"),
        ("order/2026/17", "order_2026_17"),
        ("a b\tc\nd", "a_b_c_d"),
        ("Zürich", "Zurich"),
        ("São Paulo, café n°5", "Sao_Paulo_cafe_n_5"),
        ("東京", "item"),
        ("東京-17", "17"),
        ("Größe", "Gro_e"),
        ("=cmd()", "cmd"),
        ("-1", "1"),
        ("__init__", "init"),
        ("-", "item"),
        ("\ud800", "item"),
        ("\0", "item"),
        ("x" * 1_000_000, "x" * 28),
        ("https://shop.example/reviews/000017", "https_shop_example_reviews_0"),
    ],
)
def test_a_name_begins_with_what_can_be_read_of_the_id(item_id: str, piece: str) -> None:
    name = NEW.of(item_id, 123, 0)
    assert name.startswith(f"{piece}-123-0-")
    assert len(name) <= MAX_CHARS - SUBMISSION_CHARS


def test_stored_runs_of_earlier_builds_keep_their_names() -> None:
    assert OLD.of("item-5", 5, 0) == "5-0-" + NEW.of("item-5", 5, 0)[-12:]
    assert CustomIds("run-1", CustomIdFormat.INDEX_FIRST).of("item-7", 7, 2) == "7-2-798f43103d22"
    assert NEWEST is CustomIdFormat.READABLE


@given(item_id=ids, index=indexes, generation=generations, format_=formats)
@example(item_id="9" * 64, index=10**18 - 1, generation=2**48 - 1, format_=NEWEST)
@example(item_id="-0-1-aabbccddeeff", index=0, generation=0, format_=NEWEST)
def test_every_name_is_legal_everywhere_and_says_its_attempt(
    item_id: str, index: int, generation: int, format_: CustomIdFormat
) -> None:
    name = CustomIds("run", format_).of(item_id, index, generation)
    assert LEGAL.fullmatch(name)
    assert name[0].isalnum()
    assert parse(name) == Attempt(index, generation)
    assert generation > 99 or len(name) <= most_chars(item_id, index)
    assert name == CustomIds("run", format_).of(item_id, index, generation)


@given(item_id=ids, index=st.integers(0, 10_000_000), generation=st.integers(0, 99))
def test_a_submissions_mark_fits_behind_a_name(item_id: str, index: int, generation: int) -> None:
    name = NEW.of(item_id, index, generation)
    assert LEGAL.fullmatch(name + "_" + "f" * (SUBMISSION_CHARS - 1))


@given(one=ids, other=ids, index=indexes, generation=generations)
@example(one="x" * 100 + "1", other="x" * 100 + "2", index=0, generation=0)
@example(one="a/b", other="a_b", index=0, generation=0)
@example(one="é", other="e", index=0, generation=0)
def test_names_are_told_apart_by_item_attempt_and_run(
    one: str, other: str, index: int, generation: int
) -> None:
    name = NEW.of(one, index, generation)
    if one != other:
        assert NEW.of(other, index, generation) != name
    assert NEW.of(one, index, generation + 1) != name
    assert NEW.of(one, (index + 1) % 10**18, generation) != name
    assert CustomIds("another").of(one, index, generation) != name
    assert OLD.of(one, index, generation) != name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "x",
        "0",
        "5-0",
        "5-0-abc",
        "5-0-AABBCCDDEEFF",
        "-5-0-aabbccddeeff",
        "a--0-aabbccddeeff",
        "٣-0-aabbccddeeff",
        "5-0-aabbccddeeff ",
        "5-0-aabbccddeeff\n",
        "9999999999999999999-0-aabbccddeeff",
        "é-5-0-aabbccddeeff",
        "x" * 60 + "-5-0-aabbccddeeff",
        "5-0-" * 1_000_000,
        "item-5_p1",
    ],
)
def test_nobody_elses_name_is_parsed(name: str) -> None:
    assert parse(name) is None
