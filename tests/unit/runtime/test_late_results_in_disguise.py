"""Results that seem to be there, or never to come: nothing that may have been answered is bought again because of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from batchor_core.core.enums import RunLifecycleStatus
from batchor_core.core.exceptions import QuarantinedBatchError
from batchor_core.core.models import ArtifactPolicy
from batchor_core.runtime.run import Run
from batchor_core.testing.fake_batch import FakeBatch
from batchor_core.testing.fake_provider import FakeProvider
from batchor_core.testing.fake_rows import http_error_row
from tests.support.late import HOUR, ONCE, ROWS, begin, drive, sent
from tests.support.world import RUN, World, by_item, texts

NO_COUNTS: dict[str, Any] = {"request_counts": None}

Spoil = Callable[[bytes, int], "bytes | None"]


class Disguised(FakeProvider):
    """Disguises its first batch until :meth:`show`.

    Attributes:
        says: What the record of the ended batch says instead.
        spoil: The output file as it is handed over at each look, from 0; None for one that is not there.
        errors_of: Rows that have an error line besides.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(states_counts=True, answer=options.pop("answer", by_item({})), **options)
        self.says: dict[str, Any] = {}
        self.spoil: Spoil = lambda whole, look: whole
        self.errors_of: tuple[int, ...] = ()
        self.is_shown = False
        self.reads = 0

    def show(self) -> None:
        self.is_shown = True
        self.statuses = ("completed",)

    @property
    def first(self) -> FakeBatch:
        return next(iter(self.batches.values()))

    def get_batch(self, batch_id: str) -> Any:
        record: Any = super().get_batch(batch_id)
        if batch_id != self.first.id or self.is_shown or record["status"] == "in_progress":
            return record
        return {**record, **self.says}

    def _finish(self, batch: FakeBatch) -> None:
        super()._finish(batch)
        if batch is self.first and self.errors_of:
            lines = [
                {"custom_id": batch.lines[n]["custom_id"], **http_error_row(500)} for n in self.errors_of
            ]
            batch.error_file_id = self._keep_lines("errors.jsonl", lines)
        if batch is self.first:
            self.statuses = ("completed",)

    def _file(self, file_id: str) -> bytes:
        whole = super()._file(file_id)
        if file_id != self.first.output_file_id or self.is_shown:
            return whole
        self.reads += 1
        spoilt = self.spoil(whole, self.reads - 1)
        return super()._file("gone") if spoilt is None else spoilt


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    world = make_world(kind="memory", provider=Disguised())
    world.provider._clock = world.clock
    return world


def provider(world: World) -> Disguised:
    assert isinstance(world.provider, Disguised)
    return world.provider


def lines(count: int) -> Spoil:
    return lambda whole, look: b"".join(whole.splitlines(keepends=True)[:count])


def then(first: Spoil, later: Spoil) -> Spoil:
    return lambda whole, look: (later if look else first)(whole, look)


def said(content: bytes | None) -> Spoil:
    return lambda whole, look: content


def upper(whole: bytes, look: int) -> bytes:
    return whole.replace(b'"custom_id": "item', b'"custom_id": "ITEM')


def one_doubled_under_another_name(whole: bytes, look: int) -> bytes:
    rows = whole.splitlines(keepends=True)[:9]
    return b"".join(rows) + rows[0].replace(b"-0-0-", b"-0-1-")


def garbled(whole: bytes, look: int) -> bytes:
    return lines(5)(whole, look) + b'{"id": "batch_req_\n' * 5  # type: ignore[operator]


def cut(whole: bytes, look: int) -> bytes:
    rows = whole.splitlines(keepends=True)
    return b"".join(rows[:5]) + rows[5][:30]


FAILED = {"status": "failed"}
PAGE = b"<html>\n<body>maintenance</body>\n</html>\n\n"
APOLOGY = b'{"error": {"message": "storage is busy", "code": 503}}\n'

DISGUISES: dict[str, tuple[dict[str, Any], Spoil, tuple[int, ...]]] = {
    "an error line of a row that is stated as answered": ({}, lines(9), (9,)),
    "names that are none of ours": ({}, upper, ()),
    "names that are none of ours, no counts": (NO_COUNTS, upper, ()),
    "a line under another name": ({}, one_doubled_under_another_name, ()),
    "failed, and cut": (FAILED | NO_COUNTS, cut, ()),
    "failed, and gone": (FAILED | NO_COUNTS, said(None), ()),
    "failed, and counts that were not kept": (
        FAILED | {"request_counts": {"total": 10, "completed": 0, "failed": 0}},
        cut,
        (),
    ),
    "gone after a short version": (NO_COUNTS, then(lines(5), said(None)), ()),
    "shorter than it was": (NO_COUNTS, then(lines(5), lines(3)), ()),
    "empty after a short version": (NO_COUNTS, then(lines(5), said(b"")), ()),
    "a web page after a short version": (NO_COUNTS, then(lines(5), said(PAGE)), ()),
    "an error after a short version": (NO_COUNTS, then(lines(5), said(APOLOGY)), ()),
    "a web page that ends in a blank line": (NO_COUNTS, said(PAGE), ()),
    "a web page beside errors": (NO_COUNTS, said(PAGE), (9,)),
    "another batch's file beside errors": (NO_COUNTS, upper, (9,)),
    "an error in the place of results": (NO_COUNTS, said(APOLOGY), ()),
    "garbled lines of stated answers": ({}, garbled, ()),
}


