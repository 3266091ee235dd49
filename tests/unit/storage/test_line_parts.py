"""Lines are stored without what they have in common, and come back byte for byte."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy import select

from batchor_core.storage.line_parts import LineParts, common_parts, custom_id_in
from batchor_core.storage.schema import item_contents, line_parts
from batchor_core.storage.sqlite import SQLiteStorage
from batchor_core.storage.state import MaterializedItem
from tests.contract.stores.kit import RUN, config, custom_id_for, drive, registry, take

SCHEMA = {"type": "object", "description": "x" * 300}


def _line(index: int, prompt: str, **body: Any) -> bytes:
    custom_id = custom_id_for(RUN, f"item-{index}", index, 0)
    return orjson.dumps(
        {"custom_id": custom_id, "method": "POST", "body": {"input": prompt, "text": SCHEMA, **body}}
    )


# pieces of which lines are made: such that meet what is looked for, whole or cut off, and such that don't
_pieces = st.sampled_from(
    [b"", b'{"custom_id":"', b'"', b"a", b"ab", b"}", b'","body":', b'{"custom_id":"0-0-x","body":"']
)
_bytes = st.lists(_pieces | st.binary(max_size=4), max_size=6).map(b"".join)


@given(head=_bytes, tail=_bytes, line=_bytes)
@example(head=b'{"custom_id":"', tail=b"", line=b'{"custom_id":"{"custom_id":"a"')
@example(head=b"a", tail=b"a", line=b'{"custom_id":"x"a')
def test_what_is_cut_comes_back(head: bytes, tail: bytes, line: bytes) -> None:
    parts = LineParts(head, tail)
    cut = parts.cut(line)
    if cut is not None:
        assert parts.restored(cut) == line
        assert len(cut) == len(line) - len(head) - len(tail)


@given(lines=st.lists(_bytes, min_size=1, max_size=4), known=st.none() | st.builds(LineParts, _bytes, _bytes))
def test_common_parts_are_in_all_lines_that_begin_with_a_custom_id(
    lines: list[bytes], known: LineParts | None
) -> None:
    parts = common_parts(lines, known)
    if parts is not None:
        named = [line for line in lines if custom_id_in(line) is not None]
        assert len(named) > 1
        assert None not in [parts.cut(line) for line in named]


def test_instructions_and_schema_are_common() -> None:
    lines = [_line(index, f"Judge this, please: {index} and more {index}") for index in range(10)]
    parts = common_parts(lines, None)
    assert parts is not None
    assert parts.head.endswith(b"Judge this, please: ")
    assert parts.tail.startswith(b'","text":')
    assert parts.cut(lines[3]) == b'{"custom_id":"%s"3 and more 3' % str(custom_id_in(lines[3])).encode()


def test_a_name_is_read_from_the_line() -> None:
    assert custom_id_in(_line(7, "x")) == custom_id_for(RUN, "item-7", 7, 0)
    assert custom_id_in(b'{"method":"POST","custom_id":"a"}') is None
    assert custom_id_in(b'{"custom_id":"a') is None


def test_later_lines_are_compared_with_what_is_known() -> None:
    """Row numbers of four digits begin alike for a thousand rows, and not for the next thousand."""
    first = common_parts([_line(n, f"row {n}") for n in range(1000, 2000)], None)
    assert first is not None
    assert first.cut(_line(2000, "row 2000")) is None
    second = common_parts([_line(n, f"row {n}") for n in range(2000, 3000)], first)
    assert second is not None
    assert second.cut(_line(3000, "row 3000")) is not None


# --- in a store ------------------------------------------------------------------------------------------------------


def _item(index: int, line: bytes) -> MaterializedItem:
    return MaterializedItem(f"item-{index}", index, None, {}, "", None, line, 1)


def test_a_store_keeps_what_is_common_once_for_all_kinds_of_lines(tmp_path: Path) -> None:
    store = SQLiteStorage(path=tmp_path / "store.sqlite3", provider_registry=registry())
    lines = [
        *(_line(n, f"row {n}") for n in range(1000, 1010)),
        *(_line(n, f"row {n}") for n in range(2000, 2010)),
        *(_line(n, f"another job: {n}", temperature=0) for n in range(10)),
        b"{}",
        b'{"body":{},"custom_id":"elsewhere"}',
    ]
    chunks = [lines[:10], lines[10:20], lines[20:30], lines[30:]]
    store.create_run(run_id=RUN, config=config(), items=[])
    session, index = drive(store), 0
    for chunk in chunks:
        items = [_item(index + number, line) for number, line in enumerate(chunk)]
        index += len(chunk)
        session.append(items, next_item_index=index, checkpoint_payload=None, ingestion_complete=False)
    take(session, *range(len(lines)))
    assert [draft.request_line for draft in session.drafts(local_batch_id="b1")] == lines
    contents, parts = item_contents.c, line_parts.c
    with store.database.read() as connection:
        stored = (
            connection.execute(select(contents.request_line).order_by(contents.item_index)).scalars().all()
        )
        numbers = (
            connection.execute(select(contents.parts_number).order_by(contents.item_index)).scalars().all()
        )
        assert connection.execute(select(parts.number).order_by(parts.number)).scalars().all() == [0, 1, 2]
    assert numbers == [*[0] * 10, *[1] * 10, *[2] * 10, None, None]
    assert max(map(len, stored)) < 60
    store.close()


def test_a_run_of_lines_without_anything_in_common_keeps_them_whole(tmp_path: Path) -> None:
    store = SQLiteStorage(path=tmp_path / "store.sqlite3", provider_registry=registry())
    store.create_run(run_id=RUN, config=config(), items=[])
    session = drive(store)
    lines = [b'{"custom_id":"%d","n":%d}' % (n, n) for n in range(40)]
    for start in range(0, 40, 2):
        items = [_item(n, lines[n]) for n in (start, start + 1)]
        session.append(items, next_item_index=start + 2, checkpoint_payload=None, ingestion_complete=False)
    take(session, *range(40))
    assert [draft.request_line for draft in session.drafts(local_batch_id="b1")] == lines
    with store.database.read() as connection:
        assert connection.execute(select(line_parts)).all() == []
    store.close()
