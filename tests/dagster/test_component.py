"""A YAML file becomes batch assets, and the dg commands that people type make and check it."""

import gzip
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import dagster as dg
import polars as pl
import pytest
import yaml
from pydantic import BaseModel, ValidationError
from upath import UPath

from batchor_core.core.exceptions import InvalidInputError
from batchor_core.providers.openai.strict_schema import model_output_schema
from batchor_core.tables import sink_of
from batchor_core.testing.openai_server import OpenAIServer
from batchor_dagster import BatchComponent, BatchorResource
from batchor_dagster.components.batch import Batch, Partitions, filled
from batchor_dagster.components.output_schema import output_model

ROOT = Path(__file__).parents[2]


class Review(BaseModel):
    stars: int


class TestSchema:
    def test_every_type_is_a_field_that_openai_takes(self) -> None:
        model = output_model(
            "reviews",
            {
                "mood": ["good", "bad"],
                "summary": "string",
                "stars": "integer?",
                "share": "number",
                "spam": "boolean",
                "topics": "list[string]",
                "grid": "list[list[integer]]?",
                "place": {"city": "string", "kind": ["shop", "web"]},
            },
        )
        fields: dict[str, Any] = {name: field.annotation for name, field in model.model_fields.items()}
        assert fields["mood"] == Literal["good", "bad"]
        assert (fields["summary"], fields["stars"], fields["share"], fields["spam"]) == (
            str,
            int | None,
            float,
            bool,
        )
        assert (fields["topics"], fields["grid"]) == (list[str], list[list[int]] | None)
        assert fields["place"].model_fields["kind"].annotation == Literal["shop", "web"]
        schema = model_output_schema(model)
        assert schema.schema["additionalProperties"] is False
        assert set(schema.schema["required"]) == set(fields)

    def test_a_model_is_imported_by_its_path(self) -> None:
        assert output_model("x", f"{Review.__module__}.Review") is Review

    @pytest.mark.parametrize(
        ("schema", "message"),
        [
            ({}, "x has no fields"),
            ({"a": "text"}, "'a' has the type 'text'; use string, integer, number, boolean"),
            ({"a": "list[text]"}, "'a' has the type 'text'"),
            ({"a": 5}, "'a' has the type 5"),
            ({"a": []}, "allowed values of 'a'"),
            ({"a": [1.5]}, "allowed values of 'a'"),
            ({"a": {}}, "x_a has no fields"),
            ("Review", "can't be imported"),
            ("no.such.Model", "can't be imported"),
            ("os.path.join", "is not a Pydantic model"),
        ],
    )
    def test_what_is_no_schema_is_named(self, schema: Any, message: str) -> None:
        with pytest.raises(InvalidInputError, match=message.replace("[", r"\[").replace("]", r"\]")):
            output_model("x", schema)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("Say {text}", "Say hi {there}"),
        ("{ text } and {n}", "hi {there} and 5"),
        ("{nothing}.", "."),
        ('{"json": true}', None),
        ("{text.__class__}", None),
        ("no placeholder", "no placeholder"),
        ("{}", "{}"),
    ],
)
def test_a_prompt_is_filled_with_columns_and_nothing_else(template: str, text: str | None) -> None:
    row = {"text": "hi {there}", "n": 5, "nothing": None}
    if text is None:
        with pytest.raises(InvalidInputError, match="the columns are 'text', 'n', 'nothing'"):
            filled(template, row)
    else:
        assert filled(template, row) == text


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({"type": "hourly", "start_date": "2026-01-01-00:00"}, dg.HourlyPartitionsDefinition),
        (
            {"type": "daily", "start_date": "2026-01-01", "timezone": "Europe/Berlin"},
            dg.DailyPartitionsDefinition,
        ),
        ({"type": "weekly", "start_date": "2026-01-01"}, dg.WeeklyPartitionsDefinition),
        ({"type": "monthly", "start_date": "2026-01-01"}, dg.MonthlyPartitionsDefinition),
        ({"type": "static", "keys": ["a", "b"]}, dg.StaticPartitionsDefinition),
        ({"type": "dynamic", "name": "topics"}, dg.DynamicPartitionsDefinition),
        ({"type": "daily"}, "daily partitions need start_date"),
        ({"type": "daily", "start_date": "yesterday"}, "partitions: time data 'yesterday' does not match"),
        (
            {"type": "daily", "start_date": "2026-01-01", "timezone": "Nope/Zone"},
            "partitions: .*Nope/Zone",
        ),
        ({"type": "static"}, "static partitions need keys"),
        ({"type": "dynamic"}, "dynamic partitions need name"),
    ],
)
def test_partitions_are_those_of_dagster(settings: dict[str, Any], kind: Any) -> None:
    if isinstance(kind, str):
        with pytest.raises(InvalidInputError, match=kind):
            Partitions(**settings).definition()
    else:
        assert isinstance(Partitions(**settings).definition(), kind)


