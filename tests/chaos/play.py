"""Playing many rounds on several arenas at once, and counting what came of them."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from tests.chaos.arena import Arena, Reached
from tests.chaos.disturbance import RestartingPostgres
from tests.chaos.suites import Case
from tests.chaos.verdict import Verdict


@dataclass
class Tally:
    """What came of a suite on a store.

    Attributes:
        rounds: That were played and judged.
        whole: Of these, those in which every kill and stop that was meant came to pass.
        bad: Of these, those with something wrong.
        failures: What was wrong, a line for each bad round.
        leftovers: Files that stayed where that is allowed, and why it is.
        crashes: Tracebacks of the harness itself. With one of these the other figures say little.
    """

    suite: str
    store: str
    rounds: int = 0
    whole: int = 0
    bad: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    total: Verdict = field(default_factory=Verdict)
    reached: Reached = field(default_factory=Reached)
    failures: list[str] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    crashes: list[str] = field(default_factory=list)

    def count(self, case: Case, verdict: Verdict, reached: Reached, seconds: float) -> None:
        """One more round."""
        self.rounds += 1
        self.whole += reached.happened == reached.meant
        self.slowest = max(self.slowest, seconds)
        self.total += verdict
        self.reached += reached
        said = f"{case.name} {[*reached.places] or ''}: {'; '.join(verdict.why)}"
        if not verdict.is_good:
            self.bad += 1
            self.failures.append(said)
        elif verdict.orphans:
            self.leftovers.append(f"{said} ({case.scenario.leaves})")


@contextmanager
def arenas(
    store: str, count: int, dsn: str = "", *, own_servers: bool = False, provider: str = "openai"
) -> Iterator[list[Arena]]:
    """Several arenas on one kind of store; with ``own_servers`` each has a Postgres of its own, which it may restart."""
    with ExitStack() as stack:
        servers = [stack.enter_context(RestartingPostgres()) if own_servers else None for _ in range(count)]
        yield [stack.enter_context(Arena(store, dsn, server, provider=provider)) for server in servers]


def play(
    suite: str,
    cases: Iterable[Case],
    on: Sequence[Arena],
    *,
    until: float | None = None,
    stop_at_bad: int = 0,
    enough: Callable[[Tally], bool] = lambda tally: False,
) -> Tally:
    """Play the cases, each arena one after the other.

    That goes on until they are used up, there is ``enough`` of them, the monotonic clock says ``until``, or the harness
    itself fails, which the tally then says.
    """
    tally, lock, waiting = Tally(suite, on[0].store), threading.Lock(), iter(cases)
    began = time.monotonic()

    def next_case() -> Case | None:
        with lock:
            over = tally.crashes or (stop_at_bad and tally.bad >= stop_at_bad) or enough(tally)
            if over or (until is not None and time.monotonic() >= until):
                return None
            return next(waiting, None)

    def work(arena: Arena) -> None:
        name = "the first round"
        try:
            while (case := next_case()) is not None:
                name, start = case.name, time.monotonic()
                with arena.round(case.scenario) as stage:
                    verdict = case.play(stage)
                with lock:
                    tally.count(case, verdict, stage.reached, time.monotonic() - start)
        except BaseException:  # a worker that dies in silence would end the suite with fewer rounds
            with lock:
                tally.crashes.append(f"{suite}, {name}: {traceback.format_exc()}")

    threads = [threading.Thread(target=work, args=(arena,)) for arena in on]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tally.seconds = time.monotonic() - began
    return tally
