"""The rows of a batch in YAML come from a query or an upstream asset too, and its answers are of any kind."""

import sqlite3
from pathlib import Path
from typing import Any, Literal

import dagster as dg
import polars as pl
import pytest

from batchor_core import BatchJob, BodyOutput, VectorOutput
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.structured import resolve_model
from batchor_core.providers.openai.strict_schema import model_output_schema
from batchor_dagster import BatchAsset, BatchComponent, BatchorResource
from batchor_dagster.components.batch import Batch
from batchor_dagster.components.output_schema import output_model, output_of
from batchor_dagster.testing import materialize_batch

LETTERS = {"id": ["a", "b"], "text": ["fine", "broken"]}


def batch(**settings: Any) -> Batch:
    plain = {"name": "reviews", "openai": {"model": "gpt-4.1-mini"}, "prompt": "Judge {text}"}
    return Batch.model_validate({**plain, **settings})


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    path = tmp_path / "shop.sqlite3"
    with sqlite3.connect(path) as connection:
        connection.execute("create table letters (id, day, text)")
        rows = [("a", "monday", "fine"), ("b", "monday", "broken"), ("c", "tuesday", "late")]
        connection.executemany("insert into letters values (?, ?, ?)", rows)
    connection.close()
    monkeypatch.setenv("SHOP_URL", f"sqlite:///{path}")
    return f"sqlite:///{path}"


def landed(asset: BatchAsset, resource: BatchorResource, *, partition: str | None = None, **more: Any) -> Any:
    done = materialize_batch(
        asset, partition, resources={"batchor": resource, **more.pop("resources", {})}, **more
    )
    assert done.success
    return sorted(done.table["item_id"].to_pylist())


class TestQuery:
    def test_each_partition_has_the_rows_of_its_query(
        self, database: str, tmp_path: Path, resource: BatchorResource
    ) -> None:
        asset = batch(
            source={
                "sql": "select id, text from letters where day = :partition order by id",
                "connection": {"env": "SHOP_URL"},
            },
            partitions={"type": "static", "keys": ["monday", "tuesday"]},
        ).asset(tmp_path)
        assert asset.specs[-1].description == "gpt-4.1-mini on the rows of a query"
        assert landed(asset, resource, partition="monday") == ["a", "b"]
        assert landed(asset, resource, partition="tuesday") == ["c"]

    def test_a_query_without_partition_is_sent_as_it_is(self, database: str, tmp_path: Path) -> None:
        source = {
            "sql": "select text as name, '12:30 ::partition' as text from letters",
            "connection": database,
            "id_column": "name",
        }
        job = batch(source=source).job(tmp_path, None)
        assert [item.item_id for item in job.items] == ["fine", "broken", "late"]

    def test_a_variable_that_is_not_set_is_named(self, tmp_path: Path) -> None:
        source = {"sql": "select 1 as id", "connection": {"env": "NO_SUCH_VARIABLE"}}
        with pytest.raises(InvalidInputError, match="NO_SUCH_VARIABLE}, and that variable is not set"):
            batch(source=source).job(tmp_path, None)


class TestUpstream:
    @pytest.mark.parametrize("held", [pl.DataFrame(LETTERS), pl.DataFrame(LETTERS).to_dicts()])
    @pytest.mark.parametrize("wait", [False, True])
    def test_an_asset_gives_the_rows(
        self, held: Any, wait: bool, tmp_path: Path, resource: BatchorResource
    ) -> None:
        @dg.asset(key_prefix="shop")
        def letters() -> Any:
            return held

        asset = batch(source={"asset": "shop/letters"}, wait=wait).asset(tmp_path)
        resources = {"io_manager": dg.mem_io_manager}
        assert landed(asset, resource, upstream=[letters], resources=resources) == ["a", "b"]

    def test_a_subclass_may_change_the_job_of_an_upstream_asset(
        self, tmp_path: Path, resource: BatchorResource
    ) -> None:
        @dg.asset
        def letters() -> Any:
            return pl.DataFrame(LETTERS)

        class First(BatchComponent):
            def execute(
                self, context: dg.AssetExecutionContext, batch: Batch, folder: Path
            ) -> BatchJob[Any, Any]:
                job = super().execute(context, batch, folder)
                return BatchJob(list(job.items)[:1], job.build_prompt, job.provider_config)

        component = First(batches=[batch(source={"asset": "letters"})])
        [asset] = component._assets(tmp_path, resource_key="batchor")
        resources = {"io_manager": dg.mem_io_manager}
        assert landed(asset, resource, upstream=[letters], resources=resources) == ["a"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({}, "source needs one of path, sql and asset, and has none of them"),
        ({"path": "x.csv", "asset": "x"}, "one of path, sql and asset, and has path and asset"),
        ({"sql": "select 1"}, "source has no connection"),
        ({"path": "x.csv", "connection": "sqlite://"}, "source has no sql"),
        (
            {"sql": "select :partition", "connection": "sqlite://"},
            "has :partition, and the batch has no partitions",
        ),
        ({"path": "x/{partition}.csv"}, "has {partition}, and the batch has no partitions"),
        ({"sql": "select 1", "connection": {"variable": "X"}}, r"a SQLAlchemy URL or {env: NAME}"),
    ],
)
def test_a_source_that_gives_no_rows_is_refused_when_definitions_load(
    source: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInputError, match=f"^reviews: .*{message}"):
        batch(source=source).asset(tmp_path)


