"""A source of several files, compressed or not, here or behind a URL."""

from __future__ import annotations

import bz2
import csv
import functools
import gzip
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from moto.server import ThreadedMotoServer

from batchor_core import CsvItemSource, JsonlItemSource, ParquetItemSource
from batchor_core.core.exceptions import InvalidInputError, SourceRowError
from batchor_core.sources.base import CheckpointedItemSource
from batchor_core.sources.files import source_of

CALLBACKS: dict[str, Any] = {
    "item_id_from_row": lambda row: row["id"],
    "payload_from_row": lambda row: row["text"],
}


def csv_text(first: int, count: int) -> bytes:
    return b"id,text\n" + b"".join(b'%d,"text\n%d"\n' % (n, n) for n in range(first, first + count))


def ids(source: CheckpointedItemSource[Any]) -> list[str]:
    return [item.item_id for item in source]


def check_rest(source: CheckpointedItemSource[Any], count: int) -> None:
    """From every checkpoint, the rest is the rest."""
    whole = list(source.iter_from_checkpoint(source.initial_checkpoint()))
    assert [one.item.item_id for one in whole] == [str(n) for n in range(count)]
    for stop, one in enumerate(whole, 1):
        stored = json.loads(json.dumps(one.next_checkpoint))
        assert list(source.iter_from_checkpoint(stored)) == whole[stop:]


