"""A run stays within its config's budget, fills it, and shares it with the runs beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from batchor_core.core.enqueue_budget import EnqueueBudget, account_of, budget_of, fingerprint
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.models import ProviderConfig
from batchor_core.providers.api import is_own_account
from batchor_core.providers.openai import OpenAIBatchProvider, OpenAIEnqueueLimitConfig, OpenAIProviderConfig
from batchor_core.providers.registry import ProviderRegistry
from batchor_core.runtime.engine import RunProvider
from batchor_core.storage.sqlite import SQLiteStorage
from batchor_core.testing.fake_config import FakeProviderConfig
from batchor_core.testing.fake_provider import FakeProvider
from tests.support.world import RUN, World, text_job

EIGHT = (
    "build_request_line",
    "upload_input_file",
    "delete_input_file",
    "create_batch",
    "get_batch",
    "download_file_content",
    "parse_batch_output",
    "estimate_request_tokens",
)


class EightMethods:
    """The documented methods of a provider, and not one more."""

    def __init__(self, provider: Any) -> None:
        for name in EIGHT:
            setattr(self, name, getattr(provider, name))


@dataclass(frozen=True)
class LimitedConfig(FakeProviderConfig):
    """A config of somebody else, with the fields of OpenAI's limits."""

    enqueue_limits: Any = field(default_factory=lambda: OpenAIEnqueueLimitConfig(1_000, 1.0))


def ask_for_100_tokens(item: Any) -> str:
    return "x" * 400


def limited_job(count: int, **changes: Any) -> Any:
    job = text_job(count, build_prompt=ask_for_100_tokens)
    return replace(job, provider_config=LimitedConfig(poll_interval_sec=1.0), **changes)


def rows_in_flight(world: World) -> int:
    active = [batch for batch in world.provider.batches.values() if batch.status != "completed"]
    return sum(len(batch.lines) for batch in active)


def test_what_is_left_of_a_budget_is_filled(any_world: World) -> None:
    any_world.provider.statuses = ["in_progress"] * 10 + ["completed"]
    runner = any_world.runner()
    runner.start(limited_job(6), run_id="one")
    runner.start(limited_job(10), run_id="two")
    assert any_world.lines() == [6, 4]


def test_ten_partitions_go_on_together(any_world: World) -> None:
    runner = any_world.runner()
    runs = [runner.start(limited_job(6), run_id=f"run-{number}") for number in range(10)]
    assert any_world.lines() == [6, 4]  # the first two were there before the others
    for _ in range(60):
        for run in runs:
            run.refresh()
            assert rows_in_flight(any_world) <= 10
        any_world.clock.sleep(30)
        if len(any_world.batch_ids()) >= 12:
            break
    began = [batch.metadata["batchor_run_id"] for batch in any_world.provider.batches.values()]
    assert set(began[:12]) == {f"run-{number}" for number in range(10)}  # nobody waits for another's end
    for run in runs:
        run.wait()
    assert set(any_world.provider.submitted().values()) == {1}


