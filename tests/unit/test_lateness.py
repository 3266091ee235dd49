"""What becomes of rows without a line, as a table: nothing is bought that a count or a broken file speaks against."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from batchor_core.core.lateness import (
    LEAST_LOOKS,
    LONGEST_LOOK_SEC,
    OVERDUE_MARGIN_SEC,
    AtHand,
    Cause,
    Decision,
    Move,
    Patience,
    StatedCounts,
    due_at,
    judge_end,
    judge_overdue,
    next_look,
    seconds_since,
    stated_but_not_there,
    window_sec,
)
from batchor_core.providers.openai.counts import is_error_line, read_counts

PATIENCE = Patience(results_sec=3_600, unconfirmed_sec=600, cancelled_sec=1_800, overdue_sec=7_200)
SOME = AtHand(submitted=10, missing=1, answered=9, files=1)
NOTHING = AtHand(submitted=10, missing=10)


def judged(
    counts: Any = None,
    hand: AtHand = SOME,
    *,
    status: str = "completed",
    waited: float = 0.0,
    looks: int = 100,
    cancelling: bool = False,
) -> Decision:
    return judge_end(
        status=status,
        counts=read_counts(counts),
        hand=hand,
        waited_sec=waited,
        looks=looks,
        is_cancelling=cancelling,
        patience=PATIENCE,
    )


def counts(completed: Any, failed: Any = 0, total: Any = 10) -> dict[str, Any]:
    return {"completed": completed, "failed": failed, "total": total}


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (None, StatedCounts()),
        ({}, StatedCounts()),
        ([], StatedCounts()),
        ("9", StatedCounts()),
        (counts(9, 1), StatedCounts(9, 1, 10)),
        (counts("9", "1", "10"), StatedCounts(9, 1, 10)),
        (counts(9.0, None), StatedCounts(9, None, 10)),
        (counts(None, None, None), StatedCounts()),
        (counts(-1, 2.5, True), StatedCounts()),
        (counts(float("nan"), float("inf"), "many"), StatedCounts()),
        (counts({}, [], 10**40), StatedCounts()),
        ({"completed": 9}, StatedCounts(9)),
    ],
)
def test_counts_are_read_as_far_as_they_make_sense(raw: Any, expected: StatedCounts) -> None:
    assert read_counts(raw) == expected


@pytest.mark.parametrize(
    ("stated", "hand", "rows"),
    [
        (None, NOTHING, 0),
        (0, NOTHING, 0),
        (9, NOTHING, 9),
        (9_999, NOTHING, 10),  # nonsense forbids, too
        (9, SOME, 0),
        (10, SOME, 1),
        (10, AtHand(submitted=10, missing=0, answered=9, failed=1), 0),  # a count never settles a row
        (9, AtHand(submitted=10, missing=1, answered=8, failed=1), 1),  # an error line is no answer
        # a row would be bought again on the strength of its error line
        (10, AtHand(submitted=10, missing=0, answered=9, failed=1, would_go_again=1), 1),
        (9_999, AtHand(submitted=10, missing=0, answered=9, failed=1, would_go_again=1), 1),
        (9, AtHand(submitted=10, missing=0, answered=9, failed=1, would_go_again=1), 0),
    ],
)
def test_no_more_rows_are_stated_than_have_no_line(stated: int | None, hand: AtHand, rows: int) -> None:
    assert stated_but_not_there(StatedCounts(stated), hand) == rows


CUT = replace(SOME, is_cut=True)
GONE = AtHand(submitted=10, missing=10, gone=1)
ERRORS_HERE = AtHand(submitted=10, missing=9, failed=1, files=1)

COLLECTED_AT_ONCE = [
    ("completed", None, AtHand(submitted=10, missing=0, answered=10, files=1)),
    ("completed", counts(99), AtHand(submitted=10, missing=0, answered=9, failed=1, files=2)),
    ("failed", None, NOTHING),  # its input was refused
    ("failed", counts(0, 0, 0), NOTHING),
    ("failed", counts(0, 0, 10), NOTHING),
    # what Azure's error file of a refused batch says of its input
    ("failed", None, replace(NOTHING, strangers=1, files=1)),
    (
        "expired",
        counts(4, 6),
        AtHand(submitted=10, missing=0, answered=4, failed=6, would_go_again=6, files=2),
    ),
    ("completed", counts(9, 1), AtHand(submitted=10, missing=1, answered=9, failed=1, files=1)),
    (
        "completed",
        counts(9, 1),
        AtHand(submitted=10, missing=0, answered=9, failed=1, would_go_again=1, files=2),
    ),
    ("completed", None, AtHand(submitted=10, missing=0, answered=9, failed=1, would_go_again=1, files=2)),
]


@pytest.mark.parametrize(("status", "stated", "hand"), COLLECTED_AT_ONCE)
def test_what_is_accounted_for_is_collected_at_once(status: str, stated: Any, hand: AtHand) -> None:
    assert judged(stated, hand, status=status) == Decision(Move.COLLECT)


def test_every_row_of_a_refused_batch_goes_again_though_its_error_file_names_them() -> None:
    hand = AtHand(submitted=10, missing=2, failed=8, would_go_again=8, files=1)
    assert judged(None, hand, status="failed") == Decision(Move.COLLECT)


MINUTES = [
    ("cancelled", counts(0), NOTHING),  # its counts may lag just as its files do
    ("cancelled", counts(0), replace(NOTHING, files=1)),
    ("cancelled", counts(0, 6), AtHand(submitted=10, missing=4, failed=6, would_go_again=6, files=1)),
    ("expired", counts(4), AtHand(submitted=10, missing=6, answered=4, files=1)),
    ("failed", counts(5), AtHand(submitted=10, missing=5, answered=5, files=1, names_output=True)),
    ("failed", None, replace(NOTHING, files=1, names_output=True)),
    ("completed", None, replace(SOME, strangers=3)),
    ("completed", counts(9, 1), replace(SOME, unreadable=1)),
    ("expired", counts(0, 0, 10), NOTHING),
    ("completed", counts(9, 0, 9), SOME),  # a total that is not what was sent
    ("completed", counts(5, 0, 5), AtHand(submitted=10, missing=5, answered=5, files=1)),
    ("completed", None, AtHand(submitted=10, missing=5, answered=5, unreadable=5, files=1)),
    ("completed", None, SOME),  # no counts
    ("completed", counts(None, None, None), SOME),
    ("completed", counts(0, 0, 10), SOME),  # counts that were never kept
    (
        "completed",
        counts(9, 1),
        SOME,
    ),  # the error line is to come; without it, the row costs nothing to run again
    ("completed", counts(9, 1), replace(SOME, gone=1)),
    ("expired", None, NOTHING),
    ("cancelled", counts(0, 0, 0), NOTHING),
    ("completed", None, AtHand(submitted=10, missing=10, files=1)),  # a file without a line is a file
]


@pytest.mark.parametrize(("status", "stated", "hand"), MINUTES)
def test_what_nothing_speaks_for_waits_some_minutes(status: str, stated: Any, hand: AtHand) -> None:
    first = judged(stated, hand, status=status, looks=0)
    assert (first.move, first.cause) == (Move.WAIT, Cause.UNCONFIRMED)
    assert judged(stated, hand, status=status, waited=599).move is Move.WAIT
    assert judged(stated, hand, status=status, waited=600).move is Move.COLLECT


@pytest.mark.parametrize("total", [0, 10])
def test_a_cancelled_run_takes_a_count_of_nothing_at_its_word(total: int) -> None:
    stated = counts(0, 0, total)
    assert judged(stated, NOTHING, status="cancelled", cancelling=True).move is Move.COLLECT
    assert judged(counts(1, 0, 10), NOTHING, status="cancelled", cancelling=True).move is Move.WAIT


ASKED = [
    ("completed", counts(9, 1), NOTHING, Cause.RESULTS_LATE),
    ("completed", counts(10), SOME, Cause.RESULTS_LATE),
    ("completed", counts("10"), SOME, Cause.RESULTS_LATE),
    ("completed", {"completed": 10}, SOME, Cause.RESULTS_LATE),
    ("completed", counts(9, 1), ERRORS_HERE, Cause.RESULTS_LATE),
    ("completed", counts(10), CUT, Cause.RESULTS_LATE),
    ("expired", counts(4), NOTHING, Cause.RESULTS_LATE),
    ("cancelled", counts(4), NOTHING, Cause.RESULTS_LATE),
    ("failed", counts(4), NOTHING, Cause.RESULTS_LATE),  # that makes no sense, and may have been paid for
    ("completed", counts(9, 1), GONE, Cause.RESULT_FILE_GONE),
    ("completed", None, GONE, Cause.RESULT_FILE_GONE),
    ("expired", None, replace(SOME, gone=1), Cause.RESULT_FILE_GONE),
    ("completed", None, CUT, Cause.RESULT_FILE_CUT),
    ("completed", None, NOTHING, Cause.NO_RESULTS),
    ("completed", counts(10), replace(SOME, unreadable=1), Cause.RESULTS_LATE),  # garbled, and answered
    (
        "completed",
        counts(10),
        AtHand(submitted=10, missing=0, answered=9, failed=1, would_go_again=1, files=2),
        Cause.RESULTS_LATE,
    ),
    # a failed batch that was run
    ("failed", None, AtHand(submitted=10, missing=10, gone=1, names_output=True), Cause.RESULT_FILE_GONE),
    (
        "failed",
        counts(0),
        AtHand(submitted=10, missing=5, answered=5, files=1, is_cut=True, names_output=True),
        Cause.RESULT_FILE_CUT,
    ),
    # another batch's file, an error in the place of results, a web page after a short version
    ("completed", None, replace(NOTHING, strangers=10, files=1), Cause.RESULT_FILE_UNREADABLE),
    ("completed", counts(10), replace(NOTHING, strangers=10, files=1), Cause.RESULT_FILE_UNREADABLE),
    ("expired", counts(0, 10), replace(NOTHING, strangers=1, files=1), Cause.RESULT_FILE_UNREADABLE),
    (
        "completed",
        None,
        AtHand(submitted=10, missing=9, failed=1, strangers=3, files=2, names_output=True),
        Cause.RESULT_FILE_UNREADABLE,
    ),
    ("completed", None, replace(SOME, unreadable=1, is_replaced=True), Cause.RESULT_FILE_UNREADABLE),
    ("completed", None, replace(SOME, unreadable=1, gone=1), Cause.RESULT_FILE_GONE),
    # a web page in the place of the results, and lines of it between the results
    (
        "completed",
        counts(10),
        AtHand(submitted=10, missing=10, unreadable=14, files=1),
        Cause.RESULT_FILE_UNREADABLE,
    ),
    (
        "completed",
        None,
        AtHand(submitted=10, missing=10, unreadable=3, files=1),
        Cause.RESULT_FILE_UNREADABLE,
    ),
    (
        "completed",
        counts(10),
        AtHand(submitted=10, missing=2, answered=8, unreadable=9, files=1),
        Cause.RESULT_FILE_UNREADABLE,
    ),
]


@pytest.mark.parametrize(("status", "stated", "hand", "cause"), ASKED)
def test_what_speaks_against_buying_is_asked_about(
    status: str, stated: Any, hand: AtHand, cause: Cause
) -> None:
    for waited, move in ((0, Move.WAIT), (3_599, Move.WAIT), (3_600, Move.ASK), (1e9, Move.ASK)):
        decision = judged(stated, hand, status=status, waited=waited)
        assert (decision.move, decision.cause) == (move, cause)
        assert 0 < decision.look_in_sec <= LONGEST_LOOK_SEC


@pytest.mark.parametrize(("status", "stated", "hand", "cause"), ASKED)
def test_a_cancelled_run_waits_a_bounded_time_and_asks_nobody(
    status: str, stated: Any, hand: AtHand, cause: Cause
) -> None:
    assert judged(stated, hand, status=status, waited=1_799, cancelling=True).move is Move.WAIT
    assert judged(stated, hand, status=status, waited=1_800, cancelling=True).move is Move.COLLECT


def test_a_clock_that_jumps_ahead_buys_nothing() -> None:
    assert judged(None, SOME, waited=1e6, looks=LEAST_LOOKS - 1).move is Move.WAIT
    assert judged(None, SOME, waited=1e6, looks=LEAST_LOOKS).move is Move.COLLECT


def test_rows_with_an_error_wait_too_while_more_answers_are_stated_than_others_can_account_for() -> None:
    assert judged(counts(10), ERRORS_HERE).holds_failures
    assert not judged(counts(9, 1), ERRORS_HERE).holds_failures
    assert not judged(None, ERRORS_HERE).holds_failures


def test_looks_become_rarer_from_seconds_to_an_hour_and_meet_the_limit() -> None:
    waited, pauses = 0.0, []
    while waited < 6 * 3_600:
        pauses.append(next_look(waited, 6 * 3_600))
        waited += pauses[-1]
    assert pauses[0] == 2.0
    assert max(pauses) == 3_600.0
    assert pauses[:-1] == sorted(pauses[:-1])
    assert len(pauses) < 30
    assert waited == pytest.approx(6 * 3_600, abs=2)


def test_a_clock_that_jumps_ahead_does_not_put_off_the_next_look() -> None:
    assert next_look(86_400.0, 21_600.0, looks=1) == 4.0
    assert next_look(86_400.0, 21_600.0, looks=3) == 16.0
    assert next_look(86_400.0, 21_600.0, looks=100_000) == 3_600.0


@pytest.mark.parametrize(("moment", "seconds"), [(None, 0), (90.0, 10), (100.0, 0), (86_500.0, 0)])
def test_a_moment_that_lies_ahead_begins_the_waiting_again(moment: float | None, seconds: float) -> None:
    assert seconds_since(moment, 100.0) == seconds


@pytest.mark.parametrize(
    ("window", "seconds"),
    [("24h", 86_400), ("7d", 604_800), (" 90M ", 5_400), ("", 86_400), (None, 86_400), ("soon", 86_400)],
)
def test_a_window_is_a_day_unless_it_says_otherwise(window: Any, seconds: float) -> None:
    assert window_sec(window) == seconds


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ({}, 86_400),
        ({"completion_window": "2h"}, 7_200),
        ({"created_at": 5_000.0, "expires_at": 5_600.0}, 600),  # by another clock than ours
        ({"created_at": 5_000.0, "expires_at": 4_000.0}, 86_400),
        ({"created_at": None, "expires_at": 5_600.0, "completion_window": "1h"}, 3_600),
        ({"created_at": "x", "expires_at": True}, 86_400),
        ({"lifetime_sec": 600.0}, 600),
        ({"lifetime_sec": 600.0, "completion_window": "2h"}, 7_200),
        ({"lifetime_sec": 600.0, "created_at": 5_000.0, "expires_at": 5_060.0}, 60),
    ],
)
def test_a_batch_is_due_some_time_after_its_expiry(given: dict[str, Any], seconds: float) -> None:
    assert due_at(registered_at=100.0, **given) == 100.0 + seconds + OVERDUE_MARGIN_SEC


def overdue(now: float, *, cancelling: bool = False) -> Decision | None:
    return judge_overdue(due_at=1_000.0, now=now, is_cancelling=cancelling, patience=PATIENCE)


def test_a_batch_that_does_not_end_is_told_about_and_then_asked_about() -> None:
    assert overdue(1_000) is None
    assert judge_overdue(due_at=None, now=1e9, is_cancelling=True, patience=PATIENCE) is None
    for now, cancelling, move in (
        (1_001, False, Move.WAIT),
        (8_199, False, Move.WAIT),
        (8_200, False, Move.ASK),
        (2_799, True, Move.WAIT),
        (2_800, True, Move.ASK),
    ):
        decision = overdue(now, cancelling=cancelling)
        assert decision is not None
        assert (decision.move, decision.cause) == (move, Cause.OVERDUE)


@pytest.mark.parametrize(
    ("record", "is_error"),
    [
        ({"response": {"status_code": 200, "body": {}}, "error": None}, False),
        (
            {"response": {"status_code": 0, "body": {}}, "error": None},
            False,
        ),  # counted as completed by the live API
        ({"response": {"status_code": 500}, "error": None}, True),
        ({"response": None, "error": {"code": "batch_expired"}}, True),
        ({"response": {"status_code": "200"}, "error": None}, False),
        ({}, False),
    ],
)
def test_an_error_line_is_one_with_an_error(record: dict[str, Any], is_error: bool) -> None:
    assert is_error_line(record) is is_error


@pytest.mark.parametrize("name", ["results_sec", "unconfirmed_sec", "cancelled_sec", "overdue_sec"])
def test_patience_is_not_negative(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Patience(**{name: -1.0})