COMPRESSED: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".zst": lambda data: pa.compress(data, codec="zstd", asbytes=True),
    # in several members, as "cat one.gz two.gz" makes them
    ".gz, two": lambda data: gzip.compress(data[:20]) + gzip.compress(data[20:]),
    ".zst, two": lambda data: b"".join(
        pa.compress(part, codec="zstd", asbytes=True) for part in (data[:20], data[20:])
    ),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Rows 0 to 8 in three files, and what is none of them."""
    (tmp_path / "day=2").mkdir()
    (tmp_path / "day=1").mkdir()
    (tmp_path / "day=1" / "b.csv").write_bytes(csv_text(3, 3))
    (tmp_path / "day=1" / "a.csv").write_bytes(csv_text(0, 3))
    (tmp_path / "day=2" / "a.CSV.gz").write_bytes(gzip.compress(csv_text(6, 3)))
    for other in ("README.md", "_SUCCESS", ".hidden.csv", "_temporary/c.csv", ".git/d.csv"):
        (tmp_path / other).parent.mkdir(exist_ok=True)
        (tmp_path / other).write_bytes(b"id,text\nother,x\n")
    (tmp_path / "folder.csv").mkdir()
    return tmp_path


@pytest.mark.parametrize("pattern", ["", "day=*/*", "*/[ab].*", "**/day=*/*.[Cc][Ss][Vv]*"])
def test_folders_and_patterns_are_one_source(folder: Path, pattern: str) -> None:
    source: CsvItemSource[Any] = CsvItemSource(folder / pattern, **CALLBACKS)
    check_rest(source, 9)
    lineages: list[Any] = [item.metadata["batchor_lineage"] for item in source]
    assert [(one["partition_id"], one["row_index"]) for one in lineages[2:4]] == [("day=1", 2), ("day=1", 0)]
    assert lineages[8]["source_path"] == str(folder / "day=2" / "a.CSV.gz")
    for index in range(11):
        assert [one.item_index for one in source.iter_from(index)] == list(range(index, 9))
    places = source.places({4, 8})
    assert places is not None
    assert places.found[4] == f"{folder / 'day=1' / 'b.csv'}, line 4"


def test_another_file_makes_it_another_source(folder: Path) -> None:
    def identity() -> str:
        return CsvItemSource(folder, **CALLBACKS).source_identity().source_fingerprint

    before = identity()
    assert identity() == before
    (folder / "day=1" / "a.csv").touch()
    assert identity() == before
    (folder / "day=1" / "c.csv").write_bytes(csv_text(20, 1))
    assert identity() != before


def test_an_error_names_the_file_of_several(folder: Path) -> None:
    (folder / "day=1" / "b.csv").write_bytes(b"id,text\n3,a,b\n")
    with pytest.raises(SourceRowError, match=r"day=1/b\.csv, line 2: the row has 3 values"):
        ids(CsvItemSource(folder, **CALLBACKS))


def test_a_name_that_looks_like_a_pattern_is_a_file_if_it_is_there(tmp_path: Path) -> None:
    (tmp_path / "a[1].csv").write_bytes(csv_text(0, 1))
    (tmp_path / "a1.csv").write_bytes(csv_text(1, 1))
    assert ids(CsvItemSource(tmp_path / "a[1].csv", **CALLBACKS)) == ["0"]


def test_the_files_are_looked_up_when_they_are_first_read(tmp_path: Path) -> None:
    source: CsvItemSource[Any] = CsvItemSource(tmp_path / "*.csv", **CALLBACKS)
    (tmp_path / "a.csv").write_bytes(csv_text(0, 1))
    assert ids(source) == ["0"]


def test_folders_of_parquet_and_jsonl(tmp_path: Path) -> None:
    for number in (0, 1):
        rows = [{"id": str(n), "text": "x"} for n in range(4 * number, 4 * number + 4)]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"{number}.parquet", row_group_size=3)
        (tmp_path / f"{number}.ndjson").write_text("\n".join(map(json.dumps, rows)))
    check_rest(ParquetItemSource(tmp_path, **CALLBACKS), 8)
    check_rest(JsonlItemSource(tmp_path, **CALLBACKS), 8)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.csv", CsvItemSource),
        ("data/*.CSV.gz", CsvItemSource),
        ("a.jsonl.zst", JsonlItemSource),
        ("a.ndjson", JsonlItemSource),
        ("memory://b/a.parquet", ParquetItemSource),
    ],
)
def test_a_suffix_tells_the_source(name: str, kind: type) -> None:
    assert type(source_of(name, **CALLBACKS)) is kind


def test_a_suffix_of_none_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"a\.xlsx is none of \.csv, \.jsonl, \.ndjson, \.parquet"):
        source_of("a.xlsx", **CALLBACKS)


# --- compressed ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", COMPRESSED)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_compressed_file_is_read_from_anywhere(compression: str, encoding: str, tmp_path: Path) -> None:
    path = tmp_path / f"rows{compression.partition(',')[0]}"
    path.write_bytes(COMPRESSED[compression](csv_text(0, 40).decode().encode(encoding)))
    check_rest(CsvItemSource(path, encoding=encoding, **CALLBACKS), 40)


@pytest.mark.parametrize("compression", [".gz", ".zst"])
def test_a_compressed_file_that_is_cut_off_is_named(compression: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(COMPRESSED[compression](csv_text(0, 40))[:-9])
    with pytest.raises(SourceRowError, match=r"rows\.csv: can't be read: it is compressed, and cut off"):
        ids(CsvItemSource(path, **CALLBACKS))


def test_an_offset_of_another_file_is_refused_in_a_compressed_one_too(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv.gz"
    path.write_bytes(gzip.compress(csv_text(0, 3)))
    for offset in (12, 10_000):
        with pytest.raises(InvalidInputError, match="is not between two lines"):
            list(
                CsvItemSource(path, **CALLBACKS).iter_from_checkpoint({"row": 1, "offset": offset, "line": 1})
            )


# --- remote ----------------------------------------------------------------------------------------------------------


class Handler(http.server.SimpleHTTPRequestHandler):
    """A web server without ranges, as Python's is."""

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def web(folder: Path) -> Iterator[str]:
    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_a_file_of_a_web_server_is_the_one_that_it_is_here(web: str, folder: Path, name: str) -> None:
    here = folder / name
    here.write_bytes(gzip.compress(csv_text(0, 50)) if name.endswith("gz") else csv_text(0, 50))
    url = web.replace("//", "//user:secret@") + f"/{name}?signature=secret"
    source: CsvItemSource[Any] = CsvItemSource(url, **CALLBACKS)
    check_rest(source, 50)
    identity = source.source_identity()
    assert (
        identity.source_fingerprint == CsvItemSource(here, **CALLBACKS).source_identity().source_fingerprint
    )
    assert identity.source_ref == f"{web}/{name}"
    lineage: Any = next(iter(source)).metadata["batchor_lineage"]
    assert lineage["source_path"] == f"{web}/{name}"


