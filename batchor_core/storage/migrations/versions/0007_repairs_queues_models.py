"""Rows are asked again with the reason why their answer was bad, and may name models; queue limits are learned.

Frozen once released: later changes of ``schema.py`` get revisions of their own.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

_KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Rows of earlier builds were never asked like that, and have the models of their jobs."""
    # Alembic's own operations know nothing of schema translation
    schema = op.get_context().version_table_schema
    for name in ("repairs", "repaired_items"):
        column = sa.Column(name, sa.BigInteger(), server_default="0", nullable=False)
        op.add_column("runs", column, schema=schema)
    op.add_column("items", sa.Column("repairs", sa.Integer()), schema=schema)
    op.create_table(
        "repairs",
        sa.Column("run_key", _KEY, autoincrement=False, nullable=False),
        sa.Column("item_index", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("request_line", sa.LargeBinary(), nullable=False),
        sa.Column("parts_number", sa.Integer()),
        sa.Column("own_tokens", sa.BigInteger(), nullable=False),
        sa.Column("own_bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("run_key", "item_index"),
        schema=schema,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "queue_limits",
        sa.Column("budget_key", sa.Text(), nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("refused_at", sa.Double(), nullable=False),
        sa.Column("refused_batch", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("budget_key"),
        schema=schema,
    )
    op.create_table(
        "row_models",
        sa.Column("run_key", _KEY, autoincrement=False, nullable=False),
        sa.Column("item_index", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("run_key", "item_index"),
        schema=schema,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "batch_models",
        sa.Column("intent_key", _KEY, autoincrement=False, nullable=False),
        sa.Column("run_key", sa.BigInteger(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("intent_key"),
        schema=schema,
    )
