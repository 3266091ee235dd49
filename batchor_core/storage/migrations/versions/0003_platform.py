"""Runs that wait for a budget queue for it, and say what holds them up.

Frozen: later changes of ``schema.py`` get revisions of their own.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Bring the tables of 0002 here, with what is in them."""
    schema = (
        op.get_context().version_table_schema
    )  # Alembic's own operations know nothing of schema translation
    _change_runs(schema)
    op.add_column("submission_intents", sa.Column("uploaded_at", sa.Double()), schema=schema)
    op.add_column("batches", sa.Column("poll_error", sa.Text()), schema=schema)


def _change_runs(schema: str | None) -> None:
    op.add_column("runs", sa.Column("last_error_message", sa.Text()), schema=schema)
    op.add_column("runs", sa.Column("waiting_since", sa.Double()), schema=schema)
    op.add_column("runs", sa.Column("waiting_need", sa.BigInteger()), schema=schema)
    op.add_column("runs", sa.Column("waiting_seen_at", sa.Double()), schema=schema)
    waiting = sa.column("waiting_since").is_not(None)
    op.create_index(
        "runs_waiting",
        "runs",
        ["budget_key"],
        schema=schema,
        sqlite_where=waiting,
        postgresql_where=waiting,
    )