def batch(**changes: Any) -> Batch:
    settings: dict[str, Any] = {
        "name": "shop/reviews",
        "openai": {"model": "gpt-4.1-mini", "max_output_tokens": 500},
        "prompt": "Judge {text}",
        "system_prompt": "In the tone of {id}",
        "source": {"path": "{partition}.csv", "id_column": "id"},
        "output": {"mood": ["good", "bad"]},
        "partitions": {"type": "static", "keys": ["de", "fr"]},
        "wait": True,
    }
    return Batch(**{**settings, **changes})


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_batch_runs_on_the_file_of_its_partition(
    suffix: str,
    tmp_path: Path,
    resource: BatchorResource,
    instance: dg.DagsterInstance,
    openai_server: OpenAIServer,
) -> None:
    frame = pl.DataFrame({"id": [1, 2], "text": ["fine", "broken"]})
    write: dict[str, Callable[[Path], Any]] = {
        "csv": frame.write_csv,
        "jsonl": frame.write_ndjson,
        "parquet": frame.write_parquet,
    }
    write[suffix](tmp_path / f"de.{suffix}")
    asset = batch(source={"path": f"{{partition}}.{suffix}"}).asset(tmp_path)
    assert asset.key == dg.AssetKey(["shop", "reviews"])
    seen: list[Any] = []
    answer = openai_server.responder

    def respond(body: dict[str, Any], endpoint: str, custom_id: str) -> Any:
        seen.append((body["instructions"], body["input"], body["max_output_tokens"]))
        return answer(body, endpoint, custom_id)

    openai_server.responder = respond
    result = dg.materialize(
        [*asset.assets, *asset.checks], partition_key="de", instance=instance, resources={"batchor": resource}
    )
    assert result.success
    assert sorted(seen) == [
        ("In the tone of 1", "Judge fine", 500),
        ("In the tone of 2", "Judge broken", 500),
    ]
    rows = pl.read_parquet(asset.result_path(resource, "de"))
    assert sorted(rows["item_id"]) == ["1", "2"]
    assert set(rows["mood"]) <= {"good", "bad"}


@pytest.mark.parametrize("sink", [None, "parquet", "delta", {"kind": "delta", "url": "/lake"}])
def test_the_sink_is_a_line_of_the_yaml(sink: Any, tmp_path: Path, resource: BatchorResource) -> None:
    asset = batch(sink=sink).asset(tmp_path)
    assert asset.sink == sink_of(sink)
    assert asset.specs[0].kinds == {"openai", sink_of(sink).kind}


def test_a_sink_that_there_is_not_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="delta has no setting 'path'; it has url, partition_column"):
        batch(sink={"kind": "delta", "path": "/lake"}).asset(tmp_path)


@pytest.mark.parametrize("path", ["{partition}/*.csv.gz", "memory://component/{partition}/*.csv.gz"])
def test_a_source_may_be_a_pattern_of_compressed_files_and_a_url(path: str, tmp_path: Path) -> None:
    folder = UPath(path.partition("{")[0]) if "://" in path else tmp_path
    for name in ("a", "b"):
        (folder / "birds").mkdir(exist_ok=True, parents=True)
        (folder / "birds" / f"{name}.csv.gz").write_bytes(gzip.compress(f"id,text\n{name},x\n".encode()))
    job = batch(source={"path": path}).job(tmp_path, "birds")
    assert [item.item_id for item in job.items] == ["a", "b"]


def test_a_source_of_another_kind_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"rows.xlsx is none of .csv, .jsonl, .ndjson, .parquet"):
        batch(source={"path": "rows.xlsx"}).job(tmp_path, None)


# --- the commands ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_project(tmp_path_factory.mktemp("dg"))


