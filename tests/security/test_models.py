"""Importing a stored run's model runs code: it happens for typed reads only, of what is allowed, and unchanged."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from batchor_core.core.exceptions import ModelResolutionError
from batchor_core.core.validation import check_run_id
from batchor_core.runtime.engine import EngineSettings
from batchor_core.testing.fake_provider import FakeProvider
from tests.support.world import RUN, World, by_item, structured_job, text_job

MODULE = "planted_model"

SOURCE = """
from pathlib import Path
from pydantic import BaseModel

Path({marker!r}).touch()


class Answer(BaseModel):
    label: {kind}
"""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path, kind="sqlite", provider=FakeProvider(answer=by_item({}, '{"label": "x"}')))
    yield world
    world.close()


@pytest.fixture
def marker(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A finished run whose model's module makes a file when it is imported, and is not imported now."""
    marker = world.folder / "imported"
    plant(world.folder, marker, kind="str")
    monkeypatch.syspath_prepend(str(world.folder))
    module = __import__(MODULE)
    world.runner().run_and_wait(structured_job(2, structured_output=module.Answer), run_id=RUN)
    del sys.modules[MODULE]
    marker.unlink()
    yield marker
    sys.modules.pop(MODULE, None)


def plant(folder: Path, marker: Path, *, kind: str) -> None:
    (folder / f"{MODULE}.py").write_text(SOURCE.format(marker=str(marker), kind=kind))


def test_reading_what_is_not_typed_imports_nothing(world: World, marker: Path) -> None:
    runner = world.runner()
    run = runner.get_run(RUN)
    run.refresh()
    run.summary()
    runner.list_runs()
    list(run.iter_record_pages())
    run.export_terminal_results(world.folder / "out.jsonl")
    run.export_artifacts(world.folder / "bundle")
    run.prune_artifacts()
    repr(run)
    assert not marker.exists()
    assert MODULE not in sys.modules


def test_typed_results_import_it(world: World, marker: Path) -> None:
    assert [result.output.label for result in world.runner().get_run(RUN).results()] == ["x", "x"]  # type: ignore[union-attr]
    assert marker.exists()


@pytest.mark.parametrize("allowed", [(), ("other",), (MODULE + "s",), ("planted",), (f"{MODULE}.deeper",)])
def test_what_is_not_allowed_is_not_imported(world: World, marker: Path, allowed: tuple[str, ...]) -> None:
    run = world.runner(settings=EngineSettings(model_modules=allowed)).get_run(RUN)
    with pytest.raises(ModelResolutionError, match="model_modules"):
        run.results()
    assert not marker.exists()


def test_what_is_allowed_is_imported(world: World, marker: Path) -> None:
    run = world.runner(settings=EngineSettings(model_modules=(MODULE,))).get_run(RUN)
    assert len(run.results()) == 2
    assert marker.exists()


def test_a_model_with_another_schema_is_refused(world: World, marker: Path) -> None:
    plant(world.folder, marker, kind="int | None")
    with pytest.raises(ModelResolutionError, match="another schema"):
        world.runner().get_run(RUN).results()


@pytest.mark.parametrize(
    ("module", "qualname"),
    [
        ("os", "system"),
        ("subprocess", "Popen"),
        ("builtins", "eval"),
        ("pydantic", "BaseModel"),
        ("..planted_model", "Answer"),
        (".planted_model", "Answer"),
        ("planted_model", "f.<locals>.Answer"),
        ("planted_model", "Answer.__init__.__globals__"),
        ("planted model", "Answer"),
        ("planted_model;import os", "Answer"),
        ("__main__", "Answer"),
        ("", "Answer"),
        ("planted_model", ""),
    ],
)
def test_a_row_in_the_database_names_models_only(
    world: World, marker: Path, module: str, qualname: str
) -> None:
    import orjson

    with world.store.engine.begin() as connection:  # type: ignore[attr-defined]
        stored = orjson.loads(connection.exec_driver_sql("SELECT config FROM runs").scalar())
        stored |= {"structured_output_module": module, "structured_output_qualname": qualname}
        connection.exec_driver_sql("UPDATE runs SET config = ?", (orjson.dumps(stored).decode(),))
    with pytest.raises(ModelResolutionError):
        world.runner().get_run(RUN).results()


# --- names -----------------------------------------------------------------------------------------------------------

HOSTILE_RUN_IDS: list[Any] = [
    *(
        "",
        ".",
        "..",
        "../x",
        "/etc/passwd",
        "a/b",
        "a\\b",
        "C:x",
        "a:b",
        ".hidden",
        "-rf",
        "--db",
        "x.",
        " ",
        "a b",
    ),
    *(
        "a\nb",
        "a\rb",
        "a\x00b",
        "\x1b[31m",
        "a\x7f",
        "é",
        "\ud800",
        "a" * 201,
        "a;b",
        "a'b",
        'a"b',
        "a`b",
        "$x",
        "a|b",
    ),
    *(
        "a*b",
        "a?b",
        "<x>",
        "a&b",
        "a%00",
        "~",
        "~/x",
        "@x",
        "=1+1",
        "+x",
        "a,b",
        "{x}",
        "[x]",
        "a\u202eb",
        "\u2028",
    ),
    *(None, 3, b"a", ["a"], True),
]


@pytest.mark.parametrize("run_id", HOSTILE_RUN_IDS, ids=ascii)
def test_a_run_id_that_could_be_more_than_a_name_is_refused(world: World, run_id: Any) -> None:
    from batchor_core.core.exceptions import InvalidInputError

    with pytest.raises(InvalidInputError):
        check_run_id(run_id)
    if run_id is not None:
        with pytest.raises(InvalidInputError):
            world.runner().start(text_job(1), run_id=run_id)
    assert world.store.list_runs() == []
