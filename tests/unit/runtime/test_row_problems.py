"""Rows that can't be stored as they are: named with item, file and row, or kept exactly."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from batchor_core import CompositeItemSource, CsvItemSource, JsonlItemSource, ParquetItemSource
from batchor_core.core.exceptions import DuplicateItemError, InvalidInputError, SourceMismatchError
from batchor_core.core.models import BatchItem, PromptParts
from tests.support.world import RUN, World, items, text_job

CALLBACKS: dict[str, Any] = {"item_id_from_row": lambda row: row["id"], "payload_from_row": lambda row: row}


def csv_source(folder: Path, text: str, name: str = "rows.csv", **options: Any) -> CsvItemSource[Any]:
    path = folder / name
    path.write_bytes(text.encode())
    return CsvItemSource(path, **{**CALLBACKS, **options})


def parquet_source(folder: Path, ids: list[str]) -> ParquetItemSource[Any]:
    path = folder / "rows.parquet"
    pd.DataFrame({"id": ids}).to_parquet(path)
    return ParquetItemSource(path, **CALLBACKS)


def duplicates(world: World, source: Any) -> DuplicateItemError:
    with pytest.raises(DuplicateItemError) as caught:
        world.start(text_job(source, build_prompt=lambda item: "hello"))
    return caught.value


def test_both_lines_of_a_repeated_id_are_named(any_world: World) -> None:
    source = csv_source(any_world.folder, 'id,text\na,"two\nlines"\n\nb,x\na,y\n')
    error = duplicates(any_world, source)
    assert f"'a' ({source.path}, line 2 and {source.path}, line 6)" in str(error)
    assert (error.item_ids, error.indexes) == (["a"], {"a": (0, 2)})
    assert not any_world.store.has_run(run_id=RUN)


def test_they_are_named_when_thousands_of_rows_are_between(any_world: World) -> None:
    rows = [f'{{"id": "{n}"}}\n' for n in range(2500)]
    rows[2400] = rows[7]
    path = any_world.folder / "rows.jsonl"
    path.write_text("\n" + "".join(rows))
    error = duplicates(any_world, JsonlItemSource(path, **CALLBACKS))
    assert f"'7' ({path}, line 9 and {path}, line 2402)" in str(error)


def test_they_are_named_through_several_files(any_world: World) -> None:
    first = csv_source(any_world.folder, "id\na\nb\n", "first.csv")
    second = parquet_source(any_world.folder, ["c", "b"])
    error = duplicates(any_world, CompositeItemSource([first, second]))
    assert f"'b' ({first.path}, line 3 and {second.path}, row 2)" in str(error)


def test_of_other_items_the_positions_are_named(any_world: World) -> None:
    given = items(1500)
    given[1400] = given[3]
    assert "'item-3' (items 3 and 1400, counted from 0)" in str(duplicates(any_world, given))
    assert "'item-3' (items 3 and 1400, counted from 0)" in str(duplicates(any_world, iter(given)))


def test_half_a_surrogate_pair_in_a_prompt_is_named_with_its_row(any_world: World) -> None:
    source = csv_source(any_world.folder, "id,text\na,fine\nb,cut 😀\n")
    job = text_job(source, build_prompt=lambda item: item.payload["text"].replace("😀", "\ud83d"))
    with pytest.raises(InvalidInputError) as caught:
        any_world.start(job)
    assert str(caught.value).startswith(
        f"item 'b' ({source.path}, row 2): its prompt holds half of a surrogate pair (\\ud83d at character 5)"
    )
    advice = str(caught.value).rpartition(": ")[2]
    fixed = text_job(source, build_prompt=lambda item: eval(advice, {"text": item.payload["text"]}))
    assert any_world.start(fixed).wait().summary().completed_items == 2


def test_half_a_surrogate_pair_in_an_id_is_named(any_world: World) -> None:
    given = [BatchItem(item_id, {"text": "x"}) for item_id in ("fine 😀", "cut \ud83d", "\ude00")]
    with pytest.raises(InvalidInputError) as caught:
        any_world.start(text_job(given))
    assert str(caught.value).startswith(
        r"item 'cut \ud83d': its item_id holds half of a surrogate pair (\ud83d at character 5), which no result file can carry"
    )


def test_half_a_pair_in_a_system_prompt_is_named_too(world: World) -> None:
    with pytest.raises(
        InvalidInputError, match="item 'item-0': its system prompt holds half of a surrogate pair"
    ):
        world.start(text_job(1, build_prompt=lambda item: PromptParts("hello", "be brief\ude00")))


@pytest.mark.parametrize("prompt", ["", None, 5, ["hello"]])
def test_a_prompt_that_is_none_is_named_with_its_row(any_world: World, prompt: Any) -> None:
    source = csv_source(any_world.folder, "id,text\na,fine\n")
    with pytest.raises(InvalidInputError, match=r"item 'a' \(.*rows.csv, row 1\)"):
        any_world.start(text_job(source, build_prompt=lambda item: prompt))


def test_what_build_prompt_raises_keeps_its_type_and_names_the_row(world: World) -> None:
    source = csv_source(world.folder, "id,text\na,fine\n")
    with pytest.raises(ZeroDivisionError) as caught:
        world.start(text_job(source, build_prompt=lambda item: str(1 / 0)))
    assert f"build_prompt raised this for item 'a' ({source.path}, row 1)" in caught.value.__notes__[0]


METADATA = {
    "large": 2**80,
    "negative": -(2**63) - 1,
    "nan": float("nan"),
    "nat": pd.NaT,
    "na": [pd.NA, np.float64("nan")],
    "count": np.int64(7),
    "path": "caf\udce9",
}
KEPT = {
    "large": 2**80,
    "negative": -(2**63) - 1,
    "nan": None,
    "nat": None,
    "na": [None, None],
    "count": 7,
    "path": "caf\udce9",
}


def test_metadata_comes_back_exactly_and_missing_values_as_null(any_world: World) -> None:
    run = any_world.start(
        text_job([BatchItem("a", None, METADATA)], build_prompt=lambda item: "hello")
    ).wait()
    assert run.results()[0].metadata == KEPT
    path = Path(run.export_terminal_results(any_world.folder / "out.jsonl").destination_path)
    assert json.loads(path.read_text())["metadata"] == KEPT


@pytest.mark.parametrize(
    ("metadata", "problem"),
    [
        ({"at": dt.date(2026, 1, 2)}, r"\['at'\] is a date"),
        ({"a": [{1: 2}]}, r"\['a'\]\[0\] has the key 1"),
        ({"a": {"b": object()}}, r"\['a'\]\['b'\] is a object"),
        (["a"], "metadata must be a dict, not list"),
    ],
)
def test_metadata_that_is_no_json_is_named_with_its_place(
    any_world: World, metadata: Any, problem: str
) -> None:
    with pytest.raises(InvalidInputError, match=f"item 'a': .*{problem}"):
        any_world.start(text_job([BatchItem("a", None, metadata)], build_prompt=lambda item: "hello"))


def test_a_file_is_not_read_on_with_other_options(any_world: World) -> None:
    text = "id;text\n" + "".join(f"{n};a,b\n" for n in range(1500))

    def breaks(item: BatchItem[Any]) -> str:
        if item.item_id == "1200":
            raise ZeroDivisionError
        return "hello"

    runner = any_world.runner()
    job = text_job(csv_source(any_world.folder, text, delimiter=";"), build_prompt=breaks, per_batch=1000)
    with pytest.raises(ZeroDivisionError):
        runner.start(job, run_id=RUN)
    assert any_world.store.has_run(run_id=RUN)
    other = csv_source(any_world.folder, text, delimiter=",", item_id_from_row=lambda row: row["id;text"])
    with pytest.raises(
        SourceMismatchError, match="is read with the default options, but was read with delimiter=';'"
    ):
        any_world.runner().start(text_job(other, per_batch=1000), run_id=RUN)
