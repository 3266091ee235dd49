"""What to do about rows of an ended batch that have no line, and about a batch that does not end.

A missing line proves nothing. A batch can be reported as ended while its result files are not named yet, not there yet,
or shorter than they will be; each of those rows has been paid for. So a row is sent again only under these rules:

- A count never settles a row, but it may prevent sending it again: while the provider has ever stated more answered rows than
  there are good lines, the engine waits for the rows without one, and then asks a person.
- Counts that account for each row of the batch and state no further answer free the rest. Rows that they state as failed cost
  nothing to run again, but their error line says whether that makes sense, so the engine waits some minutes for it.
- If no counts account for the batch, the engine waits some minutes for the rows. If a result file is missing, visibly cut or
  not a result file at all, or a completed batch names none, it finally asks a person.
- A batch that failed was not run, unless it has brought an answer or names a file of answers.

Rows that have a line are stored at once, whatever happens to the others. Only a row whose error line contradicts an answer that
the counts state waits with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum, auto

LEAST_LOOKS = 3
"""Checks of an ended batch that are needed besides the time before a row is freed, since a clock may jump ahead."""

LONGEST_LOOK_SEC = 3_600.0
"""The longest wait between two looks."""

OVERDUE_MARGIN_SEC = 900.0
"""How long after its expiry a batch may take to be reported as over before anybody is told."""

CANCEL_SEC = 1_800.0
"""How long a cancelled batch may take to end before anybody is told; ten minutes are usual."""

_DAY = 86_400.0
_UNITS = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": _DAY}


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the engine waits before it acts or asks, in seconds.

    Attributes:
        results_sec: For results that the provider counts but does not deliver; then a person is asked.
        unconfirmed_sec: For results of a batch whose counts don't account for it; then its missing rows are sent again.
        cancelled_sec: For any of these, and for a batch that should have ended, once the run is cancelled.
        overdue_sec: For a batch past its expiry; then a person is asked.
    """

    results_sec: float = 6 * 3_600.0
    unconfirmed_sec: float = 600.0
    cancelled_sec: float = 3_600.0
    overdue_sec: float = _DAY

    def __post_init__(self) -> None:
        for name in ("results_sec", "unconfirmed_sec", "cancelled_sec", "overdue_sec"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"Patience.{name} must not be negative")


# --- what the provider states ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StatedCounts:
    """How many requests of a batch the provider says were answered, failed, and are in it; None where it does not say."""

    completed: int | None = None
    failed: int | None = None
    total: int | None = None


@dataclass(frozen=True, slots=True)
class AtHand:
    """What has arrived of an ended batch so far.

    Attributes:
        submitted: Rows that the batch was made of.
        missing: Of these, the rows without a line.
        answered: Rows of the batch that were answered, usefully or not.
        failed: Rows of the batch that were not: errors of any kind.
        would_go_again: Of these, the rows whose error permits another attempt.
        unreadable: Lines that can't be read: garbled ones of some rows, or a file that holds no results.
        strangers: Lines of rows that are not the batch's. They account for nothing.
        files: Result files that were read.
        gone: Named result files that the provider does not have, or that hold less than they did.
        is_cut: Whether a result file breaks off in the middle of its last line.
        is_replaced: Whether the newest version of a result file holds no result, while an older one did.
        names_output: Whether the batch names a file of answers.
    """

    submitted: int
    missing: int
    answered: int = 0
    failed: int = 0
    would_go_again: int = 0
    unreadable: int = 0
    strangers: int = 0
    files: int = 0
    gone: int = 0
    is_cut: bool = False
    is_replaced: bool = False
    names_output: bool = False

    @property
    def lines(self) -> int:
        """Rows with a line of any kind."""
        return self.answered + self.failed

    @property
    def is_something_else(self) -> bool:
        """Whether a file seems to be no result file at all, such as a web page or the words of an error."""
        if self.is_replaced or self.unreadable > self.missing:
            return True
        # of an error file beside it nothing follows for the file of answers
        has_nothing = not self.answered if self.names_output else not self.lines
        return has_nothing and self.unreadable + self.strangers > 0

    @property
    def was_run(self) -> bool:
        """Whether the provider worked on the batch, whatever its status says."""
        return self.answered > 0 or self.names_output


