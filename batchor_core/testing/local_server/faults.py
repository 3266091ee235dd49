"""Things that go wrong on request, decided by a seed.

Four scopes: :class:`HttpFault` for requests, :class:`FileFault` for uploads, :class:`BatchFault` for whole
batches, :class:`RowFault` for single rows. Add them with :meth:`Faults.add`, or as JSON through ``POST
/_control/faults``.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, Literal, TypeAlias, TypeVar, get_args

from batchor_core.testing.local_server.replies import Reply

HttpFaultKind = Literal["status", "cut", "truncate", "garbage", "redirect", "delay"]
BatchFaultKind = Literal[
    "fail",
    "expire",
    "cancel",
    "stuck",
    "unlisted",
    "not_found",
    "vanish",
    "late_files",
    "short_files",
    "gone_files",
    "never_ends",
]
ResultFile = Literal["output", "error", "both"]
RowFaultKind = Literal[
    "status",
    "blank",
    "missing",
    "refusal",
    "length",
    "content_filter",
    "invalid_json",
    "schema_mismatch",
    "not_run",
    "duplicate",
    "unparseable",
    "unknown_id",
]

COMMON_ROW_FAULTS: tuple[RowFaultKind, ...] = (
    "status",
    "blank",
    "length",
    "invalid_json",
    "duplicate",
)
"""What ``fault_rate`` mixes: failures after which a good client asks again at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Occurrence:
    """Which of the fitting cases a fault strikes.

    Attributes:
        nth: The first case that can be struck, counted from 1.
        times: How many cases are struck; None for all from there on.
        rate: The share of the cases that is struck, drawn by the server's seed.
    """

    nth: int = 1
    times: int | None = 1
    rate: float = 1.0


@dataclass(frozen=True, slots=True)
class HttpFault(Occurrence):
    """Spoils the answer of an HTTP request. Which of the requests that fit is said as in :class:`Occurrence`.

    Attributes:
        kind: ``status`` answers with an error; ``cut`` closes the connection without an answer; ``truncate``
            sends part of the true answer; ``garbage`` answers 200 with text that is no JSON; ``redirect``
            answers 307; ``delay`` waits, then answers well.
        method: HTTP method that is hit, ``*`` for any.
        path: Shell pattern of the paths that are hit, such as ``/v1/files/*/content``.
        after_work: Whether the server first does what was asked: the batch exists, the client does not learn
            it. A truncated answer always comes after the work.
        status: Status of the error.
        code: Its code; the usual one by default.
        message: Its message; the usual one by default.
        retry_after: Value of a Retry-After header, seconds.
        seconds: How long a delay lasts.
        keep: The share of the body that a truncated answer has.
        location: Where a redirect points; by default to the same place.
    """

    kind: HttpFaultKind
    method: str = "*"
    path: str = "*"
    after_work: bool = False
    status: int = 500
    code: str | None = None
    message: str | None = None
    retry_after: float | None = None
    seconds: float = 0.0
    keep: float = 0.5
    location: str | None = None


@dataclass(frozen=True, slots=True)
class FileFault(Occurrence):
    """An uploaded file that can't be found, not even by a new batch, for the first ``seconds``."""

    seconds: float = 5.0


@dataclass(frozen=True, slots=True)
class BatchFault(Occurrence):
    """Decides the fate of a batch when it is created. Which batch is said as in :class:`Occurrence`.

    Attributes:
        kind: ``fail`` fails its validation with ``code``, ``message``, ``line`` and ``param``; ``expire``
            lets the completion window close when its rows should have ended, with ``after_rows`` rows done;
            ``cancel`` is a cancellation by the provider at that point; ``stuck`` executes nothing until the
            window closes; ``unlisted`` hides it from lists for ``seconds``; ``not_found`` answers 404 for its
            id for ``seconds``; ``vanish`` lets it disappear after ``seconds``; ``late_files`` names its files
            only ``seconds`` after its end and to the look after ``polls`` others; ``short_files`` hands out no more than
            the share ``keep`` of their bytes until then, and never says how long they are; ``gone_files`` names them and
            does not have them until then; ``never_ends`` leaves it finalizing, or cancelling, long past its expiry.
        seconds: As above. None means for ever, or at once for ``vanish``; with ``polls``, none but these.
        polls: As above: looks at the ended batch.
        file: Which file of the batch is late, short or gone.
        keep: As above.
        after_rows: As above, for ``expire`` and ``cancel``.
        code: Code of the validation error.
        message: Its message.
        line: Its line, counted from 1.
        param: Its parameter.
    """

    kind: BatchFaultKind
    seconds: float | None = None
    polls: int = 0
    file: ResultFile = "both"
    keep: float = 0.5
    after_rows: int = 0
    code: str = "token_limit_exceeded"
    message: str = "The batch was refused on request of a test."
    line: int | None = None
    param: str | None = None


