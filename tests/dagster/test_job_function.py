"""What the function under @batch_asset takes is decided as Dagster decides it for @asset."""
# users need not annotate what they decorate
# mypy: allow-untyped-defs, allow-incomplete-defs

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl
import pytest

from batchor_core import BatchItem, BatchJob, OpenAIProviderConfig
from batchor_core.core.exceptions import InvalidInputError
from batchor_dagster import BatchConfig, BatchorResource, batch_asset
from batchor_dagster.job_function import JobFunction
from tests.dagster import string_annotations

if TYPE_CHECKING:
    from decimal import Decimal

MEM = {"io_manager": dg.mem_io_manager}


class Prefix(dg.ConfigurableResource[Any]):
    text: str = "say"


class Choice(BatchConfig):
    rows: int = 2


Job = BatchJob[Any, Any]


def bare() -> Any: ...
def named(context) -> Any: ...
def underscored(_context) -> Any: ...
def trailing(context_) -> Any: ...
def nameless(_) -> Any: ...
def typed(ctx: dg.AssetExecutionContext) -> Any: ...
def typed_for_ops(ctx: dg.OpExecutionContext) -> Any: ...
def maybe(ctx: dg.AssetExecutionContext | None) -> Any: ...
def keyword(*, context) -> Any: ...
def placed(context, words, /) -> Any: ...
def lazily(lazy: pl.LazyFrame) -> Any: ...
def untyped(words) -> Any: ...
def configured(config: Choice, words: list[str]) -> Any: ...
def resourceful(prefix: Prefix, *, words: list[str]) -> Any: ...
def stored(batchor: BatchorResource) -> Any: ...
def defaulted(context, words=None, *, prefix: Prefix) -> Any: ...
def variadic(**upstream) -> Any: ...


SIGNATURES: list[tuple[Callable[..., Any], bool, set[str]]] = [
    (bare, False, set()),
    (named, True, set()),
    (underscored, True, set()),
    (trailing, True, set()),
    (nameless, True, set()),
    (typed, True, set()),
    (typed_for_ops, True, set()),
    (maybe, True, set()),
    (keyword, True, set()),
    (placed, True, {"words"}),
    (lazily, False, {"lazy"}),
    (untyped, False, {"words"}),
    (configured, False, {"words"}),
    (resourceful, False, {"words"}),
    (stored, False, set()),
    (defaulted, True, {"words"}),
    (variadic, False, set()),
]


@pytest.mark.parametrize(
    ("function", "takes_context", "upstream"), SIGNATURES, ids=lambda x: getattr(x, "__name__", None)
)
def test_context_config_and_resources_are_told_from_upstream_assets(
    function: Callable[..., Any], takes_context: bool, upstream: set[str]
) -> None:
    assert (JobFunction.of(function, resource_key="batchor").context is not None) is takes_context
    submission = batch_asset()(function).specs[0]
    assert {dep.asset_key.to_user_string() for dep in submission.deps} == upstream


# a context under another name, and inputs that only have a place or a keyword, are what @asset refuses or overlooks
DAGSTER_TAKES_TOO = [
    row
    for row in SIGNATURES
    if row[0] not in (typed, typed_for_ops, maybe, placed, resourceful, stored, defaulted)
]


@pytest.mark.parametrize(
    ("function", "_takes", "upstream"), DAGSTER_TAKES_TOO, ids=lambda x: getattr(x, "__name__", None)
)
def test_dagsters_own_decorator_finds_the_same(
    function: Callable[..., Any], _takes: bool, upstream: set[str]
) -> None:
    [spec] = dg.asset(function).specs
    assert {dep.asset_key.to_user_string() for dep in spec.deps} == upstream


def job_of(words: list[str], prefix: str = "say") -> Job:
    return BatchJob(
        items=[BatchItem(word, word) for word in words],
        build_prompt=lambda item: f"{prefix} {item.payload}",
        provider_config=OpenAIProviderConfig(model="gpt-4.1-mini"),
    )


@dg.asset
def words() -> list[str]:
    return ["one", "two"]


def _without_context(words: list[str]) -> Job:
    return job_of(words)


def _frame(lazy: pl.LazyFrame) -> Job:
    assert isinstance(lazy, pl.LazyFrame)
    return job_of(lazy.collect()["word"].to_list())


def _everything(
    ctx: dg.AssetExecutionContext, words: list[str], /, *, prefix: Prefix, config: Choice, more: int = 3
) -> Job:
    assert (ctx.asset_key.path[-1].partition("_")[0], config.rows, more) == ("everything", 2, 3)
    return job_of(words, prefix.text)


