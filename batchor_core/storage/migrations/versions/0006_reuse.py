"""Answers are reused: an index of requests, and where a reused answer is from.

Frozen once released: later changes of ``schema.py`` get revisions of their own.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """The runs of earlier builds neither take nor give answers."""
    # Alembic's own operations know nothing of schema translation
    schema = op.get_context().version_table_schema
    of_runs: list[sa.Column[Any]] = [
        sa.Column("reused_items", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("deduplicated_items", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("saved", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("reuse_scope_key", sa.BigInteger()),
    ]
    for column in of_runs:
        op.add_column("runs", column, schema=schema)
    of_results: list[sa.Column[Any]] = [
        sa.Column("reused_run_id", sa.Text()),
        sa.Column("reused_item_id", sa.Text()),
        sa.Column("saved", sa.BigInteger()),
        sa.Column("answered_at", sa.Double()),
        sa.Column("reused_run_key", sa.BigInteger()),
        sa.Column("reused_index", sa.BigInteger()),
    ]
    for column in of_results:
        op.add_column("item_results", column, schema=schema)
    reusing = sa.column("reused_run_key").is_not(None)
    op.create_index(
        "item_results_reusing",
        "item_results",
        ["reused_run_key", "reused_index"],
        schema=schema,
        sqlite_where=reusing,
        postgresql_where=reusing,
    )
    op.create_table(
        "reuse_scopes",
        sa.Column("scope_key", _KEY, autoincrement=True, nullable=False),
        sa.Column("reuse_key", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("scope_key"),
        sa.UniqueConstraint("reuse_key"),
        schema=schema,
    )
    op.create_table(
        "reuse_index",
        sa.Column("scope_key", _KEY, autoincrement=False, nullable=False),
        sa.Column("short_address", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("run_key", sa.BigInteger(), nullable=False),
        sa.Column("item_index", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("scope_key", "short_address"),
        schema=schema,
        sqlite_with_rowid=False,
    )
