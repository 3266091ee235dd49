"""What the how-tos, README.md and the site's front page show is typed, as it stands, in an empty folder with an empty home."""

from __future__ import annotations

import logging
import tomllib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from pydantic import BaseModel
from starlette.testclient import TestClient

from batchor_core import BatchItem, BatchJob, BatchRunner, OpenAIProviderConfig, VectorOutput
from batchor_core.tables import registry as sinks
from batchor_core.testing import (
    AnthropicServer,
    FakeProvider,
    FakeProviderConfig,
    GeminiServer,
    LocalServer,
    register_fake_provider,
)
from batchor_core.testing.fake_rows import vector_row
from batchor_core.testing.openai_server import OpenAIServer
from batchor_dagster import BatchComponent, BatchorResource, build_results_io_manager
from batchor_dagster.testing import materialize_batch
from tests.postgres_server import postgres_dsn, postgres_schema
from tests.support.reader import ROOT, Reader, blocks
from tests.support.waiting import until

ELSEWHERE = {
    "docs/tutorial.md": "tests/acceptance/test_tutorial.py",
    "docs/tutorial-dagster.md": "tests/acceptance/test_tutorial_dagster.py",
    "docs/gallery.md": "tests/acceptance/test_gallery.py",
    "docs/how-to/pay-only-for-what-changed.md": "tests/unit/cli/test_reuse_page.py",
    "docs/explanation/performance.md": "benchmarks/__main__.py",
}
"""Pages that are typed by other tests, or show how a measurement is made."""

UNTYPED = {
    ("README.md", "make demo"): "test_demo types it",
    ("README.md", "make test"): "runs all tests",
    (
        "docs/how-to/control-a-run.md",
        "run.keep_waiting(",
    ): "three choices for a late batch: test_late_results",
    ("docs/how-to/run-in-dagster.md", "dg scaffold"): "test_component types it, in a dg project",
    ("docs/how-to/run-in-dagster.md", "dg check defs"): "test_component types it, in a dg project",
    ("docs/how-to/trace-with-opentelemetry.md", "opentelemetry-instrument"): "needs a collector",
    (
        "docs/how-to/use-postgres.md",
        "PostgresStorage(dsn=",
    ): "a server elsewhere; the page's other way is typed",
    ("docs/how-to/use-the-command-line.md", "--install-completion"): "writes into the files of a real shell",
    ("docs/how-to/use-the-command-line.md", "adopt batch_68a1"): "needs a batch in doubt: test_cli",
    ("docs/how-to/use-the-command-line.md", "resubmit           # it"): "needs a batch in doubt: test_cli",
    ("docs/how-to/use-the-command-line.md", "fail               # give"): "needs a batch in doubt: test_cli",
    ("docs/how-to/use-the-command-line.md", "wait               # keep"): "needs a late batch: test_cli",
    ("docs/how-to/use-the-command-line.md", "resubmit           # send"): "needs a late batch: test_cli",
    ("docs/how-to/use-the-command-line.md", "fail               # end"): "needs a late batch: test_cli",
    ("docs/how-to/write-results-to-s3.md", "read_parquet('s3:"): "needs a bucket: tests/dagster/test_s3.py",
}
"""What can't be typed here: a part of the block or command, and why."""

pytestmark = pytest.mark.acceptance
Page = Callable[[Reader], None]
PAGES: dict[str, Page] = {}


def page(name: str) -> Callable[[Page], Page]:
    def add(function: Page) -> Page:
        PAGES[name] = function
        return function

    return add


REVIEWS = "id,text\nr1,It pours well.\nr2,It leaks.\n"