def test_waiting_reads_no_rows_counts_no_tokens_and_writes_now_and_then(
    any_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    any_world.provider.statuses = ["in_progress"]
    runner = any_world.runner()
    runner.start(limited_job(10), run_id="one")
    run = runner.start(limited_job(10), run_id="two")
    work: Counter[str] = Counter()
    sessions: list[Any] = []
    open_session = any_world.store.open_session

    def counting(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            work[name] += 1
            return call(*args, **kwargs)

        return counted

    def opened(**kwargs: Any) -> Any:
        session: Any = open_session(**kwargs)
        sessions.append(session)
        for name in ("candidates", "keep_place", "claim"):
            monkeypatch.setattr(session, name, counting(name, getattr(session, name)))
        return session

    monkeypatch.setattr(any_world.store, "open_session", opened)
    monkeypatch.setattr(
        any_world.provider,
        "estimate_request_tokens",
        counting("estimate", any_world.provider.estimate_request_tokens),
    )
    for _ in range(30):
        run.refresh()
        any_world.clock.sleep(20)
    assert len(sessions) == 30
    assert work["estimate"] == work["claim"] == 0
    assert work["candidates"] <= 2  # once more when its patience with slivers is over
    assert work["keep_place"] <= 4
    assert any_world.lines() == [10]


@pytest.mark.parametrize(
    "make", [lambda provider: provider, EightMethods], ids=["all hooks", "eight methods"]
)
def test_the_limits_are_the_configs_whatever_the_provider_offers(
    any_world: World, make: Callable[[Any], Any]
) -> None:
    any_world.provider.statuses = ["in_progress"] * 10 + ["completed"]
    run = any_world.start(limited_job(25), provider_factory=lambda config: make(any_world.provider))
    assert any_world.lines() == [10]
    run.wait()
    assert any_world.lines() == [10, 10, 5]


def test_a_stored_config_is_held_to_its_limits_by_another_process(world: World) -> None:
    limits = OpenAIEnqueueLimitConfig(1_000, 1.0)
    registry = ProviderRegistry()
    registry.register(
        kind="fake",
        factory=lambda config: EightMethods(world.provider),  # type: ignore[arg-type,return-value]
        loader=lambda payload: LimitedConfig(enqueue_limits=limits),
    )
    world.provider.statuses = ["in_progress"] * 10 + ["completed"]
    path = world.folder / "limited.sqlite3"
    for attempt in range(2):
        store = SQLiteStorage(path=path, now=world.clock, provider_registry=registry)
        runner = world.runner(storage=store, provider_registry=registry)
        if attempt == 0:
            runner.start(limited_job(25), run_id=RUN)
        else:
            runner.get_run(RUN).wait()
        store.close()
    assert world.lines() == [10, 10, 5]


# --- what a config says ----------------------------------------------------------------------------------------------


def openai(**changes: Any) -> OpenAIProviderConfig:
    given: dict[str, Any] = {
        "model": "m",
        "api_key": "k",
        "enqueue_limits": OpenAIEnqueueLimitConfig(1_000, 0.5),
    }
    return OpenAIProviderConfig(**(given | changes))


def test_budgets_of_other_accounts_servers_and_models_are_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    configs = [
        openai(),
        openai(api_key="other"),
        openai(model="n"),
        openai(base_url="https://example.com/v1"),
        openai(organization="org"),
        openai(project="proj"),
    ]
    budgets = [budget_of(config) for config in configs]
    assert {(budget.limit, budget.per_batch) for budget in budgets if budget} == {(500, 500)}
    assert len({budget.key for budget in budgets if budget}) == len(configs)
    provider = OpenAIBatchProvider(configs[0])
    assert provider.enqueue_budget() == budgets[0]
    assert openai(api_key="").account_fingerprint() is None


def test_a_key_from_the_environment_tells_accounts_apart_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    assert budget_of(openai(api_key="")) == budget_of(openai())


class Plain(ProviderConfig):
    """A config with nothing but what it must have."""

    provider_kind = "plain"

    def to_payload(self) -> dict[str, Any]:
        return {}


def test_a_config_that_says_nothing_has_no_budget() -> None:
    assert budget_of(Plain()) is None
    assert account_of(Plain()) is None
    assert budget_of(SimpleNamespace(provider_kind="x")) is None
    assert budget_of(openai(enqueue_limits=OpenAIEnqueueLimitConfig())) is None


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"enqueued_token_limit": 1_000}, (700, 700)),
        ({"enqueued_token_limit": 1_000, "target_ratio": 1.0, "headroom": 100}, (900, 900)),
        ({"max_batch_enqueued_tokens": 50}, (0, 50)),
        ({"enqueued_token_limit": 1_000, "max_batch_enqueued_tokens": 50}, (700, 50)),
        ({}, None),
    ],
)
@pytest.mark.parametrize("shape", [dict, lambda limits: SimpleNamespace(**limits)], ids=["mapping", "object"])
def test_limits_are_read_from_a_config_of_any_class(
    limits: dict[str, Any], expected: tuple[int, int] | None, shape: Callable[[Any], Any]
) -> None:
    config = SimpleNamespace(provider_kind="acme", model="m", api_key="k", enqueue_limits=shape(limits))
    budget = budget_of(config)
    assert (None if budget is None else (budget.limit, budget.per_batch)) == expected
    if budget is not None:
        assert budget.key == f"acme:{account_of(config)}:m"
        assert account_of(config) != "k"


