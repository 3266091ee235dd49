"""Clocks that jump: of the store, by hours and days, forwards and backwards, in the middle of everything."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

import pytest

from batchor_core.core.enums import RunLifecycleStatus
from batchor_core.core.exceptions import InvalidInputError, ProviderError
from batchor_core.core.models import RetryPolicy
from batchor_core.core.retry import is_due
from batchor_core.providers.openai.config import OpenAIProviderConfig
from batchor_core.runtime import lease, submit
from batchor_core.runtime.engine import EngineSettings
from batchor_core.runtime.lease import check_lease_term, spare_seconds
from batchor_core.storage.memory import MemoryStateStore
from batchor_core.storage.state import DriverIdentity, DriverSession
from batchor_core.testing.fake_config import FakeProviderConfig
from tests.support.world import RUN, World, text_job

HOUR, DAY = 3_600.0, 86_400.0


def jump(world: World, seconds: float) -> None:
    """The store's clock is set; the provider goes by another, as it does."""
    world.clock._now += timedelta(seconds=seconds)


def trouble(world: World, kind: str) -> None:
    match kind:
        case "none":
            pass
        case "unknown outcome":
            world.provider.fail("create_batch", ProviderError("lost"))
        case "created, and nobody told":
            world.provider.fail("create_batch", ProviderError("lost"), after=True)
        case "polls fail":
            world.provider.fail("get_batch", ProviderError("busy", status_code=503), times=4)
        case _:
            assert kind == "polls are put off"
            world.provider.fail("get_batch", ProviderError("busy", retry_after=DAY), times=2)


@pytest.mark.parametrize("seconds", [HOUR, -HOUR, DAY, -DAY], ids=["+1h", "-1h", "+1d", "-1d"])
@pytest.mark.parametrize(
    "kind", ["none", "unknown outcome", "created, and nobody told", "polls fail", "polls are put off"]
)
@pytest.mark.parametrize("after", [0, 1, 2, 3])
def test_a_jump_neither_pays_twice_nor_stands_still(
    world: World, kind: str, seconds: float, after: int
) -> None:
    world.provider._clock = (
        None  # the provider's books begin when the world's clock does, and go by themselves
    )
    trouble(world, kind)
    run = world.start(text_job(3, retry=RetryPolicy(max_backoff_sec=60.0)))
    for cycle in range(200):
        if cycle == after:
            jump(world, seconds)
        if run.refresh().status is not RunLifecycleStatus.RUNNING:
            break
        world.clock.advance(60.0)
    assert run.status is RunLifecycleStatus.COMPLETED
    assert set(world.provider.paid.values()) == {1}
    assert sum(world.provider.paid.values()) == 3


@pytest.mark.parametrize("seconds", [DAY, -DAY])
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_a_jump_does_not_keep_a_dead_driver_alive(
    make_world: Callable[..., World], kind: str, seconds: float
) -> None:
    from tests.contract.stores.kit import ALICE

    world = make_world(kind=kind)
    world.provider.statuses = ("in_progress",)
    world.start()
    assert world.store.open_session(run_id=RUN, owner=ALICE, ttl_sec=120.0) is not None
    jump(world, seconds)
    world.provider.set_statuses(world.batch_ids()[0], "completed")
    assert world.runner().get_run(RUN).refresh().completed_items == 3


def test_clocks_with_other_zones_and_without_any_tell_the_same_time() -> None:
    moment = datetime(2026, 3, 29, 1, 30, tzinfo=UTC)  # summer time begins in Europe
    abroad = moment.astimezone(timezone(timedelta(hours=9)))
    clock = iter([moment, abroad, moment.replace(tzinfo=None)])
    store = MemoryStateStore(now=lambda: next(clock))
    assert store.now() == store.now() == store.now()


@pytest.mark.parametrize(
    ("at", "now", "longest", "due"),
    [(5, 5, 10, True), (6, 5, 10, False), (15, 5, 10, False), (17, 5, 10, True), (0, 5, 10, True)],
)
def test_a_moment_that_lies_too_far_off_has_come(at: float, now: float, longest: float, due: bool) -> None:
    assert is_due(at, now, longest=longest) is due


# --- the lease, and what is sent in it -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ttl", "timeout", "usable"),
    [
        (120, 30, True),
        (120, 107, True),
        (120, 108, False),
        (120, 600, False),
        (30, 30, False),
        (700, 600, True),
    ],
)
def test_a_lease_outlasts_an_api_call(world: World, ttl: float, timeout: float, usable: bool) -> None:
    config = OpenAIProviderConfig(model="m", api_key="k", request_timeout_sec=timeout)
    assert (spare_seconds(ttl, config) > 0) is usable
    if usable:
        check_lease_term(ttl, config)
    else:
        with pytest.raises(InvalidInputError, match="request_timeout_sec"):
            check_lease_term(ttl, config)
        runner = world.runner(settings=EngineSettings(lease_ttl_sec=ttl))
        with pytest.raises(InvalidInputError, match="lease_ttl_sec"):
            runner.start(text_job(1, provider_config=config), run_id="refused")
        assert not world.store.has_run(run_id="refused")


def test_a_config_that_tells_no_timeout_is_taken_as_it_is() -> None:
    check_lease_term(1.0, FakeProviderConfig())


def test_a_driver_that_slept_before_the_post_renews_first(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time between the durable SENDING row and the request: 0, then a nap of 200 seconds, then none."""
    naps = iter([0.0, 200.0, 200.0, 200.0])
    monkeypatch.setattr(submit, "uptime", lambda: next(naps, 200.0))
    renewed: list[float] = []
    run = world.start(text_job(1), run_id="x")
    session = world.store.open_session(run_id=run.run_id, owner=_someone(), ttl_sec=1)
    assert session is not None
    session_class = type(session)
    renew = session_class.renew

    def counted(self: DriverSession, *, ttl_sec: float) -> None:
        renewed.append(ttl_sec)
        renew(self, ttl_sec=ttl_sec)

    monkeypatch.setattr(session_class, "renew", counted)
    naps = iter([0.0, 200.0, 200.0, 200.0])
    world.start()
    assert renewed == [120.0]
    assert world.summary().active_batches == 1


def test_a_store_too_slow_for_the_lease_sends_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(0, 10_000, 200))
    monkeypatch.setattr(submit, "uptime", lambda: float(next(ticks)))
    run = world.start()
    assert world.provider.count("create_batch") == 0
    assert world.store.list_submissions(run_id=RUN)[0].last_error_class == "lease_too_short"
    monkeypatch.setattr(submit, "uptime", lease.uptime)
    run.wait(poll_interval=5.0)
    assert run.status is RunLifecycleStatus.COMPLETED


def test_the_clock_of_leases_goes_on_while_the_machine_sleeps() -> None:
    assert lease.uptime() <= lease.uptime()


def _someone() -> DriverIdentity:
    from tests.contract.stores.kit import ALICE

    return ALICE
