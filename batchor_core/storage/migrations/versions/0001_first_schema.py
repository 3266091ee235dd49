"""The first schema.

Frozen: later changes of ``schema.py`` get revisions of their own.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create every table."""
    op.create_table(
        "batches",
        sa.Column("intent_key", _KEY, autoincrement=False, nullable=False),
        sa.Column("run_key", sa.BigInteger(), nullable=False),
        sa.Column("provider_batch_id", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("is_terminal", sa.Boolean(), nullable=False),
        sa.Column("item_count", sa.BigInteger(), nullable=False),
        sa.Column("submitted_items", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("output_file_id", sa.Text(), nullable=True),
        sa.Column("error_file_id", sa.Text(), nullable=True),
        sa.Column("output_artifact_path", sa.Text(), nullable=True),
        sa.Column("error_artifact_path", sa.Text(), nullable=True),
        sa.Column("poll_failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("next_poll_at", sa.Double(), server_default="0", nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=True),
        sa.Column("cached_tokens", sa.BigInteger(), nullable=True),
        sa.Column("output_tokens", sa.BigInteger(), nullable=True),
        sa.Column("reasoning_tokens", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("intent_key"),
        sa.UniqueConstraint("run_key", "provider_batch_id", name="batches_by_provider_id"),
    )
    op.create_table(
        "item_contents",
        sa.Column("run_key", _KEY, autoincrement=False, nullable=False),
        sa.Column("item_index", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("payload", sa.Text(), nullable=True),
        sa.Column("metadata", sa.Text(), nullable=True),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("system_prompt", sa.Text(), nullable=True),
        sa.Column("request_line", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("run_key", "item_index"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "item_results",
        sa.Column("run_key", _KEY, autoincrement=False, nullable=False),
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("item_index", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("attempt_count", sa.Integer(), nullable=False),
        sa.Column("output_text", sa.Text(), nullable=True),
        sa.Column("output_json", sa.Text(), nullable=True),
        sa.Column("text_is_json", sa.Boolean(), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=True),
        sa.Column("cached_tokens", sa.BigInteger(), nullable=True),
        sa.Column("output_tokens", sa.BigInteger(), nullable=True),
        sa.Column("reasoning_tokens", sa.BigInteger(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("intent_key", sa.BigInteger(), nullable=True),
        sa.Column("raw_is_error_file", sa.Boolean(), nullable=True),
        sa.Column("raw_offset", sa.BigInteger(), nullable=True),
        sa.Column("raw_length", sa.BigInteger(), nullable=True),
        sa.Column("raw_response", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("run_key", "sequence"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "item_results_failed",
        "item_results",
        ["run_key", "sequence"],
        unique=False,
        sqlite_where=sa.text("status IN ('failed_permanent')"),
        postgresql_where=sa.text("status IN ('failed_permanent')"),
    )
    op.create_table(
        "items",
        sa.Column("run_key", _KEY, autoincrement=False, nullable=False),
        sa.Column("item_index", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("item_id", sa.Text(), nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("attempt_count", sa.Integer(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("custom_id", sa.Text(), nullable=True),
        sa.Column("intent_key", sa.BigInteger(), nullable=True),
        sa.Column("submission_tokens", sa.BigInteger(), nullable=False),
        sa.Column("request_bytes", sa.BigInteger(), nullable=False),
        sa.Column("terminal_sequence", sa.BigInteger(), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("run_key", "item_index"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "items_by_given_custom_id",
        "items",
        ["run_key", "custom_id"],
        unique=False,
        sqlite_where=sa.text("custom_id IS NOT NULL"),
        postgresql_where=sa.text("custom_id IS NOT NULL"),
    )
    op.create_index("items_by_id", "items", ["run_key", "item_id"], unique=True)
    op.create_index(
        "items_claimable",
        "items",
        ["run_key", "item_index", "status", "attempt_count", "submission_tokens", "request_bytes"],
        unique=False,
        sqlite_where=sa.text("status IN ('pending', 'failed_retryable')"),
        postgresql_where=sa.text("status IN ('pending', 'failed_retryable')"),
    )
    op.create_index(
        "items_in_flight",
        "items",
        ["run_key", "intent_key", "item_index"],
        unique=False,
        sqlite_where=sa.text("status IN ('queued_local', 'submitted')"),
        postgresql_where=sa.text("status IN ('queued_local', 'submitted')"),
    )
    op.create_table(
        "request_pointers",
        sa.Column("run_key", _KEY, autoincrement=False, nullable=False),
        sa.Column("item_index", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("artifact_path", sa.Text(), nullable=False),
        sa.Column("line_number", sa.Integer(), nullable=False),
        sa.Column("request_sha256", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("run_key", "item_index"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "request_pointers_by_path", "request_pointers", ["run_key", "artifact_path"], unique=False
    )
    op.create_table(
        "run_leases",
        sa.Column("run_key", _KEY, autoincrement=False, nullable=False),
        sa.Column("epoch", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("session", sa.Text(), nullable=True),
        sa.Column("host", sa.Text(), nullable=True),
        sa.Column("boot_id", sa.Text(), nullable=True),
        sa.Column("pid", sa.BigInteger(), nullable=True),
        sa.Column("pid_start", sa.Text(), nullable=True),
        sa.Column("pid_namespace", sa.Text(), nullable=True),
        sa.Column("expires_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("run_key"),
    )
    op.create_table(
        "runs",
        sa.Column("run_key", _KEY, autoincrement=True, nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("config", sa.Text(), nullable=False),
        sa.Column("extras", sa.Text(), nullable=False),
        sa.Column("budget_key", sa.Text(), nullable=True),
        sa.Column("control_state", sa.String(length=32), nullable=False),
        sa.Column("control_reason", sa.Text(), nullable=True),
        sa.Column("pending_items", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("queued_local_items", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("submitted_items", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("completed_items", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("failed_retryable_items", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("failed_permanent_items", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("queued_local_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("submitted_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("terminal_sequence", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("cached_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("reasoning_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("orphan_batches", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("source_kind", sa.Text(), nullable=True),
        sa.Column("source_ref", sa.Text(), nullable=True),
        sa.Column("source_fingerprint", sa.Text(), nullable=True),
        sa.Column("next_item_index", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("checkpoint_payload", sa.Text(), nullable=True),
        sa.Column("ingestion_complete", sa.Boolean(), nullable=True),
        sa.Column("consecutive_failures", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("total_failures", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("backoff_sec", sa.Double(), server_default="0", nullable=False),
        sa.Column("next_retry_at", sa.Double(), nullable=True),
        sa.Column("last_error_class", sa.Text(), nullable=True),
        sa.Column("exported_at", sa.Double(), nullable=True),
        sa.Column("export_root", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("run_key"),
        sa.UniqueConstraint("run_id"),
    )
    op.create_index(
        "runs_in_flight",
        "runs",
        ["budget_key"],
        unique=False,
        sqlite_where=sa.text("queued_local_tokens + submitted_tokens > 0"),
        postgresql_where=sa.text("queued_local_tokens + submitted_tokens > 0"),
    )
    op.create_table(
        "submission_intents",
        sa.Column("intent_key", _KEY, autoincrement=True, nullable=False),
        sa.Column("run_key", sa.BigInteger(), nullable=False),
        sa.Column("local_batch_id", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=32), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("item_count", sa.BigInteger(), nullable=False),
        sa.Column("submission_tokens", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("artifact_key", sa.Text(), nullable=True),
        sa.Column("sha256", sa.Text(), nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("input_file_id", sa.Text(), nullable=True),
        sa.Column("key_fingerprint", sa.Text(), nullable=True),
        sa.Column("sending_at", sa.Double(), nullable=True),
        sa.Column("fenced_at", sa.Double(), nullable=True),
        sa.Column("clean_listings", sa.Integer(), server_default="0", nullable=False),
        sa.Column("next_check_at", sa.Double(), nullable=True),
        sa.Column("last_error_class", sa.Text(), nullable=True),
        sa.Column("server_date_skew", sa.Double(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("intent_key"),
        sa.UniqueConstraint("run_key", "local_batch_id", name="submission_intents_by_local_id"),
    )
    op.create_index(
        "submission_intents_in_doubt",
        "submission_intents",
        ["run_key", "state"],
        unique=False,
        sqlite_where=sa.text("state IN ('unknown', 'quarantined')"),
        postgresql_where=sa.text("state IN ('unknown', 'quarantined')"),
    )