@page("README.md")
def readme(reader: Reader) -> None:
    reader.save("reviews.csv", REVIEWS)
    reader.save("prompt.md", "Judge this: {{ text }}")
    model = (ROOT / "tests/snippets/modules/my_project/models.py").read_text(encoding="utf-8")
    reader.save("models.py", model)
    reader.save("my_project/models.py", model)
    reader.save("data/2026-11-01.csv", REVIEWS)
    reader.read()
    assert pq.read_table("reviews.parquet").column("item_id").to_pylist() == ["r1", "r2"]
    assert sorted(line[:12] for line in reader.printed.splitlines()) == ["r1 sentiment", "r2 sentiment"]
    assert materialize_batch(reader.names["reviews"], "2026-11-01").success


@page("docs/index.md")
def front_page(reader: Reader) -> None:
    reader.save("reviews.csv", REVIEWS)
    reader.read()
    assert {"item_id", "sentiment", "summary"} <= set(pq.read_table("reviews.parquet").column_names)


@page("docs/reference/events.md")
def events(reader: Reader) -> None:
    reader.read()


@page("docs/how-to/use-other-hosts.md")
def other_hosts(reader: Reader) -> None:
    reader.read()
    assert reader.names["config"].profile == "azure"
    assert reader.names["local"].command[0] == "vllm"


@page("docs/how-to/use-anthropic.md")
def anthropic(reader: Reader) -> None:
    with AnthropicServer(batch_seconds=0) as server:
        read_page_of(reader, "anthropic", server)


@page("docs/how-to/use-gemini.md")
def gemini(reader: Reader) -> None:
    with GeminiServer(batch_seconds=0) as server:
        read_page_of(reader, "gemini", server)


def read_page_of(reader: Reader, provider: str, server: LocalServer) -> None:
    reader.save("rows.csv", REVIEWS)
    variable = f"{provider.upper()}_BASE_URL"
    reader.here[variable] = server.base_url
    reader.patch.setenv(variable, server.base_url)
    [component] = reader.code("yaml")
    reader.read()
    attributes = yaml.safe_dump(yaml.safe_load(component)["attributes"])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".parse_obj_as. is deprecated")  # Dagster's own doing
        [batch] = BatchComponent.resolve_from_yaml(attributes).batches
    assert batch.config().provider_kind == provider
    assert server.books.rows_executed == 4
    assert reader.printed.startswith("r1 sentiment=")
    assert pq.read_table("reviews.parquet").num_rows == 2
    assert reader.server.books.rows_executed == 0


@page("docs/how-to/ask-in-conversations.md")
def conversations(reader: Reader) -> None:
    reader.read()
    picture = reader.folder / "a.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n")
    reader.ran("pictures", items=[BatchItem("a", picture)], build_prompt=reader.names["describe"])
    assert reader.server.books.rows_executed == 1


@page("docs/how-to/cap-spending.md")
def caps(reader: Reader) -> None:
    reader.patch.setenv("OPENAI_BASE_URL", "")  # at a server without prices, caps in dollars are refused
    reader.read()
    assert reader.names["BatchorResource"]
    with BatchRunner() as runner:
        assert {str(cap) for cap in runner.list_caps()} >= {
            "$200.00 for store a day",
            "$20.00 for run:praise",
        }


@page("docs/how-to/choose-the-output.md")
def outputs(reader: Reader) -> None:
    fake = FakeProvider(answer=lambda line: vector_row([0.5, -1.0, 2.0]))
    with BatchRunner(provider_registry=register_fake_provider(provider=fake)) as runner:
        job = BatchJob(
            items=[BatchItem("a", "tea")],
            build_prompt=lambda item: item.payload,
            provider_config=FakeProviderConfig(),
            output=VectorOutput(3),
        )
        runner.run_and_wait(job, run_id="vectors").export_terminal_results("results.jsonl")
    reader.read()
    assert reader.printed.endswith("3 0.5\n")
    assert [list(vector) for vector in reader.names["vectors"]] == [[0.5, -1.0, 2.0]]