def stated_but_not_there(counts: StatedCounts, hand: AtHand) -> int:
    """Rows without an answer that the provider states as answered, and that would be bought again.

    A count beyond the batch's size is taken for all rows.
    """
    answers = min(counts.completed or 0, hand.submitted) - hand.answered
    return max(0, min(answers, hand.missing + hand.would_go_again))


def _account_for_all(counts: StatedCounts, hand: AtHand, *, is_cancelling: bool) -> bool:
    """Whether the counts tell what became of each row, so that what they don't state as answered was not.

    Counts that add up to less lag behind, or were never kept, and where there is no file either, they may lag just as the
    files do.
    """
    if counts.completed is None:
        return False
    if is_cancelling and not counts.completed and not hand.files:
        return True  # nothing is bought on it, and a batch that is cancelled while it is validated has no total yet
    return counts.completed + (counts.failed or 0) >= hand.submitted


# --- the decision ----------------------------------------------------------------------------------------------------


class Move(Enum):
    """What to do with an ended batch."""

    COLLECT = auto()
    """The batch has ended: store what is there; rows without a line may be sent again."""
    WAIT = auto()
    """Store what is there and look again; rows without a line stay with the batch."""
    ASK = auto()
    """The same, and let a person decide about the rest. The engine keeps checking meanwhile."""


class Cause(StrEnum):
    """Why a batch is waited for; stored, and shown as the error class of its submission when a person is asked."""

    RESULTS_LATE = "results_late"
    """The provider states more answered rows than there are lines."""
    RESULT_FILE_GONE = "result_file_gone"
    """The provider names a result file and does not have it, or no longer all of it."""
    RESULT_FILE_CUT = "result_file_cut"
    """A result file breaks off in the middle of a line."""
    RESULT_FILE_UNREADABLE = "result_file_unreadable"
    """A result file holds something else than results, such as a web page."""
    NO_RESULTS = "no_results"
    """The batch is completed, and names no result file."""
    UNCONFIRMED = "unconfirmed"
    """Nothing tells what became of the rows without a line."""
    OVERDUE = "batch_overdue"
    """The batch should have ended, and has not."""


LOOKED_AT = frozenset(Cause)
"""Causes for which a person is asked while the provider still knows the batch: it is looked at all the same."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do about an ended batch.

    Attributes:
        move: What to do.
        cause: Why it is waited for; None to collect.
        look_in_sec: When to look again.
        holds_failures: Whether rows with an error line wait too, since the provider states more answers than the rows
            without any line can account for.
    """

    move: Move
    cause: Cause | None = None
    look_in_sec: float = 0.0
    holds_failures: bool = False


_COLLECT = Decision(Move.COLLECT)


def _doubt(
    status: str, counts: StatedCounts, hand: AtHand, *, is_cancelling: bool
) -> tuple[Cause, bool] | None:
    """Why the rows without a line may still get one, and whether only a person may give them up; None without a reason."""
    if stated_but_not_there(counts, hand):
        return _why_late(hand), True
    if not hand.missing:
        return None
    if status == "failed" and not hand.was_run:
        return None  # its input was refused
    if hand.is_something_else:
        return Cause.RESULT_FILE_UNREADABLE, True
    if _account_for_all(counts, hand, is_cancelling=is_cancelling):
        is_settled = (counts.failed or 0) <= hand.failed and not hand.gone and not hand.unreadable
        return None if is_settled else (Cause.UNCONFIRMED, False)
    if hand.gone:
        return Cause.RESULT_FILE_GONE, True
    if hand.is_cut:
        return Cause.RESULT_FILE_CUT, True
    if status == "completed" and not hand.files:
        return Cause.NO_RESULTS, True
    return Cause.UNCONFIRMED, False


def _why_late(hand: AtHand) -> Cause:
    """Where the answers are that the provider states and does not hand over."""
    if hand.gone:
        return Cause.RESULT_FILE_GONE
    return Cause.RESULT_FILE_UNREADABLE if hand.is_something_else else Cause.RESULTS_LATE