def test_a_headroom_that_leaves_nothing_is_named() -> None:
    config = SimpleNamespace(provider_kind="x", enqueue_limits={"enqueued_token_limit": 5, "headroom": 5})
    with pytest.raises(InvalidInputError, match="headroom"):
        budget_of(config)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"enqueued_tokens_limit": 1_000}, "do you mean 'enqueued_token_limit'"),
        ({"limit": 1_000, "enqueued_token_limit": 5}, "no field 'limit'"),
        (SimpleNamespace(enqueued_tokens_limit=1_000), "enqueue_limits is .*enqueued_tokens_limit"),
        (1_000, "enqueue_limits is 1000"),
        ({"enqueued_token_limit": "many"}, "enqueued_token_limit is 'many'"),
        ({"enqueued_token_limit": -5}, "enqueued_token_limit is -5"),
        ({"enqueued_token_limit": True}, "enqueued_token_limit is True"),
        ({"enqueued_token_limit": 1_000, "target_ratio": 70}, "target_ratio is 70"),
    ],
)
def test_a_limit_that_cannot_be_read_is_an_error_and_not_no_limit(limits: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        budget_of(SimpleNamespace(provider_kind="x", enqueue_limits=limits))


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        (None, "https://api.openai.com/v1", True),
        (None, "https://API.OpenAI.com:443/v1/", True),
        ("https://llm.example.com/v1", "https://LLM.example.com/v1//", True),
        ("http://127.0.0.1:8000/v1", "http://127.0.0.1:8000/v1/", True),
        ("http://[::1]:80/v1", "http://[::1]/v1", True),
        ("https://llm.example.com/v1", "https://llm.example.com/V1", False),
        ("https://llm.example.com/v1", "https://llm.example.com:8443/v1", False),
        ("https://llm.example.com/v1", None, False),
    ],
)
def test_an_account_is_one_however_its_server_is_spelled(
    monkeypatch: pytest.MonkeyPatch, one: str | None, other: str | None, is_same: bool
) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    first, second = openai(base_url=one), openai(base_url=other)
    assert (first.account_fingerprint() == second.account_fingerprint()) is is_same
    keys = {budget.key for config in (first, second) if (budget := budget_of(config))}
    assert len(keys) == (1 if is_same else 2)


@pytest.mark.parametrize("base_url", [None, "https://llm.example.com/v1", "https://api.openai.com/v1/"])
@pytest.mark.parametrize("config_of", [openai, SimpleNamespace], ids=["openai", "custom"])
def test_what_earlier_builds_stored_is_the_same_account(
    monkeypatch: pytest.MonkeyPatch, base_url: str | None, config_of: Any
) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    config = config_of(base_url=base_url, api_key="k")
    api = RunProvider(lambda: FakeProvider(fingerprint=None), config).get()
    own = base_url or "https://api.openai.com/v1"
    spelled = [own, own.rstrip("/"), own.rstrip("/") + "/"] if base_url or config_of is openai else [""]
    if config_of is openai and "openai" in own:
        spelled.append("")
    stored = [fingerprint("k", spelling, "", "") for spelling in spelled]  # as they were made
    assert all(is_own_account(api, one) for one in stored)
    assert not is_own_account(api, fingerprint("other key", *spelled[:1], "", ""))
    assert not is_own_account(api, fingerprint("k", "https://elsewhere.example.com/v1", "", ""))


def test_a_config_may_state_its_budget_itself() -> None:
    stated = EnqueueBudget("key", 10, 5)
    assert budget_of(SimpleNamespace(provider_kind="x", enqueue_budget=lambda: stated)) == stated


@pytest.mark.parametrize(
    ("hook", "expected"),
    [(None, ("config", 700)), (EnqueueBudget("provider", 5, 5), ("provider", 700))],
)
def test_a_provider_may_know_the_account_but_the_limits_are_the_configs(
    hook: EnqueueBudget | None, expected: tuple[str, int]
) -> None:
    stated = EnqueueBudget("config", 700, 700)
    config = SimpleNamespace(provider_kind="x", enqueue_budget=lambda: stated)
    budget = RunProvider(lambda: FakeProvider(budget=hook), config).get().enqueue_budget()  # type: ignore[arg-type]
    assert budget is not None
    assert (budget.key, budget.limit) == expected


def test_a_provider_whose_config_says_nothing_states_its_own() -> None:
    own = EnqueueBudget("provider", 5, 5)
    assert RunProvider(lambda: FakeProvider(budget=own), FakeProviderConfig()).get().enqueue_budget() == own


def test_an_account_is_known_from_the_config_where_the_provider_does_not_tell(tmp_path: Path) -> None:
    config = openai(base_url="https://example.com/v1")
    api = RunProvider(lambda: EightMethods(FakeProvider()), config).get()  # type: ignore[arg-type,return-value]
    assert api.key_fingerprint() == config.account_fingerprint()
    api = RunProvider(lambda: FakeProvider(fingerprint="told"), config).get()
    assert api.key_fingerprint() == "told"