@page("docs/how-to/control-a-run.md")
def controls(reader: Reader) -> None:
    reader.ran("glosses-2026-11", path="runs.sqlite3", finished=False)
    [config] = reader.code("yaml")
    assert set(yaml.safe_load(config)["ops"]) == {"apply_batchor_control"}
    reader.read()
    assert reader.printed.startswith("cancel_requested")


@page("docs/how-to/custom-provider.md")
def custom_provider(reader: Reader) -> None:
    [config] = reader.code("toml")
    reader.read()
    [(kind, place)] = tomllib.loads(config)["project"]["entry-points"]["batchor.providers"].items()
    assert reader.names["registry"].load_config(
        {"provider_kind": kind, "config": {"model": "m"}}
    ) == reader.names["AcmeConfig"]("m")
    assert place.partition(":")[2] in reader.names


@page("docs/how-to/custom-store.md")
def custom_store(reader: Reader) -> None:
    reader.read()
    job = BatchJob(
        items=[BatchItem("a", "tea")],
        build_prompt=lambda item: item.payload,
        provider_config=OpenAIProviderConfig(model="gpt-5-mini"),
    )
    with reader.names["runner"] as runner:
        assert runner.run_and_wait(job, run_id="traced").summary().completed_items == 1


@page("docs/how-to/deploy-with-postgres.md")
def deployment(reader: Reader) -> None:
    reader.read()
    assert reader.names["drive_job"].tags


@page("docs/how-to/embed-texts.md")
def embeddings(reader: Reader) -> None:
    [texts] = [block.code for block in reader.blocks if block.language == "text"]
    reader.save("texts.csv", texts)
    reader.save("data/2026-11-01.csv", texts)
    [query] = reader.code("sql")
    reader.read()
    wanted = reader.programs[0]["vectors"]
    assert pq.read_table("vectors.parquet")["vector"].to_pylist() == wanted.tolist()
    with duckdb.connect() as database:
        found = database.execute(query, {"question": wanted[1].tolist()}).fetchall()
    assert [name for name, _ in found] == ["d2", "d1"]
    done = materialize_batch(reader.names["vectors"], "2026-11-01")
    assert done.success
    assert done.table.schema.field("vector").type.list_size == 256


@page("docs/how-to/export-and-prune-artifacts.md")
def exporting(reader: Reader) -> None:
    reader.ran("glosses-2026-11", path="runs.sqlite3")
    reader.read()
    assert sorted(reader.printed.split()[::2][:2]) == ["a", "b"]
    assert (reader.folder / "exports/glosses-2026-11/manifest.json").is_file()


@page("docs/how-to/get-frames-and-tables.md")
def frames(reader: Reader) -> None:
    reader.ran("reviews-2026-11")
    reader.patch.setattr(sinks, "_KINDS", dict(sinks._KINDS))
    reader.read(job_of=job_of)
    assert reader.printed.startswith("2 0 ")
    resources = {"batchor": BatchorResource(root="data"), "results": build_results_io_manager()}
    assert materialize_batch(reader.names["reviews"], "2026-11-01", resources=resources).success
    assert (reader.folder / "data/results/reviews.delta").is_dir()
    assert sinks.sink_of("archive") == reader.names["ArchiveSink"]()


class Mood(BaseModel):
    sentiment: str


def job_of(day: str) -> BatchJob[Any, Any]:
    return BatchJob(
        items=[BatchItem(day, day)],
        build_prompt=lambda item: item.payload,
        provider_config=OpenAIProviderConfig(model="gpt-5-mini"),
    )


@page("docs/how-to/know-what-it-costs.md")
def costs(reader: Reader) -> None:
    [prices] = reader.code("toml")
    reader.save("prices.toml", prices)
    reader.ran("reviews-2026-11")
    reader.read()
    assert "no batch price" in reader.printed


