"""Who is sent, who waits and who is answered."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from batchor_core.core.enums import ItemStatus
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.reuse import FLIGHT_PATIENCE_SEC, Known, Move, check_reuse, decide, reuse_key, varies

NOW = 1_000_000.0
DONE, FAILED = ItemStatus.COMPLETED, ItemStatus.FAILED_PERMANENT
FLYING, WAITING = ItemStatus.SUBMITTED, ItemStatus.PENDING


@pytest.mark.parametrize(
    ("known", "max_age", "move"),
    [
        (None, None, Move.LEAD),
        (Known(DONE, False, NOW - 10), None, Move.TAKE),
        (Known(DONE, False, NOW - 10), 10.0, Move.TAKE),
        (Known(DONE, False, NOW - 11), 10.0, Move.LEAD),
        (Known(DONE, False, None), None, Move.TAKE),
        (Known(DONE, False, None), 10.0, Move.LEAD),
        (Known(DONE, True, NOW - 11), 10.0, Move.TAKE),
        (Known(FLYING, False, NOW - 11), 10.0, Move.FOLLOW),
        (Known(ItemStatus.QUEUED_LOCAL, True, NOW), None, Move.FOLLOW),
        (Known(FLYING, False, NOW - FLIGHT_PATIENCE_SEC - 1), None, Move.LEAD),
        (Known(FLYING, True, NOW - FLIGHT_PATIENCE_SEC - 1), None, Move.FOLLOW),
        (Known(WAITING, False, None), None, Move.LEAD),
        (Known(ItemStatus.FAILED_RETRYABLE, True, None), None, Move.LEAD),
        (Known(FAILED, False, None), None, Move.LEAD),
        (Known(FAILED, True, None), None, Move.FAIL),
    ],
)
def test_what_becomes_of_an_equal_row(known: Known | None, max_age: float | None, move: Move) -> None:
    assert decide(known, now=NOW, max_age_sec=max_age) is move


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, False),
        ({"temperature": 0}, False),
        ({"temperature": 0.1}, True),
        ({"temperature": None, "n": 1}, False),
        ({"n": 2}, True),
        ("text", False),
    ],
)
def test_which_requests_vary(body: Any, expected: bool) -> None:
    assert varies(body) is expected


@pytest.mark.parametrize(
    "wrong",
    [
        {"reuse": "all"},
        {"max_age": 3},
        {"max_age": timedelta(0)},
        {"salt": None},
        {"salt": "x" * 201},
        {"reuse_varying": 1},
    ],
)
def test_wrong_settings_are_told(wrong: dict[str, Any]) -> None:
    given: dict[str, Any] = {"reuse": "store", "max_age": None, "salt": "", "reuse_varying": False}
    check_reuse(**given)
    with pytest.raises(InvalidInputError, match=next(iter(wrong))):
        check_reuse(**given | wrong)


def test_scopes_are_told_apart() -> None:
    def key(scope: Any = "asset", extras: Any = None, server: str | None = None, salt: str = "") -> str:
        named = {"dagster_asset_key": ["a"], "dagster_partition_key": "p"} if extras is None else extras
        return reuse_key(scope, named, asked_of=("fake", server, "me"), output={"kind": "text"}, salt=salt)

    keys = [
        key(),
        key("partition"),
        key("store"),
        key(extras={"dagster_asset_key": ["b"]}),
        key(server="http://here"),
        key(salt="2"),
    ]
    assert len(set(keys)) == len(keys)
    assert key("store", {}) == key("store")
    assert key("partition", {"reuse_asset": ["a"], "reuse_partition": "p"}) == key(
        "partition"
    )  # earlier builds' names