def test_what_a_web_server_has_not_is_named_without_its_secrets(web: str) -> None:
    with pytest.raises(SourceRowError, match=r"none\.csv: can't be read: there is no such file") as caught:
        ids(CsvItemSource(f"{web}/none.csv?signature=secret", **CALLBACKS))
    assert "secret" not in str(caught.value)


def test_a_server_that_is_not_there_is_named(web: str) -> None:
    with pytest.raises(SourceRowError, match=r"127\.0\.0\.1:9/x\.csv: can't be read: "):
        ids(CsvItemSource("http://127.0.0.1:9/x.csv", **CALLBACKS))


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, Any]]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    options = {"key": "any", "secret": "hidden", "endpoint_url": f"http://{host}:{port}"}
    client = boto3.client(
        "s3",
        region_name="us-east-1",
        endpoint_url=options["endpoint_url"],
        aws_access_key_id="any",
        aws_secret_access_key="hidden",
    )
    client.create_bucket(Bucket="rows")
    yield {"client": client, "storage_options": options}
    client.close()
    server.stop()
    fsspec.filesystem("s3").clear_instance_cache()


def test_objects_of_s3_are_one_source(s3: dict[str, Any], tmp_path: Path) -> None:
    table = pa.table({"id": [str(n) for n in range(9)], "text": ["x"] * 9})
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=4)
    objects = {
        "in/day=1/a.csv": csv_text(0, 4),
        "in/day=2/b.csv.gz": gzip.compress(csv_text(4, 5)),
        "in/_SUCCESS": b"",
        "rows.parquet": (tmp_path / "rows.parquet").read_bytes(),
    }
    for key, data in objects.items():
        s3["client"].put_object(Bucket="rows", Key=key, Body=data)
    options = {"storage_options": s3["storage_options"], **CALLBACKS}
    for url in ("s3://rows/in", "s3://rows/in/", "s3://rows/in/*/*.csv*"):
        source: CsvItemSource[Any] = CsvItemSource(url, **options)
        check_rest(source, 9)
        lineages: list[Any] = [item.metadata["batchor_lineage"] for item in source]
        assert lineages[4]["source_path"] == "s3://rows/in/day=2/b.csv.gz"
        assert lineages[4]["partition_id"] == "day=2"
    check_rest(ParquetItemSource("s3://rows/rows.parquet", **options), 9)
    here = ParquetItemSource(tmp_path / "rows.parquet", **CALLBACKS).source_identity()
    there = ParquetItemSource("s3://rows/rows.parquet", **options).source_identity()
    assert here.source_fingerprint == there.source_fingerprint
    with pytest.raises(SourceRowError, match=r"s3://rows/none\.csv: can't be read: there is no such file"):
        ids(CsvItemSource("s3://rows/none.csv", **options))
    with pytest.raises(SourceRowError, match="no file matches this pattern"):
        ids(CsvItemSource("s3://rows/none/*.csv", **options))


def test_a_dialect_holds_for_all_files(tmp_path: Path) -> None:
    for number in (0, 1):
        (tmp_path / f"{number}.tsv").write_text(f'id\ttext\n{number}\ta"b\n')
    source = CsvItemSource(tmp_path / "*.tsv", delimiter="\t", quoting=csv.QUOTE_NONE, **CALLBACKS)
    assert [item.payload for item in source] == ['a"b', 'a"b']