@page("docs/how-to/plan-a-run.md")
def planning(reader: Reader) -> None:
    [rows] = reader.code("csv")
    reader.save("rows.csv", rows)
    [config] = reader.code("yaml")
    [step] = yaml.safe_load(config)["ops"]["reviews__batch"]["ops"].values()
    assert step == {"config": {"plan": True}}
    reader.patch.setenv("OPENAI_BASE_URL", "")  # whose prices are known
    reader.patch.delenv("OPENAI_API_KEY")
    reader.read()
    assert reader.printed.startswith("2 1 400\n")


@page("docs/how-to/read-frames-and-queries.md")
def reading_frames(reader: Reader) -> None:
    table = pa.table({"id": [1, 2], "text": ["Fine", "Bad"], "stars": [5, 1]})
    (reader.folder / "reviews").mkdir()
    pq.write_table(table, "reviews/a.parquet")
    reader.read()
    reader.ran("reviews", items=reader.names["reviews"])
    reader.ran("answers", items=reader.names["answers"])
    reader.ran("sheet", items=reader.names["sheet"])
    assert reader.server.books.rows_executed == 3


@page("docs/how-to/read-rows-from-files.md")
def reading_files(reader: Reader) -> None:
    reader.save("reviews.csv", "id;shop;text\nr1;Köln;Gut\n", encoding="cp1252")
    reader.save("log.tsv", 'id\tmessage\nm1\tIt says "stop\n')
    pq.write_table(pa.table({"id": [1], "text": ["Fine"]}), "archive.parquet")
    reader.read()
    items = list(reader.names["everything"])
    assert [(item.item_id, item.payload) for item in items] == [
        ("r1", "Gut"),
        ("m1", 'It says "stop'),
        ("1", "Fine"),
    ]
    assert items[0].metadata["shop"] == "Köln"


@page("docs/how-to/read-the-log.md")
def reading_the_log(reader: Reader) -> None:
    reader.ran("reviews")
    log = logging.getLogger("batchor_core.runs")
    reader.read()
    assert log.level == logging.INFO
    log.setLevel(logging.NOTSET)
    assert reader.printed == "None\n"


@page("docs/how-to/resume-after-a-crash.md")
def resuming(reader: Reader) -> None:
    reader.save("glosses.csv", "id,gloss\na,an act\nb,a deed\n")
    reader.read()
    assert reader.names["run"].summary().completed_items == 2
    assert len(reader.server.books.batches) == 1


@page("docs/how-to/run-in-dagster.md")
def dagster(reader: Reader) -> None:
    reader.save("data/2026-11-01.csv", REVIEWS)
    assert all(yaml.safe_load(config) for config in reader.code("yaml"))
    [query] = reader.code("sql")
    reader.read(job_of=job_of)
    dg.Definitions.validate_loadable(reader.names["defs"])
    resources = {"batchor": BatchorResource(root="data")}
    assert materialize_batch(reader.names["reviews"], "2026-11-01", resources=resources).success
    assert len(duckdb.connect().execute(query).fetchall()) == 2


@page("docs/how-to/take-webhooks.md")
def webhooks(reader: Reader) -> None:
    secret = "whsec_MDEyMzQ1Njc4OQ=="
    reader.patch.setenv("OPENAI_WEBHOOK_SECRET", secret)
    reader.read(headers={}, body=b"{}", secret=secret)
    assert reader.printed.startswith("refused: ")
    client = TestClient(reader.programs[0]["app"])
    assert client.post("/webhooks/openai", content=b"{}").status_code == 401


@page("docs/how-to/test-without-a-key.md")
def offline_tests(reader: Reader) -> None:
    tutorial = list(blocks((ROOT / "docs/tutorial-dagster.md").read_text(encoding="utf-8")))
    [rows] = [block.code for block in tutorial if block.language == "csv"]
    [project] = [block.code for block in tutorial if "@batch_asset" in block.code]
    reader.save("2026-11-01.csv", rows)
    reader.save("shop.py", project)
    reader.read()
    assert reader.names["pytest_plugins"] == ["batchor_core.testing.fixtures"]
    reader.names["test_every_review_gets_an_answer"](reader.server)
    reader.names["test_a_day_lands_and_passes_its_checks"]()


