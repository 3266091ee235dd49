"""The program of the gallery that is a Dagster project: it loads, and its days are translated."""

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from batchor_dagster import BatchorResource
from batchor_dagster.testing import materialize_batch

PAGE = Path(__file__).parents[2] / "docs" / "gallery.md"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    (program,) = re.findall(
        r"^## Translate a catalogue .*?```python\n(.*?)```",
        PAGE.read_text(encoding="utf-8"),
        flags=re.DOTALL | re.MULTILINE,
    )
    folder = tmp_path_factory.mktemp("catalogue")
    (folder / "catalogue.py").write_text(program, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield importlib.import_module("catalogue")
        del sys.modules["catalogue"]


def test_its_schedule_submits_a_day_at_four(project: Any) -> None:
    dg.Definitions.validate_loadable(project.defs)
    assert project.defs.resolve_schedule_def("translate_a_day_schedule").cron_schedule == "0 4 * * *"


def test_a_day_has_a_typed_translation_of_each_change(
    project: Any, resource: BatchorResource, instance: dg.DagsterInstance
) -> None:
    for day, count in (("2026-11-01", 2), ("2026-11-02", 4)):
        done = materialize_batch(
            project.translations,
            day,
            upstream=[project.changed_products],
            resources={"batchor": resource},
            instance=instance,
        )
        assert done.success
        assert done.table.num_rows == count
    rows = done.table.to_pylist()
    assert {row["item_id"] for row in rows} == {"k1-German", "k1-French", "t7-German", "t7-French"}
    assert all(row["name"] and row["description"] for row in rows)