class TestOutputs:
    def test_every_kind_is_a_line_of_the_yaml(self) -> None:
        assert output_of("x", None) is output_of("x", "text") is None
        assert output_of("x", "body") == BodyOutput()
        assert output_of("x", {"vector": 256}) == VectorOutput(256)
        vector: Any = output_of("x", {"vector": "integer"})  # a field of that name
        assert vector.model_fields["vector"].annotation is int

    def test_a_json_schema_is_a_model(self) -> None:
        schema = {
            "type": "object",
            "description": "A judgement.",
            "required": ["mood", "stars", "place", "topics", "kind"],
            "additionalProperties": False,
            "properties": {
                "mood": {"enum": ["good", "bad"]},
                "stars": {"type": "integer", "minimum": 1, "maximum": 5, "description": "One to five"},
                "place": {"$ref": "#/$defs/place"},
                "topics": {"type": "array", "items": {"type": "string"}, "maxItems": 3},
                "kind": {"const": "review"},
                "note": {"type": ["string", "null"]},
                "price": {"anyOf": [{"type": "number"}, {"type": "string"}]},
            },
            "$defs": {
                "place": {"type": "object", "required": ["city"], "properties": {"city": {"type": "string"}}}
            },
        }
        model = output_model("shop_reviews", schema)
        fields: dict[str, Any] = {name: field.annotation for name, field in model.model_fields.items()}
        assert model.__name__ == "ShopReviews"
        assert fields["mood"] == Literal["good", "bad"]
        assert fields["kind"] == Literal["review"]
        assert fields["place"].model_fields["city"].annotation is str
        assert (fields["note"], fields["price"]) == (str | None, float | str | None)
        good = {"mood": "good", "stars": 5, "place": {"city": "Oslo"}, "topics": [], "kind": "review"}
        model.model_validate(good)
        mistakes: list[dict[str, Any]] = [
            {"stars": 6},
            {"mood": "?"},
            {"topics": ["a"] * 4},
            {"more": 1},
            {"place": {}},
        ]
        for wrong in mistakes:
            with pytest.raises(ValueError, match="validation error"):
                model.model_validate({**good, **wrong})
        sent = model_output_schema(model).schema
        assert sent["properties"]["stars"]["description"] == "One to five"
        assert resolve_model(model.__module__, model.__qualname__) is model

    @pytest.mark.parametrize(
        ("inner", "message"),
        [
            ({"type": "text"}, "output.x: the type 'text' is none of string"),
            ({"type": "object"}, "output.x: an object needs properties"),
            ({"type": "string", "format": "date"}, "output.x: 'format' can't be a field of a model"),
            ({"type": "array"}, "output.x.items: a schema is a mapping, and this is None"),
            ({"enum": []}, "output.x: enum is empty"),
            ({"enum": [{}]}, "output.x: enum and const can have strings"),
            ({"$ref": "#/$defs/none"}, "output.x: there is no #/\\$defs/none in the schema"),
            ({"$ref": "#/$defs/loop"}, "#/\\$defs/loop: #/\\$defs/loop is within itself"),
            ("string", "output.x: a schema is a mapping"),
        ],
    )
    def test_what_no_model_can_say_is_named(self, inner: Any, message: str) -> None:
        schema = {
            "type": "object",
            "properties": {"x": inner},
            "$defs": {"loop": {"$ref": "#/$defs/loop"}},
        }
        with pytest.raises(InvalidInputError, match=message):
            output_model("reviews", schema)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"properties": {"_x": {"type": "string"}}}, "output._x: the name of a field can't begin with"),
            ({"required": ["y"]}, "output: 'y' is required and is none of the properties"),
            ({"additionalProperties": True}, "output: additionalProperties can only be false"),
        ],
    )
    def test_an_object_that_no_model_can_be_is_named(self, changes: dict[str, Any], message: str) -> None:
        schema = {"type": "object", "properties": {"x": {"type": "string"}}, **changes}
        with pytest.raises(InvalidInputError, match=message):
            output_model("reviews", schema)


def test_a_provider_is_named_as_it_is_registered() -> None:
    with pytest.raises(InvalidInputError, match=r"provider 'acme': .*openai"):
        batch(openai=None, provider="acme", source={"path": "x.csv"}).config()
    named = batch(openai=None, provider={"kind": "openai", "model": "gpt-5-mini"}, source={"path": "x.csv"})
    assert named.config().provider_kind == "openai"
