"""Playing many rounds on several arenas at once, and counting what came of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from tests.chaos.arena import Arena, Reached
from tests.chaos.suites import Case
from tests.chaos.verdict import Verdict


@dataclass
class Tally:
    """What came of a suite on a store."""

    suite: str
    store: str
    rounds: int = 0
    bad: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    total: Verdict = field(default_factory=Verdict)
    reached: Reached = field(default_factory=Reached)
    failures: list[str] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)

    def count(self, case: Case, verdict: Verdict, reached: Reached, seconds: float) -> None:
        """One more round."""
        self.rounds += 1
        self.slowest = max(self.slowest, seconds)
        self.total += verdict
        self.reached.meant += reached.meant
        self.reached.happened += reached.happened
        if not verdict.is_good:
            self.bad += 1
            self.failures.append(f"{case.name}: {'; '.join(verdict.why)}")
        elif verdict.orphans:
            self.leftovers.append(f"{case.name}: {'; '.join(verdict.why)}")


@contextmanager
def arenas(store: str, count: int, dsn: str = "") -> Iterator[list[Arena]]:
    """Several arenas on one kind of store."""
    with ExitStack() as stack:
        yield [stack.enter_context(Arena(store, dsn)) for _ in range(count)]


def play(
    suite: str,
    cases: Iterable[Case],
    on: Sequence[Arena],
    *,
    until: float | None = None,
    stop_at_bad: int = 0,
) -> Tally:
    """Play the cases, each arena one after the other, until they are used up or the monotonic clock says ``until``."""
    tally, lock, waiting = Tally(suite, on[0].store), threading.Lock(), iter(cases)
    began = time.monotonic()

    def work(arena: Arena) -> None:
        while until is None or time.monotonic() < until:
            with lock:
                case = next(waiting, None)
                if case is None or (stop_at_bad and tally.bad >= stop_at_bad):
                    return
            start = time.monotonic()
            with arena.round(case.scenario) as stage:
                verdict = case.play(stage)
            with lock:
                tally.count(case, verdict, stage.reached, time.monotonic() - start)

    threads = [threading.Thread(target=work, args=(arena,)) for arena in on]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tally.seconds = time.monotonic() - began
    return tally
