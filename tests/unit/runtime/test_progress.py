"""The progress of a wait, and runs and results in notebooks."""

from __future__ import annotations

import asyncio
import builtins
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from batchor_core.core.html import grid
from batchor_core.core.models import RetryPolicy
from batchor_core.runtime.progress import state
from tests.support.world import RUN, World, by_item, text_job


def test_a_wait_draws_a_bar_to_the_end(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.start(text_job(1_200)).wait(progress=True)
    told = capsys.readouterr()
    assert told.out == ""
    assert "run-1" in told.err
    assert "1,200/1,200 rows" in " ".join(told.err.split())
    assert "completed" in told.err


def test_a_wait_on_an_event_loop_draws_it_too(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    async def scenario() -> None:
        async with world.runner() as runner:
            run = await runner.start_async(text_job(2), run_id=RUN)
            await run.wait_async(progress=True, poll_interval=0.0)

    asyncio.run(scenario())
    assert "2/2 rows" in capsys.readouterr().err


def test_what_stands_beside_the_bar(world: World) -> None:
    world.provider.fail("get_batch", RuntimeError("no \x1b[2Jroute"), times=1)
    run = world.start(text_job(2))
    assert state(run.summary(), 12.2) == "1 batch in flight, polled in 12 s"
    run.refresh()
    told = state(run.summary(), 1.0)
    assert told.startswith("polling a batch has been failing since 2026-01-01 00:00:00 UTC")
    assert "no  [2Jroute" in told  # a terminal obeys escapes


def test_without_rich_the_error_says_what_to_install(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_rich(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("rich"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    run = world.start(text_job(1))
    monkeypatch.setattr(builtins, "__import__", without_rich)
    with pytest.raises(ImportError, match=r"pip install 'batchor-core\[progress\]'"):
        run.wait(progress=True)


def test_in_a_notebook_the_run_is_a_table_that_is_kept_up_to_date(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    handle = SimpleNamespace(update=lambda summary: shown.append(summary._repr_html_()))

    def display(summary: Any, *, display_id: bool) -> Any:
        handle.update(summary)
        return handle

    shell = SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display))
    world.start(text_job(3)).wait(progress=True)
    assert '<progress value="0" max="3"' in shown[0]
    assert '<progress value="3" max="3"' in shown[-1]


def test_runs_and_results_are_tables_in_a_notebook(world: World) -> None:
    world.provider.answer = by_item({0: "<b>good</b>", 1: ""})
    run = world.start(text_job(2, retry=RetryPolicy(max_attempts=1))).wait()
    assert "<strong>Run run-1</strong>" in run._repr_html_()
    assert "completed_with_failures" in run._repr_html_()
    good, bad = run.results()
    assert "&lt;b&gt;good&lt;/b&gt;" in good._repr_html_()
    assert "empty_response_text" in bad._repr_html_()
    page = run.read_terminal_results()._repr_html_()
    assert "&lt;b&gt;good" in page
    assert "2 rows</div>" in page


def test_a_table_shows_the_first_rows_and_the_beginning_of_long_cells() -> None:
    rows = list(range(1_000))
    told = grid(("n", "text"), rows, ((row, "x" * 1_000) for row in rows))
    assert told.count("<tr>") == 21
    assert "20 of 1,000 rows" in told
    assert len(told) < 10_000
