"""Items whose rows change twice, request lines without what they share, and no payloads.

Frozen: later changes of ``schema.py`` get revisions of their own.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Bring the tables of 0001 here, with what is in them."""
    # Alembic's own operations know nothing of schema translation
    schema = op.get_context().version_table_schema
    _change_items(schema)
    _change_contents(schema)
    op.create_table(
        "line_parts",
        sa.Column("run_key", _KEY, autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("head", sa.LargeBinary(), nullable=False),
        sa.Column("tail", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("run_key", "number"),
        schema=schema,
    )


def _change_items(schema: str | None) -> None:
    op.add_column("items", sa.Column("queue", sa.Integer()), schema=schema)
    items = _table("items", "status", "queue", "intent_key", schema=schema)
    intents = _table("submission_intents", "intent_key", "state", schema=schema)
    status = items.c.status
    in_submission = sa.exists().where(
        intents.c.intent_key == items.c.intent_key, intents.c.state != "registered"
    )
    op.execute(items.update().where(status.in_(("pending", "failed_retryable"))).values(queue=1))
    op.execute(items.update().where(status == "queued_local", in_submission).values(status="in_submission"))
    op.execute(items.update().where(status == "queued_local").values(queue=2))
    for name in ("items_by_id", "items_claimable", "items_in_flight"):
        op.drop_index(name, "items", schema=schema)
    is_sqlite = op.get_context().dialect.name == "sqlite"
    covered = ["attempt_count", "submission_tokens", "request_bytes"] if is_sqlite else []
    queued, owned = items.c.queue.is_not(None), items.c.intent_key.is_not(None)
    op.create_index(
        "items_queued",
        "items",
        ["run_key", "queue", "item_index", *covered],
        schema=schema,
        sqlite_where=queued,
        postgresql_where=queued,
    )
    op.create_index(
        "items_by_intent",
        "items",
        ["run_key", "intent_key", "item_index"],
        schema=schema,
        sqlite_where=owned,
        postgresql_where=owned,
    )
    if not is_sqlite:
        table = op.get_context().dialect.identifier_preparer.format_table(items)
        op.execute(f"ALTER TABLE {table} SET (fillfactor = 50)")


def _change_contents(schema: str | None) -> None:
    op.add_column("item_contents", sa.Column("item_id", sa.Text()), schema=schema)
    op.add_column("item_contents", sa.Column("parts_number", sa.Integer()), schema=schema)
    items = _table("items", "run_key", "item_index", "item_id", schema=schema)
    contents = _table("item_contents", "run_key", "item_index", "item_id", schema=schema)
    its_item = sa.and_(items.c.run_key == contents.c.run_key, items.c.item_index == contents.c.item_index)
    op.execute(contents.update().values(item_id=sa.select(items.c.item_id).where(its_item).scalar_subquery()))
    with op.batch_alter_table(
        "item_contents", schema=schema, table_kwargs={"sqlite_with_rowid": False}
    ) as batch:
        batch.alter_column("item_id", nullable=False)
        batch.drop_column("payload")
    op.create_index(
        "item_contents_by_id", "item_contents", ["run_key", "item_id"], unique=True, schema=schema
    )


def _table(name: str, *columns: str, schema: str | None) -> sa.TableClause:
    return sa.table(name, *map(sa.column, columns), schema=schema)
