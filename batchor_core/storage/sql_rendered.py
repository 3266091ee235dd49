"""What items were rendered to, and what is stored of them: what a run that is started again is compared with."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection, select

from batchor_core.core.rendered import RenderedChunk, are_options
from batchor_core.storage.columns import decode_optional_json, decode_optional_text, decode_text
from batchor_core.storage.records import StoredItem
from batchor_core.storage.schema import item_contents, rendered_chunks
from batchor_core.storage.sql_engine import Database, plain_rows
from batchor_core.storage.sql_ingestion import parts_of, whole_line
from batchor_core.storage.sql_runs import LockedRun

_PAGE = 1_000
_chunks, _contents = rendered_chunks.c, item_contents.c
_INSERT = rendered_chunks.insert()


def keep_rendered(run: LockedRun, chunk: RenderedChunk, *, is_new: bool) -> None:
    """Keep the digests of a chunk; one that is partly there already takes the place of what was kept of it."""
    if not is_new:
        there = (_chunks.run_key == run.run_key, _chunks.first_index == chunk.first_index)
        run.connection.execute(rendered_chunks.delete().where(*there))
    first_index, count, *digests = chunk
    values = dict(zip(RenderedChunk._fields[2:], digests, strict=True))
    run.connection.execute(
        _INSERT, {"run_key": run.run_key, "first_index": first_index, "item_count": count, **values}
    )


def rendered(connection: Connection, run_key: int) -> list[RenderedChunk]:
    """The digests of a run's items, in item order."""
    wanted = (
        select(
            _chunks.first_index,
            _chunks.item_count,
            *[_chunks[name] for name in RenderedChunk._fields[2:]],
        )
        .where(_chunks.run_key == run_key)
        .order_by(_chunks.first_index)
    )
    return [RenderedChunk(*row) for row in connection.execute(wanted)]


def has_options(connection: Connection, run_key: int) -> bool:
    """Whether items have request options of their own. Hardly any chunk without differs from the others in these columns."""
    wanted = select(_chunks.item_count, _chunks.options).where(_chunks.run_key == run_key).distinct()
    return any(are_options(count, digest) for count, digest in connection.execute(wanted))


def stored_items(database: Database, run_key: int, *, first_index: int, count: int) -> Iterator[StoredItem]:
    """Items as they were stored, each page in a transaction of its own."""
    with database.read() as connection:
        parts = parts_of(connection, run_key)
    end = first_index + count
    for start in range(first_index, end, _PAGE):
        wanted = (
            select(
                _contents.item_index,
                _contents.item_id,
                _contents.metadata,
                _contents.prompt,
                _contents.system_prompt,
                _contents.request_line,
                _contents.parts_number,
                _contents.content_address,
            )
            .where(
                _contents.run_key == run_key,
                _contents.item_index.between(start, min(start + _PAGE, end) - 1),
            )
            .order_by(_contents.item_index)
        )
        with database.read() as connection:
            page = list(plain_rows(connection, wanted))
        for index, item_id, metadata, prompt, system_prompt, line, number, address in page:
            yield StoredItem(
                index,
                decode_text(item_id),
                decode_optional_json(metadata) or {},
                decode_text(prompt),
                decode_optional_text(system_prompt),
                whole_line(line, number, parts),
                address,
            )
