"""A database that an earlier version wrote is brought here with all that is in it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection, MetaData, inspect, text

from batchor_core.core.boundaries import Boundary
from batchor_core.core.custom_ids import CustomIdFormat, CustomIds
from batchor_core.core.enums import ItemStatus
from batchor_core.core.exceptions import DatabaseVersionError
from batchor_core.core.pricing import NO_AMOUNTS, Unpriced
from batchor_core.storage.line_parts import LineParts
from batchor_core.storage.migrations import HEAD, KNOWN, VERSION_TABLE, upgrade
from batchor_core.storage.schema import IN_SUBMISSION, metadata, runs
from batchor_core.storage.sql import SQLStore
from batchor_core.storage.state import MaterializedItem
from tests.contract.stores import kit
from tests.contract.stores.kit import RUN, drive, good, send, submit, take
from tests.unit.storage.conftest import Opener

EARLIER = CustomIds(RUN, CustomIdFormat.INDEX_FIRST)
_TABLES = [table.name for table in metadata.sorted_tables]


def _item(index: int) -> MaterializedItem:
    custom_id = EARLIER.of(f"item-{index}", index, 0)
    line = f'{{"custom_id":"{custom_id}","method":"POST","body":{{"input":"row {index}"}}}}'
    return kit.item(index, prompt="", system_prompt=None, request_line=line.encode())


def _live(store: SQLStore) -> None:
    """A run with items in every state, by a driver and by hand."""
    store.create_run(run_id=RUN, config=kit.config(), items=[_item(index) for index in range(12)])
    with store.database.write(Boundary.MIGRATE) as connection:
        connection.execute(runs.update().values(custom_id_format=EARLIER.format))
    session = drive(store)
    done, failing, *_ = submit(session, 0, 1, 2, 3)
    session.apply_outcome(
        provider_batch_id="p1",
        completions=[good(done)],
        failures=[kit.bad(failing)],
        max_attempts=kit.MAX,
    )
    send(session, 4, 5, local="b2")
    take(session, 6, local="b3")
    session.close()
    assert kit.claim(store, 4) == ["item-1", "item-7", "item-8", "item-9"]
    kit.hand_over(store, ["item-7"], batch="p2")
    store.register_batch(
        run_id=RUN,
        local_batch_id="h",
        provider_batch_id="p3",
        status="validating",
        custom_ids=[EARLIER.of("item-8", 8, 0)],
    )


def _seen(store: SQLStore) -> dict[str, Any]:
    """What a user sees of the run, and a driver."""
    session = drive(store)
    seen = {
        "items": store.get_item_records(run_id=RUN),
        # earlier versions did not keep what answers cost
        "summary": replace(store.get_run_summary(run_id=RUN), cost=NO_AMOUNTS),
        "batches": [replace(batch, unpriced_answers=0) for batch in store.get_batches(run_id=RUN)],
        # the first version did not keep when a file was uploaded
        "submissions": [
            replace(submission, uploaded_at=None) for submission in store.list_submissions(run_id=RUN)
        ],
        "owned": [session.submitted_items(provider_batch_id=batch) for batch in ("p1", "p2")],
        "lines": [draft.request_line for draft in session.drafts(local_batch_id="b2")],
    }
    session.close()
    return seen


def _turn_back(store: SQLStore) -> None:
    """Make the database what the first version would have written."""
    database = store.database
    with database.write(Boundary.MIGRATE) as connection:
        rows = {name: _rows(connection, store, name) for name in _TABLES}
        batches = {row["intent_key"] for row in rows["batches"]}
        for row in rows["items"]:
            if row["status"] == IN_SUBMISSION:
                row["status"] = "submitted" if row["intent_key"] in batches else "queued_local"
        parts = {row["number"]: LineParts(row["head"], row["tail"]) for row in rows.pop("line_parts")}
        for row in rows["item_contents"]:
            if row["parts_number"] is not None:
                row["request_line"] = parts[row["parts_number"]].restored(row["request_line"])
        for name in (
            "rendered_chunks",
            "caps",
            "run_labels",
            "reuse_scopes",
            "reuse_index",
            "repairs",
            "queue_limits",
            "row_models",
            "batch_models",
        ):
            del rows[name]
        metadata.drop_all(connection)
        connection.exec_driver_sql(f"DROP TABLE {_name(store, VERSION_TABLE)}")
        upgrade(database, connection, to="0001")
        for name, values in rows.items():
            table = _table(connection, store, name)
            known = [{key: row[key] for key in row if key in table.columns} for row in values]
            if known:
                connection.execute(table.insert(), known)


def _rows(connection: Connection, store: SQLStore, name: str) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute(_table(connection, store, name).select()).mappings()]


def _table(connection: Connection, store: SQLStore, name: str) -> Any:
    found = MetaData()
    found.reflect(connection, schema=store.database.schema, only=[name])
    (table,) = found.tables.values()
    return table


def _name(store: SQLStore, name: str) -> str:
    return f'"{store.database.schema}"."{name}"' if store.database.schema else name


def test_a_run_of_the_first_version_goes_on_as_if_nothing_had_happened(open_store: Opener) -> None:
    store = open_store()
    _live(store)
    before = _seen(store)
    _turn_back(store)
    store.close()
    store = open_store()
    assert _seen(store) == before
    reason = "answers that an earlier version stored, which kept no amounts"
    assert store.get_run_summary(run_id=RUN).cost == Unpriced(reason)
    session = drive(store)
    session.register(local_batch_id="b2", provider_batch_id="p4", status="validating")
    assert list(session.submitted_items(provider_batch_id="p4").values()) == [4, 5]
    assert session.requeue_local() == 3  # b3's, and two that were claimed by hand; what p3 took is finished
    assert {name: record.status for name, record in kit.records(store).items()} == {
        "item-0": ItemStatus.COMPLETED,
        **{f"item-{index}": ItemStatus.SUBMITTED for index in (2, 3, 4, 5, 7, 8)},
        **{f"item-{index}": ItemStatus.PENDING for index in (1, 6, 9, 10, 11)},
    }


def test_a_migrated_database_has_the_tables_of_a_new_one(open_store: Opener) -> None:
    store = open_store()
    fresh = _layout(store)
    _turn_back(store)
    assert _layout(store) != fresh
    store.close()
    store = open_store()
    assert _layout(store) == fresh


def _layout(store: SQLStore) -> dict[str, Any]:
    """Columns, keys and indexes of every table, whatever the order of the columns."""
    schema = store.database.schema
    look = inspect(store.engine)
    return {
        name: {
            "columns": sorted(
                (c["name"], str(c["type"]), c["nullable"], str(c["default"]))
                for c in look.get_columns(name, schema)
            ),
            "key": look.get_pk_constraint(name, schema)["constrained_columns"],
            "unique": sorted(str(u["name"]) for u in look.get_unique_constraints(name, schema)),
            "indexes": sorted(
                (str(i["name"]), i["column_names"], i["unique"], _where(i["dialect_options"]))
                for i in look.get_indexes(name, schema)
            ),
        }
        for name in look.get_table_names(schema)
    }


@pytest.mark.parametrize("open_store", [pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True)
@pytest.mark.parametrize("migrated", [False, True])
def test_postgres_leaves_room_for_the_next_version_of_an_items_row(
    open_store: Opener, migrated: bool
) -> None:
    store = open_store()
    if migrated:
        _turn_back(store)
        store.close()
        store = open_store()
    options = text("SELECT unnest(reloptions) FROM pg_class WHERE oid = CAST(:name AS regclass)")
    with store.database.read() as connection:
        assert list(connection.execute(options, {"name": _name(store, "items")}).scalars()) == [
            "fillfactor=50"
        ]


def _where(options: dict[str, Any]) -> list[str]:
    return sorted(str(value) for name, value in options.items() if name.endswith("_where"))


def test_the_last_known_revision_is_the_one_that_is_written(open_store: Opener) -> None:
    store = open_store()
    with store.database.read() as connection:
        (row,) = _rows(connection, store, VERSION_TABLE)
    assert (row["version_num"], KNOWN[-1]) == (HEAD, HEAD)


def test_a_database_of_a_later_version_is_refused(open_store: Opener) -> None:
    store = open_store()
    with store.database.write(Boundary.MIGRATE) as connection:
        connection.execute(_table(connection, store, VERSION_TABLE).update().values(version_num="9999"))
    store.close()
    with pytest.raises(DatabaseVersionError, match="9999"):
        open_store()
