"""A sink is chosen by one line, and what is wrong with the line is said."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from batchor_core.core.exceptions import InvalidInputError
from batchor_core.tables import (
    DeltaSink,
    ParquetSink,
    ResultSink,
    ResultTable,
    register_sink,
    registry,
    sink_of,
)


@dataclass(frozen=True)
class OtherSink(ParquetSink):
    """A third format."""

    kind: ClassVar[str] = "other"

    depth: int = 1

    def table(self, base: str, key: Sequence[str]) -> ResultTable:
        return super().table(f"{base}/other", key)


@pytest.fixture(autouse=True)
def _kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_KINDS", dict(registry._KINDS))


@pytest.mark.parametrize(
    ("choice", "sink"),
    [
        (None, ParquetSink()),
        ("parquet", ParquetSink()),
        ("delta", DeltaSink()),
        ({"kind": "delta"}, DeltaSink()),
        (
            {"kind": "delta", "url": "s3://bucket/x", "partition_column": "day"},
            DeltaSink("s3://bucket/x", "day"),
        ),
        (DeltaSink(url="/data"), DeltaSink(url="/data")),
    ],
)
def test_a_sink_is_chosen_by_kind_settings_or_itself(choice: Any, sink: ResultSink) -> None:
    assert sink_of(choice) == sink
    assert sink_of(sink.to_payload()) == sink


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        ("iceberg", "no kind 'iceberg'; there are parquet, delta"),
        ({}, "no kind None"),
        ({"kind": "delta", "path": "/x"}, "delta has no setting 'path'; it has url, partition_column"),
        (OtherSink(), "OtherSink is not registered"),
        (DeltaSink, "sink must be a sink, a kind or settings, not "),
        (5, "sink must be a sink, a kind or settings, not 5"),
        ({"kind": "delta", "url": Path("/lake")}, "url of a DeltaSink must be a str or None"),
        ({"kind": "delta", "partition_column": ""}, "partition_column must be the name of a column"),
    ],
)
def test_a_choice_that_is_none_says_what_there_is(choice: Any, told: str) -> None:
    with pytest.raises(InvalidInputError, match=told):
        sink_of(choice)


def test_a_format_of_one_s_own_is_registered_in_one_line(tmp_path: Path) -> None:
    register_sink(OtherSink)
    sink = sink_of({"kind": "other", "depth": 2})
    assert sink == OtherSink(depth=2)
    assert sink.to_payload() == {"kind": "other", "depth": 2}
    assert sink.table("/b", ["a"]).where("p") == "/b/other/a/p.parquet"


def test_an_installed_package_registers_a_format(monkeypatch: pytest.MonkeyPatch) -> None:
    point = importlib.metadata.EntryPoint("other", f"{__name__}:OtherSink", registry.ENTRY_POINT_GROUP)
    monkeypatch.setattr(
        importlib.metadata.EntryPoint, "load", lambda self: OtherSink if self.name == "other" else None
    )
    monkeypatch.setattr(
        registry, "entry_points", lambda group: importlib.metadata.EntryPoints((point,)).select(group=group)
    )
    assert sink_of("other") == OtherSink()


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("nowhere_to_be_found:Sink", "can't be imported: ModuleNotFoundError"),
        (f"{__name__}:pytest", r"is .*, and must be a dataclass and a ResultSink"),
    ],
)
def test_a_package_whose_sink_is_none_is_named(
    target: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = importlib.metadata.EntryPoints(
        [importlib.metadata.EntryPoint("other", target, registry.ENTRY_POINT_GROUP)]
    )
    monkeypatch.setattr(registry, "entry_points", lambda group: points.select(group=group))
    with pytest.raises(InvalidInputError, match=f"the kind 'other' .*{problem}"):
        sink_of("other")