def new_project(folder: Path) -> Path:
    """A project as create-dagster lays it out."""
    root = folder / "shop"
    package = root / "src" / "shop"
    (package / "defs").mkdir(parents=True)
    (root / "pyproject.toml").write_text(
        '[project]\nname = "shop"\nversion = "0.1.0"\nrequires-python = ">=3.11"\n\n'
        '[tool.dg]\ndirectory_type = "project"\n\n[tool.dg.project]\nroot_module = "shop"\n'
    )
    (package / "__init__.py").touch()
    (package / "defs" / "__init__.py").touch()
    (package / "definitions.py").write_text(
        "from pathlib import Path\n\nimport dagster as dg\n\n\n@dg.definitions\ndef defs():\n"
        "    return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)\n"
    )
    return root


@pytest.fixture
def serve() -> Iterator[str]:
    """The URL of ``batchor serve``."""
    command = [str(Path(sys.executable).with_name("batchor")), "serve", "--port", "0", "--batch-seconds", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = next(line for line in process.stdout if line.startswith("listening on "))
        yield said.removeprefix("listening on ").strip()
        process.terminate()


@dataclass(frozen=True)
class Said:
    """What a command came to."""

    code: int
    text: str


class Shell:
    """The process in which this file's commands run, see ``dg_shell``."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def run(self, project: Path, *arguments: str) -> Said:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps([str(project), *arguments]), file=self._process.stdin, flush=True)
        code, text = json.loads(self._process.stdout.readline())
        return Said(code, text)

    def definitions_of(self, project: Path) -> dict[str, list[str]]:
        """What a code location of the project has, as the daemon would load it."""
        said = self.run(project, "definitions")
        assert said.code == 0, said.text
        return json.loads(said.text.splitlines()[-1])  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def dg_shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    home = tmp_path_factory.mktemp("home")
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", str(Path(__file__).with_name("dg_shell.py"))],
        cwd=home,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "HOME": str(home),
            "PYTHONPATH": str(ROOT),
            "DAGSTER_DISABLE_TELEMETRY": "1",
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        yield Shell(process)
        process.kill()


@pytest.mark.acceptance
def test_the_scaffolded_component_passes_the_check_of_definitions(project: Path, dg_shell: Shell) -> None:
    run, definitions_of = dg_shell.run, dg_shell.definitions_of
    made = run(
        project, "scaffold", "defs", "batchor_dagster.BatchComponent", "reviews", "--model", "gpt-5-nano"
    )
    assert made.code == 0, made.text
    folder = project / "src" / "shop" / "defs" / "reviews"
    assert (folder / "rows.csv").read_text().startswith("id,text\n")
    written = yaml.safe_load((folder / "defs.yaml").read_text())
    assert written["type"] == "batchor_dagster.BatchComponent"
    [scaffolded] = written["attributes"]["batches"]
    assert (scaffolded["name"], scaffolded["openai"]["model"]) == ("reviews", "gpt-5-nano")

    by_day = run(
        project,
        *("scaffold", "defs", "batchor_dagster.BatchComponent", "daily", "--daily-from", "2026-11-01"),
        *("--source", "{partition}.csv"),
    )
    assert by_day.code == 0, by_day.text
    second = project / "src" / "shop" / "defs" / "daily" / "defs.yaml"
    content = yaml.safe_load(second.read_text())
    assert content["attributes"]["batches"][0]["partitions"] == {"type": "daily", "start_date": "2026-11-01"}

    third = run(project, "scaffold", "defs", "batchor_dagster.BatchComponent", "others")
    assert third.code == 0, third.text
    checked = run(project, "check", "defs")
    assert checked.code == 0, checked.text
    assert "All definitions loaded successfully." in checked.text
    listed = definitions_of(project)
    assert listed["resources"] == ["batchor"]
    assert listed["sensors"] == ["batchor_components_sensor"]
    assert [job for job in listed["jobs"] if "control" in job] == ["batchor_control"]
    assert len(listed["jobs"]) == 4

    # one that keeps its runs elsewhere has everything of its own
    elsewhere = project / "src" / "shop" / "defs" / "others" / "defs.yaml"
    assert (
        yaml.safe_load(elsewhere.read_text())["attributes"]["resource"] == written["attributes"]["resource"]
    )
    elsewhere.write_text(elsewhere.read_text().replace("root: .batchor", "root: .elsewhere"))
    apart = definitions_of(project)
    assert apart["resources"] == ["batchor", "batchor_others"]
    assert apart["sensors"] == ["batchor_components_sensor", "batchor_components_sensor_batchor_others"]
    assert [job for job in apart["jobs"] if "control" in job] == [
        "batchor_control",
        "batchor_control_batchor_others",
    ]

    misspelt = elsewhere.read_text()
    elsewhere.write_text(misspelt.replace("        model:", "        temprature: 0\n        model:"))
    refused = run(
        project, "check", "defs"
    )  # dg holds one file of each component type against its schema, the rest load
    assert refused.code != 0
    said = refused.text
    assert "unknown key 'batches[0].openai.temprature'; did you mean 'temperature'?" in said
    assert "not valid under any" not in said
    elsewhere.write_text(misspelt.replace("http://127.0.0.1:8099/v1", "https://example.com/v1"))
    assert run(project, "check", "defs").code == 0
    elsewhere.write_text(elsewhere.read_text().replace(".elsewhere", "./.batchor"))
    torn = run(project, "check", "defs")
    assert torn.code != 0
    assert "use the same database" in torn.text
    assert "base_url: 'http://127.0.0.1:8099/v1' and 'https://example.com/v1'" in torn.text


@pytest.mark.acceptance
def test_a_scaffolded_project_runs_against_the_local_server(
    dg_shell: Shell, tmp_path: Path, serve: str
) -> None:
    """With nothing changed in the YAML but the port."""
    root = new_project(tmp_path)
    made = dg_shell.run(root, "scaffold", "defs", "batchor_dagster.BatchComponent", "reviews")
    assert made.code == 0, made.text
    written = root / "src" / "shop" / "defs" / "reviews" / "defs.yaml"
    assert "base_url: http://127.0.0.1:8099/v1\n" in written.read_text()
    written.write_text(written.read_text().replace("http://127.0.0.1:8099/v1", serve))
    checked = dg_shell.run(root, "check", "defs")
    assert checked.code == 0, checked.text
    landed = dg_shell.run(root, "land", "reviews")
    assert landed.code == 0, landed.text
    table = pl.read_parquet(root / ".batchor" / "results" / "reviews.parquet")
    assert sorted(table["item_id"]) == ["1", "2", "3"]
    assert set(table["status"]) == {"completed"}
    assert set(table["sentiment"]) <= {"positive", "negative", "mixed"}


_PYTHON = """import dagster as dg
from batchor_core import BatchItem, BatchJob, OpenAIProviderConfig
from batchor_dagster import BatchorResource, batch_asset, build_batch_definitions

@batch_asset()
def facts():
    return BatchJob(
        items=[BatchItem("a", "a")], build_prompt=lambda item: "x", provider_config=OpenAIProviderConfig(model="m")
    )

resources = {"batchor": BatchorResource(root=".x")}
"""


@pytest.mark.acceptance
@pytest.mark.parametrize(
    ("made", "described", "sensors", "controls"),
    [
        (
            "dg.Definitions(resources=resources)",
            {},
            ["batchor_components_sensor"],
            ["batchor_components_control"],
        ),
        (
            "build_batch_definitions(assets=[facts], resources=resources)",
            {},
            ["batchor_components_sensor", "batchor_sensor"],
            ["batchor_components_control", "batchor_control"],
        ),
        (
            "build_batch_definitions(assets=[facts], resources=resources)",
            {
                "resource": {"root": ".y"},
                "resource_key": "mine",
                "translation": {"key_prefix": "judged", "tags": {"part": "{{ data.part }}"}},
            },
            ["batchor_components_sensor_mine", "batchor_sensor"],
            ["batchor_control", "batchor_control_mine"],
        ),
    ],
)
def test_a_component_uses_the_resource_of_python_definitions_or_another_key(
    project: Path,
    dg_shell: Shell,
    tmp_path: Path,
    made: str,
    described: dict[str, Any],
    sensors: list[str],
    controls: list[str],
) -> None:
    mine = tmp_path / "shop"
    shutil.copytree(project, mine, ignore=lambda *_: ["defs"])
    defs = mine / "src" / "shop" / "defs"
    (defs / "reviews").mkdir(parents=True)
    (defs / "__init__.py").touch()
    (defs / "python.py").write_text(f"{_PYTHON}\ndefs = {made}\n")
    batches = [{"name": "a", "openai": {"model": "m"}, "prompt": "{text}", "source": {"path": "rows.csv"}}]
    (defs / "reviews" / "defs.yaml").write_text(
        yaml.safe_dump(
            {"type": "batchor_dagster.BatchComponent", "attributes": {"batches": batches, **described}}
        )
    )
    checked = dg_shell.run(mine, "check", "defs")
    assert checked.code == 0, checked.text
    listed = dg_shell.definitions_of(mine)
    assert listed["sensors"] == sensors
    assert listed["resources"] == (["batchor", "mine"] if described else ["batchor"])
    assert [job for job in listed["jobs"] if "control" in job] == controls
    results = "batchor_results__judged__a" if "translation" in described else "batchor_results__a"
    assert results in listed["jobs"]


def test_the_links_of_a_component_open_its_own_control_job(
    tmp_path: Path, resource: BatchorResource, instance: dg.DagsterInstance
) -> None:
    class Context:
        path = tmp_path

    pl.DataFrame({"id": [1], "text": ["fine"]}).write_csv(tmp_path / "de.csv")
    component = BatchComponent(batches=[batch(wait=False)])
    made = dg.Definitions.merge(
        component.build_defs(Context()),  # type: ignore[arg-type]
        dg.Definitions(resources={"batchor": resource}),
    )
    submission = dg.AssetKey(["shop", "reviews_submission"])
    submitting = made.resolve_implicit_global_asset_job_def()
    done = submitting.execute_in_process(instance=instance, partition_key="de", asset_selection=[submission])
    [event] = done.asset_materializations_for_node("shop__reviews_submission")
    controls = str(event.metadata["batchor/controls"].value)
    assert "/batchor_components_control/playground/setup?" in controls
    config = {"run_id": "shop/reviews", "action": "pause"}
    job = made.resolve_job_def("batchor_components_control")
    assert dg.validate_run_config(job, {"ops": {"apply_batchor_control": {"config": config}}})


OF_DAGSTER = pytest.mark.filterwarnings("ignore:.parse_obj_as. is deprecated")


@OF_DAGSTER
def test_a_misspelt_key_is_named_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="id_colum"):
        BatchComponent.resolve_from_yaml(
            """
            batches:
              - name: reviews
                openai: {model: gpt-5-nano}
                prompt: "{text}"
                source: {path: rows.csv, id_colum: id}
            """
        )


@OF_DAGSTER
def test_yaml_is_resolved_as_dagster_does(tmp_path: Path) -> None:
    component = BatchComponent.resolve_from_yaml(
        """
        batches:
          - name: reviews
            openai: {model: gpt-5-nano, reasoning_effort: low}
            prompt: "{text}"
            source: {path: rows.csv}
            partitions: {type: static, keys: [de]}
            sink: {kind: delta, url: /lake}
            automation_condition: "{{ dg.AutomationCondition.eager() }}"
        """
    )
    [made] = component.batches
    assert (made.openai.config().model, made.openai.config().reasoning_effort) == ("gpt-5-nano", "low")
    submission, _ = made.asset(tmp_path).specs
    assert submission.automation_condition is not None
    assert made.asset(tmp_path).sink == sink_of({"kind": "delta", "url": "/lake"})


def test_a_component_brings_a_sensor_and_the_control_job(tmp_path: Path) -> None:
    class Context:
        path = tmp_path

    def definitions(**settings: Any) -> dg.Definitions:
        return BatchComponent(batches=[batch(wait=False)], **settings).build_defs(Context())  # type: ignore[arg-type]

    alone = definitions(resource={"root": str(tmp_path)})
    assert alone.resolve_job_def("batchor_control").name == "batchor_control"
    assert alone.resolve_sensor_def("shop__reviews_sensor").minimum_interval_seconds == 30
    keys = alone.resolve_all_asset_keys()
    assert set(keys) == {dg.AssetKey(["shop", "reviews"]), dg.AssetKey(["shop", "reviews_submission"])}
    merged = dg.Definitions.merge(alone, definitions_of_another(tmp_path))
    assert dg.Definitions.validate_loadable(merged) is None


def definitions_of_another(folder: Path) -> dg.Definitions:
    class Context:
        path = folder

    return BatchComponent(batches=[batch(name="other")]).build_defs(Context())  # type: ignore[arg-type]