@dataclass(frozen=True, slots=True)
class RowFault:
    """Spoils single rows.

    Attributes:
        kind: What happens to the row; ``status`` is an HTTP error with ``status``, ``code`` and ``message``,
            ``not_run`` the kind of error that has no response, ``blank`` a row of status 0, ``length`` an
            answer cut by the token limit, ``unknown_id`` a line with an id that was not sent.
        rate: The share of rows that is hit. The choice depends on the seed, the custom_id and how often that
            id was executed before, not on time or order.
        custom_id: Shell pattern of the ids that are hit.
        times: How many executions of one custom_id are hit; None for all.
        status: Status of an error row.
        code: Code of an error row.
        message: Message of an error row.
        rule: Further condition, ``rule(custom_id, request_body)``. Python only.
    """

    kind: RowFaultKind
    rate: float = 1.0
    custom_id: str = "*"
    times: int | None = None
    status: int = 500
    code: str | None = None
    message: str | None = None
    rule: Callable[[str, dict[str, Any]], bool] | None = None

    def spoil(self, reply: Reply) -> Reply:
        """What is left of a good reply."""
        match self.kind:
            case "status":
                return Reply.http_error(self.status, self.code, self.message)
            case "blank":
                return Reply.blank()
            case "missing":
                return Reply.missing()
            case "refusal":
                return Reply.refusal()
            case "length":
                return Reply.incomplete(reply.content[: len(reply.content) // 2])
            case "content_filter":
                return Reply.incomplete(reason="content_filter")
            case "invalid_json":
                return Reply.answer(f"Sure, here it is: {reply.content}")
            case "schema_mismatch":
                return Reply.answer('{"something_else":true}')
            case "not_run":
                return Reply.not_run(
                    self.code or "server_error", self.message or "The request was not executed."
                )
            case "duplicate":
                return replace(reply, copies=2)
            case "unparseable":
                return Reply.garbled()
            case "unknown_id":
                return replace(reply, custom_id="nobody-sent-this")


Fault: TypeAlias = HttpFault | FileFault | BatchFault | RowFault
_SCOPES: dict[str, type[Fault]] = {"http": HttpFault, "file": FileFault, "batch": BatchFault, "row": RowFault}
_KINDS: dict[type[Fault], tuple[str, ...]] = {
    HttpFault: get_args(HttpFaultKind),
    BatchFault: get_args(BatchFaultKind),
    RowFault: get_args(RowFaultKind),
}
_F = TypeVar("_F", HttpFault, FileFault, BatchFault)


def fault_from_json(fields: Mapping[str, Any]) -> Fault:
    """The fault that ``{"scope": "http", "kind": "cut", ...}`` describes.

    Raises:
        ValueError: The scope, the kind or a field is unknown; the message lists what there is.
    """
    rest = dict(fields)
    scope = _SCOPES.get(rest.pop("scope", ""))
    if scope is None:
        raise ValueError(f"a fault needs a scope, one of {', '.join(_SCOPES)}")
    if "rule" in rest:
        raise ValueError("a rule is a function and can't come as JSON")
    try:
        fault = scope(**rest)
    except TypeError as wrong:
        raise ValueError(str(wrong)) from None
    _check_kind(fault)
    return fault


def _check_kind(fault: Fault) -> None:
    kinds = _KINDS.get(type(fault))
    kind = getattr(fault, "kind", None)
    if kinds is not None and kind not in kinds:
        raise ValueError(
            f"{kind!r} is not a kind of {type(fault).__name__}; the kinds are {', '.join(kinds)}"
        )


def common_row_faults(rate: float) -> list[RowFault]:
    """Row faults of several kinds that together strike about ``rate`` of all rows."""
    return [RowFault(kind, rate=rate / len(COMMON_ROW_FAULTS)) for kind in COMMON_ROW_FAULTS]


@dataclass(slots=True)
class _Tally:
    fitting: int = 0
    struck: int = 0


class Faults:
    """The faults in force. Safe to change while the server runs."""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._lock = threading.Lock()
        self._faults: list[tuple[int, Fault]] = []
        self._tallies: dict[int, _Tally] = {}
        self._added = 0

    def add(self, *faults: Fault) -> None:
        """Put faults in force. Where several fit a request or a row the first strikes; batches get all."""
        for fault in faults:
            _check_kind(fault)
        with self._lock:
            for fault in faults:
                self._added += 1
                self._faults.append((self._added, fault))
                self._tallies[self._added] = _Tally()

    def clear(self) -> None:
        """No more faults."""
        with self._lock:
            self._faults.clear()
            self._tallies.clear()

    def as_json(self) -> list[dict[str, Any]]:
        """The faults in force with how often they struck. Rules are left out, rows are not counted."""
        scopes = {kind: name for name, kind in _SCOPES.items()}
        with self._lock:
            return [
                {
                    "scope": scopes[type(fault)],
                    **{key: value for key, value in asdict(fault).items() if key != "rule"},
                    "struck": self._tallies[number].struck,
                }
                for number, fault in self._faults
            ]

    def for_request(self, method: str, path: str) -> HttpFault | None:
        """The fault that strikes this request."""
        struck = self._striking(
            HttpFault,
            lambda fault: fault.method in ("*", method) and fnmatchcase(path, fault.path),
            first_only=True,
        )
        return struck[0] if struck else None

    def for_file(self) -> FileFault | None:
        """The fault that strikes a file being uploaded."""
        struck = self._striking(FileFault, lambda fault: True, first_only=True)
        return struck[0] if struck else None

    def for_batch(self) -> list[BatchFault]:
        """The faults that strike a batch being created."""
        return self._striking(BatchFault, lambda fault: True, first_only=False)

    def row_faults(self) -> list[tuple[int, RowFault]]:
        """The row faults in force, with their numbers."""
        with self._lock:
            return [(number, fault) for number, fault in self._faults if isinstance(fault, RowFault)]

    def for_row(
        self, faults: list[tuple[int, RowFault]], custom_id: str, body: dict[str, Any], executed_before: int
    ) -> RowFault | None:
        """The one of ``faults`` (from :meth:`row_faults`) that strikes a row."""
        for number, fault in faults:
            if (
                (fault.times is None or executed_before < fault.times)
                and fnmatchcase(custom_id, fault.custom_id)
                and self._drawn(fault.rate, number, custom_id, executed_before)
                and (fault.rule is None or fault.rule(custom_id, body))
            ):
                return fault
        return None

    def _striking(self, scope: type[_F], fits: Callable[[_F], bool], *, first_only: bool) -> list[_F]:
        struck: list[_F] = []
        with self._lock:
            for number, fault in self._faults:
                if not isinstance(fault, scope) or not fits(fault):
                    continue
                if self._counts(number, fault):
                    struck.append(fault)
                    if first_only:
                        break
        return struck

    def _counts(self, number: int, fault: HttpFault | FileFault | BatchFault) -> bool:
        tally = self._tallies[number]
        tally.fitting += 1
        strikes = (
            tally.fitting >= fault.nth
            and (fault.times is None or tally.struck < fault.times)
            and self._drawn(fault.rate, number, tally.fitting)
        )
        tally.struck += strikes
        return strikes

    def _drawn(self, rate: float, *facts: object) -> bool:
        """Whether a case with these facts is among the ``rate`` that is struck."""
        if rate >= 1.0:
            return True
        if rate <= 0.0:
            return False
        digest = hashlib.blake2b(repr((self._seed, *facts)).encode(), digest_size=8).digest()
        return int.from_bytes(digest) / 2**64 < rate