def judge_end(
    *,
    status: str,
    counts: StatedCounts,
    hand: AtHand,
    waited_sec: float,
    looks: int,
    is_cancelling: bool,
    patience: Patience,
) -> Decision:
    """Decide about a batch that has ended.

    Args:
        status: Its final status, in lower case.
        counts: What the provider states.
        hand: What there is.
        waited_sec: Since the batch was first seen as ended, or since a person chose to keep waiting.
        looks: Looks at the ended batch before this one, counted from the same moment.
        is_cancelling: Whether the run is cancelled: then nothing is sent, and no person has to decide.
        patience: How long to wait.
    """
    doubt = _doubt(status, counts, hand, is_cancelling=is_cancelling)
    if doubt is None:
        return _COLLECT
    cause, asks = doubt
    limit = patience.results_sec if asks else patience.unconfirmed_sec
    if is_cancelling:
        limit, asks = min(limit, patience.cancelled_sec), False
    is_over = waited_sec >= limit and (looks >= LEAST_LOOKS or limit == 0)
    if is_over and not asks:
        return _COLLECT
    return Decision(
        Move.ASK if is_over else Move.WAIT,
        cause,
        next_look(waited_sec, limit, looks=looks),
        holds_failures=(counts.completed or 0) + hand.failed > hand.submitted,
    )


def next_look(waited_sec: float, limit_sec: float, *, looks: int = 60) -> float:
    """Seconds until the next look: half of the time waited so far, from two seconds to an hour, and not beyond the limit.

    It no more than doubles with each look, so that a clock that jumps ahead does not put off the next one.
    """
    least = min(2.0, max(limit_sec / 10.0, 0.01))
    most = min(least * 2.0 ** min(looks, 60), LONGEST_LOOK_SEC)
    pause = min(max(waited_sec / 2.0, least), most)
    left = limit_sec - waited_sec
    return max(min(pause, left), least) if left > 0 else pause


def seconds_since(moment: float | None, now: float) -> float:
    """Seconds since a stored moment, 0 if it lies ahead: the clock was set back, and the waiting begins again."""
    return 0.0 if moment is None or moment > now else now - moment


# --- batches that don't end ------------------------------------------------------------------------------------------


def due_at(
    *,
    registered_at: float,
    created_at: object = None,
    expires_at: object = None,
    completion_window: object = None,
    lifetime_sec: float = _DAY,
) -> float:
    """When a batch should be over at the latest, by the store's clock: some time after its expiry.

    Args:
        registered_at: When it was registered, by the store's clock.
        created_at: When it was created, by the provider's clock.
        expires_at: When it expires, by the provider's clock. Without these two, its window says how long it takes.
        completion_window: Such as ``24h``.
        lifetime_sec: How long the provider's batches last, where no window is given that can be understood.
    """
    created, expires = _moment(created_at), _moment(expires_at)
    # the provider's clock need not be ours, so only what lies between its own moments counts
    given = expires - created if created is not None and expires is not None else 0.0
    lasts = given if given > 0 else window_sec(completion_window, otherwise=lifetime_sec)
    return registered_at + lasts + OVERDUE_MARGIN_SEC


def _moment(value: object) -> float | None:
    is_one = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e12
    return float(value) if is_one else None  # type: ignore[arg-type]  # a number, as was just checked


def window_sec(window: object, *, otherwise: float = _DAY) -> float:
    """Seconds of a completion window such as ``24h``; ``otherwise`` where it can't be understood."""
    text = window.strip().lower() if isinstance(window, str) else ""
    number, unit = text[:-1], text[-1:]
    if unit in _UNITS and number.isascii() and number.isdigit() and 0 < len(number) < 10:
        return int(number) * _UNITS[unit]
    return otherwise


def judge_overdue(
    *, due_at: float | None, now: float, is_cancelling: bool, patience: Patience
) -> Decision | None:
    """Decide about a batch that has not ended; None while there is time."""
    late_sec = seconds_since(due_at, now)
    if due_at is None or late_sec <= 0:
        return None
    limit = patience.cancelled_sec if is_cancelling else patience.overdue_sec
    move = Move.ASK if late_sec >= limit else Move.WAIT
    return Decision(move, Cause.OVERDUE, next_look(late_sec, limit))


def needs_a_person(*, quarantine_cause: str | None, is_cancelling: bool) -> bool:
    """Whether only a person's decision can settle the batch.

    A cancelled run ends on its own, except for batches that are still running at the provider and may deliver paid
    results.
    """
    if quarantine_cause is None:
        return False
    return not is_cancelling or quarantine_cause == Cause.OVERDUE


def is_looked_at(*, quarantine_cause: str | None, is_cancelling: bool) -> bool:
    """Whether a batch is polled: all are but those that the provider has lost, which wait for a decision."""
    return quarantine_cause is None or is_cancelling or quarantine_cause in LOOKED_AT
