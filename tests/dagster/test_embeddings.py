"""Assets of embeddings: as the page has them, and from YAML."""

import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from batchor_core import VectorOutput
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.testing.openai_server.embeddings import embeddings
from batchor_dagster.components import Batch
from batchor_dagster.testing import MaterializedBatch, materialize_batch

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "embed-texts.md"
TEXTS = ["It drives nails into wood.", "A fruit with a thick peel."]
SETTINGS: dict[str, Any] = {
    "name": "vectors",
    "openai": {"model": "text-embedding-3-small"},
    "prompt": "{text}",
    "source": {"path": "texts.csv"},
    "output": {"vector": 256},
}


def batch(**changes: Any) -> Batch:
    return Batch.model_validate({**SETTINGS, **changes})


def expect_vectors(done: MaterializedBatch) -> None:
    assert done.success
    frame = pl.DataFrame(done.table).sort("item_id")
    assert frame.schema["vector"] == pl.Array(pl.Float32, 256)
    wanted = embeddings({"input": TEXTS, "dimensions": 256})[0]["data"]
    assert frame["vector"].to_list() == [list(entry["embedding"]) for entry in wanted]


def write_texts(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("id,text\n" + "".join(f"{n},{text}\n" for n, text in enumerate(TEXTS)), encoding="utf-8")


def test_the_asset_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_texts(tmp_path / "data" / "2026-11-01.csv")
    *_, program = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    known: dict[str, Any] = {}
    exec(program, known)
    expect_vectors(materialize_batch(known["vectors"], "2026-11-01"))


def test_a_batch_of_vectors_from_yaml(tmp_path: Path) -> None:
    write_texts(tmp_path / "texts.csv")
    asset = batch().asset(tmp_path)
    assert asset.output == VectorOutput(256)
    expect_vectors(materialize_batch(asset))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"openai": {"model": "x", "endpoint": "/v1/responses"}},
            "'vector', and the endpoint /v1/responses gives text",
        ),
        ({"output": {"vector": 0}}, "VectorOutput.dimensions must be at least 1"),
        ({"openai": {"model": "text-embedding-3-small", "temperature": 0}}, "temperature can't be set"),
    ],
)
def test_what_contradicts_vectors_is_refused_when_definitions_are_loaded(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidInputError, match=said):
        batch(**changes).asset(tmp_path)