@pytest.mark.parametrize("keeps", [True, False], ids=["kept", "not kept"])
@pytest.mark.parametrize("name", DISGUISES)
def test_a_disguise_costs_nothing(world: World, name: str, keeps: bool) -> None:
    says, spoil, errors_of = DISGUISES[name]
    provider(world).says, provider(world).spoil, provider(world).errors_of = says, spoil, errors_of
    run = begin(world, artifact_policy=ArtifactPolicy(persist_raw_output_artifacts=keeps))
    drive(world, run, 3 * HOUR, step=120.0)
    # a row whose error line nothing speaks against goes again
    free = [*errors_of] if says else []
    assert sent(world) == sorted([*ONCE, *free])
    assert run.summary().late_batches == 1
    with pytest.raises(QuarantinedBatchError):
        run.wait(timeout=8 * HOUR, poll_interval=300.0)
    provider(world).show()
    drive(world, run, 3 * HOUR, step=600.0)
    assert run.status is RunLifecycleStatus.COMPLETED
    assert len(texts(run)) == ROWS
    assert sent(world) == sorted([*ONCE, *free])


@pytest.mark.parametrize("content", [PAGE, APOLOGY, b"<html>busy</html>"], ids=["page", "apology", "line"])
def test_texts_that_a_provider_parses_itself_are_no_other(world: World, content: bytes) -> None:
    """A provider that hands over whole files as texts leaves out what it can't parse."""
    provider(world).download_to_path = None  # type: ignore[assignment,method-assign]
    provider(world).says, provider(world).spoil = NO_COUNTS, said(content)
    run = begin(world)
    drive(world, run, 3 * HOUR, step=120.0)
    assert sent(world) == ONCE
    provider(world).show()
    drive(world, run, 3 * HOUR, step=600.0)
    assert run.status is RunLifecycleStatus.COMPLETED
    assert sent(world) == ONCE


def test_rows_that_lagging_counts_leave_out_are_waited_for_some_minutes(world: World) -> None:
    """Cancelled from outside, with the error file first: the counts have yet to see what was answered."""
    world.provider.answered_rows = 4
    world.provider.statuses = ("in_progress", "cancelled")
    provider(world).says = {
        "output_file_id": None,
        "request_counts": {"total": 10, "completed": 0, "failed": 6},
    }
    run = begin(world)
    drive(world, run, 540.0)
    assert sent(world) == sorted([*ONCE, *range(4, 10)])
    provider(world).show()
    run.wait(poll_interval=30.0)
    assert sent(world) == sorted([*ONCE, *range(4, 10)])


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_the_most_that_was_ever_stated_counts(make_world: Callable[..., World], kind: str) -> None:
    """A look at the running batch said 8 answered; then a copy that lags behind says 3, and the file holds as many."""
    world = make_world(kind=kind, provider=Disguised())
    world.provider._clock = world.clock
    world.provider.answered_rows = 8
    world.provider.statuses = ("in_progress", "in_progress", "expired")
    provider(world).spoil = lines(3)
    provider(world).says = {
        "error_file_id": None,
        "request_counts": {"total": 10, "completed": 3, "failed": 7},
    }
    run = begin(world)
    run.refresh()
    provider(world).first.request_counts = {"total": 10, "completed": 8, "failed": 0}
    run.refresh()
    if kind == "sqlite":
        world.store = world.open_store()
        run = world.runner().get_run(RUN)
    drive(world, run, HOUR)
    assert sent(world) == ONCE
    assert world.data("batch_results_late")[-1]["stated_completed"] == 8
    provider(world).show()
    run.wait(poll_interval=30.0)
    assert sent(world) == [*range(8), 8, 8, 9, 9]


# --- the last look ---------------------------------------------------------------------------------------------------


def asked(world: World, run: Run) -> str:
    with pytest.raises(QuarantinedBatchError) as caught:
        run.wait(timeout=48 * HOUR, poll_interval=300.0)
    (name,) = caught.value.local_batch_ids
    return name


@pytest.mark.parametrize("word", ["resubmit", "fail"])
def test_what_has_come_just_before_the_answer_is_kept(world: World, word: str) -> None:
    provider(world).spoil = said(None)
    run = begin(world)
    name = asked(world, run)
    provider(world).show()
    getattr(run, word)(name)
    run.wait(poll_interval=30.0)
    assert run.status is RunLifecycleStatus.COMPLETED
    assert sent(world) == ONCE
    assert set(world.provider.paid.values()) == {1}


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("resubmit", RunLifecycleStatus.COMPLETED),
        ("fail", RunLifecycleStatus.COMPLETED_WITH_FAILURES),
    ],
)
def test_the_word_holds_for_the_rest(world: World, word: str, status: RunLifecycleStatus) -> None:
    """Even where the engine would by now send the rest again by itself."""
    provider(world).says = NO_COUNTS
    provider(world).spoil = said(None)
    run = begin(world)
    name = asked(world, run)
    provider(world).spoil = lines(6)
    getattr(run, word)(name)
    run.wait(poll_interval=30.0)
    assert run.status is status
    assert sent(world) == (sorted([*ONCE, 6, 7, 8, 9]) if word == "resubmit" else ONCE)


def test_the_word_holds_where_the_provider_can_not_be_asked(world: World) -> None:
    provider(world).spoil = said(None)
    run = begin(world)
    name = asked(world, run)
    world.provider.fail("get_batch")
    run.resubmit(name)
    provider(world).show()
    run.wait(poll_interval=30.0)
    assert sent(world) == sorted([*ONCE, *ONCE])
