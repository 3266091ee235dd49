"""Ctrl-C: the first one stops where it can, the second one at once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest

from batchor_core.cli.interrupts import Interrupted, Interrupts
from batchor_core.cli.stoppable import stoppable
from tests.support.world import items, text_job


@pytest.fixture(autouse=True)
def _as_in_a_terminal() -> Iterator[None]:
    """Whoever starts the tests in the background may have had Ctrl-C ignored, and that stays so in what they start."""
    before = {one: signal.signal(one, handler) for one, handler in _USUAL.items()}
    yield
    for one, handler in before.items():
        signal.signal(one, handler)


_USUAL: dict[signal.Signals, Any] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
}


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_the_first_waits_for_a_place_to_stop(
    sent: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    with Interrupts() as interrupts:
        interrupts.check()
        signal.raise_signal(sent)
        assert "stopping when the step in progress is done" in capsys.readouterr().err
        with pytest.raises(Interrupted) as stopped:
            interrupts.check()
        assert stopped.value.signal_number == sent
        with pytest.raises(Interrupted):
            interrupts.sleep(60)


def test_the_second_stops_at_once() -> None:
    with Interrupts():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(Interrupted):
            signal.raise_signal(signal.SIGINT)


def test_a_sleep_is_a_place_to_stop(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: signal.raise_signal(signal.SIGINT))
    with Interrupts() as interrupts, pytest.raises(Interrupted):
        interrupts.sleep(60)
    assert capsys.readouterr().err == ""


def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with Interrupts():
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_signal_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interrupts() as interrupts:
            signal.raise_signal(signal.SIGINT)
            interrupts.check()
    finally:
        signal.signal(signal.SIGINT, before)


def test_reading_rows_stops_between_two_of_them() -> None:
    looks = iter([None, Interrupted(signal.SIGINT)])

    def check() -> None:
        if (stop := next(looks)) is not None:
            raise stop

    job = stoppable(text_job(2), check)
    first, second = items(2)
    assert job.build_prompt(first) == "question 0"
    with pytest.raises(Interrupted):
        job.build_prompt(second)
