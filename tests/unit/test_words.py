"""Numbers as people read them."""

from decimal import Decimal

import pytest

from batchor_core.core.words import counted, dollars, duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (45, "45 s"),
        (119, "119 s"),
        (120, "2 min"),
        (3599, "59 min"),
        (3600, "1 h"),
        (12_000, "3 h 20 min"),
        (86_400, "1 day"),
        (187_200, "2 days 4 h"),
    ],
)
def test_a_duration_has_its_two_largest_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("usd", "shown"),
    [
        ("0", 0.0),
        ("0.0000123", 0.00001),
        ("0.123456", 0.1235),
        ("1.23456", 1.23),
        ("12345.678", 12345.68),
    ],
)
def test_dollars_have_two_to_four_digits_unless_there_would_be_none(usd: str, shown: float) -> None:
    assert dollars(Decimal(usd)) == shown


def test_thousands_are_separated() -> None:
    assert [counted(1, "row"), counted(12_345, "row"), counted(2, "batch", "batches")] == [
        "1 row",
        "12,345 rows",
        "2 batches",
    ]
