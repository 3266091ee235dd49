"""What items were rendered to is kept by chunk, with each run the format of its custom_ids, with each item a content address.

Frozen once it is released: later changes of ``schema.py`` get revisions of their own.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Bring the tables of 0002 here, with what is in them."""
    schema = (
        op.get_context().version_table_schema
    )  # Alembic's own operations know nothing of schema translation
    _add_rendered_chunks(schema)
    _keep_custom_id_format(schema)
    op.add_column("item_contents", sa.Column("content_address", sa.LargeBinary()), schema=schema)


def _add_rendered_chunks(schema: str | None) -> None:
    op.create_table(
        "rendered_chunks",
        sa.Column("run_key", _KEY, autoincrement=False, nullable=False),
        sa.Column("first_index", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("item_count", sa.BigInteger(), nullable=False),
        sa.Column("item_ids", sa.LargeBinary(), nullable=False),
        sa.Column("prompts", sa.LargeBinary(), nullable=False),
        sa.Column("system_prompts", sa.LargeBinary(), nullable=False),
        sa.Column("metadata", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("run_key", "first_index"),
        schema=schema,
        sqlite_with_rowid=False,
    )


def _keep_custom_id_format(schema: str | None) -> None:
    op.add_column(
        "runs", sa.Column("custom_id_format", sa.Integer(), nullable=False, server_default="1"), schema=schema
    )
