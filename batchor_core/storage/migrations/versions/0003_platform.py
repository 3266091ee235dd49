"""What the engine keeps so that any provider, money, budgets and late results find their place.

Frozen once released: later changes of ``schema.py`` get revisions of their own.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Bring the tables of 0002 here, with what is in them."""
    # Alembic's own operations know nothing of schema translation
    schema = op.get_context().version_table_schema
    _add_token_kinds(schema)
    _add_lateness(schema)
    _add_budget_queue(schema)
    _add_rendered_chunks(schema)
    _keep_custom_id_format(schema)
    op.add_column("item_results", sa.Column("output_data", sa.LargeBinary()), schema=schema)
    op.add_column("item_contents", sa.Column("content_address", sa.LargeBinary()), schema=schema)
    op.add_column("submission_intents", sa.Column("uploaded_at", sa.Double()), schema=schema)
    op.add_column("batches", sa.Column("poll_error", sa.Text()), schema=schema)


def _add_token_kinds(schema: str | None) -> None:
    """Tokens written to a prompt cache; of answers stored before, nobody kept them."""
    op.add_column(
        "runs",
        sa.Column("cache_write_tokens", sa.BigInteger(), server_default="0", nullable=False),
        schema=schema,
    )
    for table in ("item_results", "batches"):
        op.add_column(table, sa.Column("cache_write_tokens", sa.BigInteger()), schema=schema)


def _add_lateness(schema: str | None) -> None:
    """What is waited for of batches that are over, and when batches should be over."""
    for column in (
        sa.Column("due_at", sa.Double()),
        sa.Column("ended_at", sa.Double()),
        sa.Column("late_rows", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("looks", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("wait_reason", sa.Text()),
    ):
        op.add_column("batches", column, schema=schema)


def _add_budget_queue(schema: str | None) -> None:
    """Runs that wait for a budget queue for it, and say what holds them up."""
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


def _add_rendered_chunks(schema: str | None) -> None:
    """What items were rendered to, by chunk."""
    op.create_table(
        "rendered_chunks",
        sa.Column("run_key", _KEY, autoincrement=False, nullable=False),
        sa.Column("first_index", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("item_count", sa.BigInteger(), nullable=False),
        sa.Column("item_ids", sa.LargeBinary(), nullable=False),
        sa.Column("prompts", sa.LargeBinary(), nullable=False),
        sa.Column("system_prompts", sa.LargeBinary(), nullable=False),
        sa.Column("messages", sa.LargeBinary(), nullable=False),
        sa.Column("options", sa.LargeBinary(), nullable=False),
        sa.Column("metadata", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("run_key", "first_index"),
        schema=schema,
        sqlite_with_rowid=False,
    )


def _keep_custom_id_format(schema: str | None) -> None:
    """Runs of earlier builds go on under the names they began with."""
    op.add_column(
        "runs", sa.Column("custom_id_format", sa.Integer(), nullable=False, server_default="1"), schema=schema
    )
