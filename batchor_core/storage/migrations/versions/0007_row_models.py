"""Rows may name models of their own.

Frozen once released: later changes of ``schema.py`` get revisions of their own.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

_KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """The rows of earlier builds have the models of their jobs."""
    # Alembic's own operations know nothing of schema translation
    schema = op.get_context().version_table_schema
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
