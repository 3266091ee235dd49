"""What answers have cost, in picodollars: on the rows of items, results, batches and runs; and caps on it.

Frozen once released: later changes of ``schema.py`` get revisions of their own.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_KINDS = ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens", "cache_write_tokens")
_NOTE = '["answers that an earlier version stored, which kept no amounts"]'


def upgrade() -> None:
    """Rows that ended before have no amount, and are counted as such where they were billed."""
    # Alembic's own operations know nothing of schema translation
    schema = op.get_context().version_table_schema
    for table in ("items", "item_results"):
        op.add_column(table, sa.Column("cost", sa.BigInteger()), schema=schema)
    for table in ("runs", "batches"):
        for name in ("cost", "unpriced_answers"):
            op.add_column(table, _count(name), schema=schema)
    for kind in _KINDS:
        op.add_column("batches", _count(f"billed_{kind}"), schema=schema)
    op.add_column("runs", sa.Column("cost_notes", sa.Text()), schema=schema)
    of_runs = ("input_tokens", "completed_items", "failed_permanent_items", "unpriced_answers", "cost_notes")
    runs = sa.table("runs", *map(sa.column, of_runs), schema=schema)
    billed = runs.c.completed_items + sa.case(
        (runs.c.input_tokens > 0, runs.c.failed_permanent_items), else_=0
    )
    op.execute(runs.update().where(billed > 0).values(unpriced_answers=billed, cost_notes=_NOTE))
    of_batches = ("status", "item_count", "submitted_items", "unpriced_answers")
    batches = sa.table("batches", *map(sa.column, of_batches), schema=schema)
    answered = batches.c.item_count - batches.c.submitted_items
    op.execute(
        batches.update()
        .where(batches.c.status == "completed", answered > 0)
        .values(unpriced_answers=answered)
    )
    _add_caps(schema)


def _add_caps(schema: str | None) -> None:
    for name in ("reserved_prompts", "reserved_answer"):
        op.add_column("submission_intents", _count(name), schema=schema)
    op.create_table(
        "caps",
        sa.Column("scope", sa.Text(), primary_key=True),
        sa.Column("measure", sa.String(32), primary_key=True),
        sa.Column("per", sa.String(32), primary_key=True),
        sa.Column("given", sa.BigInteger()),
        sa.Column("raised", sa.BigInteger()),
        schema=schema,
    )
    op.create_table(
        "run_labels",
        sa.Column(
            "run_key",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            primary_key=True,
            autoincrement=False,
        ),
        sa.Column("label", sa.Text(), primary_key=True),
        schema=schema,
        sqlite_with_rowid=False,
    )
    op.create_index("run_labels_by_label", "run_labels", ["label"], schema=schema)


def _count(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=False, server_default="0")
