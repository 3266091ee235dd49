"""Result files are found by every reader of their folder, and files of earlier builds are read once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import fsspec
import pandas as pd
import polars as pl
import pyarrow.dataset as pads
import pytest

from batchor_core.tables import write_results_parquet
from batchor_core.tables.partition_files import PartitionFiles
from batchor_core.tables.safe_names import earlier_path_segment, safe_path_segment
from tests.support.result_pages import Pages, Review, good

KEYS = [
    "2026-01-01",
    "東京",
    "_all",
    "_",
    ".",
    ".hidden",
    "",
    "us",
    "US",
    "Us",
    "con",
    "NUL.txt",
    "dot.",
    "space ",
    "a/b",
    "a|b",
    "2026-01-01|eu",
    "2026-01-01|EU",
    "a=b",
    "Zürich",
    "Zu\u0308rich",
    "x" * 300,
]


def wrote(path: str, rows: int = 1) -> None:
    write_results_parquet(Pages([good(index) for index in range(rows)]), path, Review)


Spelling = Callable[[str], str]


def earlier(base: object, key: str, *, asset: str = "reviews", spell: Spelling = earlier_path_segment) -> str:
    return f"{base}/{spell(asset)}/{spell(key)}.parquet"


@pytest.mark.parametrize("asset_key", [["reviews"], ["_private", "Reviews"], [".a", "東京"]])
def test_every_reader_of_the_folder_finds_every_partition(tmp_path: Path, asset_key: list[str]) -> None:
    files = PartitionFiles(str(tmp_path), asset_key)
    for key in KEYS:
        wrote(files.path(key))
    folder = Path(files.path("us")).parent
    found: dict[str, Any] = {
        "pyarrow, the folder": pads.dataset(folder).count_rows(),
        "pyarrow, all results": pads.dataset(tmp_path).count_rows(),
        "pandas": len(pd.read_parquet(folder)),
        "polars": pl.read_parquet(folder).height,
        "polars, all results": pl.scan_parquet(f"{tmp_path}/**/*.parquet").collect().height,
        "duckdb": len(duckdb.read_parquet(f"{folder}/*.parquet")),
    }
    assert found == dict.fromkeys(found, len(KEYS))


def test_no_two_partitions_share_a_file_where_case_is_ignored(tmp_path: Path) -> None:
    files = PartitionFiles(str(tmp_path), ["reviews"])
    assert len({files.path(key).casefold() for key in KEYS}) == len(KEYS)
    assert (
        PartitionFiles("/b", ["A"]).path("x").casefold() != PartitionFiles("/b", ["a"]).path("x").casefold()
    )


@pytest.fixture(params=["local", "memory"])
def base(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path) if request.param == "local" else f"memory://{tmp_path.name}"


@pytest.mark.parametrize("spell", [earlier_path_segment, safe_path_segment])
@pytest.mark.parametrize("key", ["東京", "_all", "US", "con", "2026-01-01|eu"])
def test_a_file_of_an_earlier_build_is_found_and_replaced(base: str, key: str, spell: Spelling) -> None:
    files = PartitionFiles(base, ["reviews"])
    assert files.existing(key) is None
    wrote(earlier(base, key, spell=spell))
    files = PartitionFiles(base, ["reviews"])
    assert files.existing(key) == earlier(base, key, spell=spell)
    files.adopt(key)
    assert files.existing(key) == files.path(key)
    wrote(files.path(key), rows=3)
    assert len(pd.read_parquet(f"{base}/reviews/{Path(files.path(key)).name}")) == 3
    assert listed(base) == [Path(files.path(key)).name]


def test_the_stale_ones_of_several_files_are_removed(base: str) -> None:
    files = PartitionFiles(base, ["reviews"])
    wrote(earlier(base, "US"), rows=1)
    wrote(earlier(base, "US", spell=safe_path_segment), rows=2)
    wrote(files.path("US"), rows=3)
    assert files.existing("US") == files.path("US")
    files.adopt("US")
    assert listed(base) == [Path(files.path("US")).name]


def test_of_two_earlier_files_the_later_one_counts(base: str) -> None:
    files = PartitionFiles(base, ["reviews"])
    wrote(earlier(base, "US"), rows=1)
    wrote(earlier(base, "US", spell=safe_path_segment), rows=2)
    files.adopt("US")
    assert listed(base) == [Path(files.path("US")).name]
    assert len(pd.read_parquet(f"{base}/reviews/{Path(files.path('US')).name}")) == 2


def test_adopting_leaves_other_partitions_alone(base: str) -> None:
    files = PartitionFiles(base, ["reviews"])
    wrote(files.path("us"))
    wrote(files.path("2026-01-01"))
    before = listed(base)
    for key in ("US", "us", "2026-01-01", "_us"):
        files.adopt(key)
    assert listed(base) == before
    assert files.existing("US") is None


def test_files_move_with_the_folder_of_their_asset(tmp_path: Path) -> None:
    files = PartitionFiles(str(tmp_path), ["_Reviews"])
    wrote(earlier(tmp_path, "de", asset="_Reviews"))
    assert files.existing("de") == f"{tmp_path}/_Reviews/de.parquet"
    files.adopt("de")
    assert pads.dataset(tmp_path).count_rows() == 1
    whole = PartitionFiles(str(tmp_path), ["_Whole"])
    wrote(f"{tmp_path}/_Whole.parquet")
    whole.adopt(None)
    assert whole.existing(None) == whole.path(None)
    assert pads.dataset(tmp_path).count_rows() == 2


def listed(base: str) -> list[str]:
    filesystem, root = fsspec.core.url_to_fs(base)
    return sorted(path.rpartition("/")[2] for path in filesystem.find(root))