def _collected(**upstream: list[str]) -> Job:
    return job_of(upstream["given"])


def _nothing() -> Job:
    return job_of(["one", "two"])


class Callee:
    def __call__(self, words: list[str]) -> Job:
        return job_of(words)


@dg.asset
def lazy() -> pl.LazyFrame:
    return pl.LazyFrame({"word": ["one", "two"]})


@dg.asset
def more() -> int:
    return 3


@pytest.mark.parametrize("wait", [False, True])
@pytest.mark.parametrize(
    ("function", "settings"),
    [
        (_without_context, {}),
        (_frame, {}),
        (_everything, {}),
        (_collected, {"ins": {"given": dg.AssetIn("words")}}),
        (_nothing, {}),
        (functools.partial(_without_context), {}),
        (Callee(), {}),
        (string_annotations.from_words, {}),
        (string_annotations.with_context, {}),
    ],
    ids=[
        "no context",
        "frame",
        "everything",
        "kwargs",
        "nothing",
        "partial",
        "object",
        "strings",
        "typed by a string",
    ],
)
def test_each_is_called_with_what_it_asks_for(
    function: Callable[..., Any],
    settings: dict[str, Any],
    wait: bool,
    resource: BatchorResource,
    instance: dg.DagsterInstance,
) -> None:
    asset = batch_asset(name="everything", wait=wait, **settings)(function)
    result = dg.materialize(
        [words, lazy, more, asset.assets[0]],
        instance=instance,
        resources={"batchor": resource, "prefix": Prefix(), **MEM},
    )
    assert result.success
    with resource.runner() as runner:
        assert runner.get_run("everything").summary().total_items == 2


def misplaced(words: list[str], context: dg.AssetExecutionContext) -> Any: ...
def misplaced_by_name(words: list[str], context) -> Any: ...
def many(context, *words: str) -> Any: ...
def shadowing(context, batchor: list[str]) -> Any: ...
def untyped_resource(context, batchor) -> Any: ...
def unresolved(context, amounts: "list[Decimal]") -> Any: ...


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (misplaced, "misplaced: the context must be its first parameter, and 'context' is not"),
        (misplaced_by_name, "the context must be its first parameter"),
        (many, r"\*words can't be filled"),
        (shadowing, "'batchor' is the name of the resource. Annotate the parameter with BatchorResource"),
        (untyped_resource, "'batchor' is the name of the resource"),
        (
            unresolved,
            "the annotation 'list.Decimal.' of 'amounts' can't be resolved .*outside `if TYPE_CHECKING:`",
        ),
    ],
)
def test_what_can_not_be_filled_is_named_with_what_to_write(
    function: Callable[..., Any], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        batch_asset()(function)


def test_what_a_function_returns_need_not_be_known_when_it_is_decorated() -> None:
    function: Any = string_annotations.returning_an_unknown_type
    assert batch_asset()(function).key == dg.AssetKey("returning_an_unknown_type")


def test_the_step_takes_required_parameters_before_those_with_defaults() -> None:
    parameters = JobFunction.of(defaulted, resource_key="batchor").step_parameters(
        {"batchor": BatchorResource}
    )
    assert [parameter.name for parameter in parameters] == ["context", "batchor", "prefix", "words"]
    inspect.Signature(parameters)


@pytest.mark.filterwarnings("ignore:Parameter .backfill_policy.:dagster.BetaWarning")
def test_a_range_is_refused_where_every_partition_would_send_the_same_rows(
    resource: BatchorResource, instance: dg.DagsterInstance
) -> None:
    days = dg.StaticPartitionsDefinition(["a", "b"])
    asset = batch_asset(name="blind", partitions_def=days, backfill_policy=dg.BackfillPolicy.single_run())(
        _nothing
    )
    result = dg.materialize(
        [asset.assets[0]],
        instance=instance,
        resources={"batchor": resource},
        tags={"dagster/asset_partition_range_start": "a", "dagster/asset_partition_range_end": "b"},
        raise_on_error=False,
    )
    [failed] = [event for event in result.all_events if event.is_step_failure]
    assert "takes no context, so each partition of this range would send" in str(
        failed.step_failure_data.error
    )
    with resource.runner() as runner:
        assert runner.list_runs() == []
    one = dg.materialize(
        [asset.assets[0]], instance=instance, resources={"batchor": resource}, partition_key="a"
    )
    assert one.success