@page("docs/how-to/token-budgets.md")
def budgets(reader: Reader) -> None:
    reader.read()
    reader.ran("budgeted", provider_config=reader.names["config"])


@page("docs/how-to/trace-with-opentelemetry.md")
def tracing(reader: Reader) -> None:
    reader.read()


@page("docs/how-to/use-postgres.md")
def postgres(reader: Reader) -> None:
    with postgres_schema() as schema:
        reader.here |= {"BATCHOR_POSTGRES_DSN": postgres_dsn(), "BATCHOR_POSTGRES_SCHEMA": schema}
        reader.read(BatchRunner=BatchRunner)


@page("docs/how-to/use-the-command-line.md")
def command_line(reader: Reader) -> None:
    found = {block.language: block.code for block in reversed(reader.blocks)}  # the first of each
    for name, language in (("rows.csv", "text"), ("prompt.md", "jinja"), ("models.py", "python")):
        reader.save(name, found[language])
    [defaults] = reader.code("toml")
    reader.save("batchor.toml", defaults)
    rows = [BatchItem("r1", "It pours well."), BatchItem("r2", "It leaks.")]
    reader.ran("reviews-2026-11", path="runs.sqlite3", finished=False, items=rows)
    reader.read()
    table = pq.read_table("reviews.parquet")
    assert table.column("item_id").to_pylist() == ["r1", "r2"]
    assert {"sentiment", "score"} <= set(table.column_names)


@page("docs/how-to/wait-in-async-code.md")
def waiting(reader: Reader) -> None:
    reader.read(
        jobs={day: job_of(day) for day in ("monday", "tuesday")},
        job=replace(job_of("reviews"), structured_output=Mood),
    )
    with TestClient(reader.programs[0]["app"]) as client:
        for _ in range(2):  # who asks again gets the same run
            told = client.put("/questions/first", json={"sky": "Why is it blue?", "sea": "Why is it salty?"})
            assert told.json() == "first"
        until(lambda: len(client.get("/questions/first").json()) == 2, "both answers")
        assert set(client.get("/questions/first").json()) == {"sky", "sea"}
    with TestClient(reader.programs[0]["app"]) as client:  # another life of the service
        assert len(client.get("/questions/first").json()) == 2
    assert len(reader.server.books.batches) == 4


@page("docs/how-to/write-results-to-s3.md")
def object_store(reader: Reader) -> None:
    reader.read()


@pytest.fixture
def reader(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    openai_server: OpenAIServer,
) -> Iterator[Reader]:
    untyped = tuple(part for name, part in UNTYPED if name == request.param)
    someone = Reader(request.param, tmp_path, openai_server, monkeypatch, untyped)
    yield someone
    someone.leave()


@pytest.mark.filterwarnings("ignore:.*currently in (preview|beta)", "ignore:Implicitly cleaning up")
@pytest.mark.parametrize("reader", sorted(PAGES), indirect=True)
def test_a_page_does_what_it_says(reader: Reader) -> None:
    PAGES[reader.page](reader)
    for part in reader.untyped:
        assert len([one for one in reader.left if part in one]) == 1, f"{part} is not left out"
    assert [one for one in reader.left if not any(part in one for part in reader.untyped)] == []
    assert reader.typed


def test_no_page_is_forgotten() -> None:
    programs = {"console", "python", "sh", "sql", "toml", "yaml"}
    found = {
        path.relative_to(ROOT).as_posix()
        for path in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]
        if any(block.language in programs for block in blocks(path.read_text(encoding="utf-8")))
    }
    assert found == set(PAGES) | set(ELSEWHERE)
    assert all((ROOT / test).is_file() for test in ELSEWHERE.values())
    assert {name for name, _ in UNTYPED} <= set(PAGES)
