"""Every table of the control database, for SQLite and Postgres alike.

Rows that are written often are narrow, and large values are written once. An item's row in ``items`` changes when a
submission claims it and when it ends, while its texts are in ``item_contents`` (at ingestion) and ``item_results`` (at
its end), which are append-only. No index of ``items`` covers the columns that change at the end, so that Postgres can
put the new version of the row beside the old one without updating indexes. A run's counts are on its own row and
updated by every transaction that changes items, so that a summary costs the same for ten items and for ten million.

Times are seconds since the epoch by the database's clock. JSON is kept as text, see ``columns``. There are no foreign
keys on the item tables: each insert would be slowed by a check of something that the code guarantees.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    DDL,
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    event,
    literal_column,
)

from batchor_core.core import lifecycle
from batchor_core.core.enums import ItemStatus
from batchor_core.core.lifecycle import CLAIMABLE
from batchor_core.core.usage import TOKEN_KINDS
from batchor_core.storage.state_literals import state_literals

metadata = MetaData()

# SQLite numbers rows by itself for INTEGER PRIMARY KEY only
BigKey = BigInteger().with_variant(Integer, "sqlite")


def _index_where(name: str, column: Column[Any], *columns: Column[Any]) -> Index:
    """An index of the rows in which ``column`` is set."""
    is_set = column.is_not(None)
    return Index(name, *columns, sqlite_where=is_set, postgresql_where=is_set)


def _count(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default="0")


runs = Table(
    "runs",
    metadata,
    Column("run_key", BigKey, primary_key=True, autoincrement=True),
    Column("run_id", Text, nullable=False, unique=True),
    Column("created_at", Double, nullable=False),
    Column("config", Text, nullable=False),  # PersistedRunConfig without its extras, as JSON
    Column("extras", Text, nullable=False),
    Column("budget_key", Text),
    Column("control_state", String(32), nullable=False),
    Column("control_reason", Text),
    # of core.custom_ids; those of earlier builds are of the first format
    Column("custom_id_format", Integer, nullable=False, server_default="1"),
    # how many items stand where, and their estimated tokens; moved by deltas under the lock of this row
    *[_count(f"{status.value}_items") for status in ItemStatus],
    _count("queued_local_tokens"),
    _count("submitted_tokens"),
    _count("terminal_sequence"),
    *[_count(kind) for kind in TOKEN_KINDS],
    _count("orphan_batches"),
    # completed items that were not paid for: with answers of other runs, and of equal items of this one
    _count("reused_items"),
    _count("deduplicated_items"),
    # attempts that were asked with the reason why the answer before was bad, and the items that were answered well like that
    _count("repairs"),
    _count("repaired_items"),
    _count("saved"),  # picodollars that their answers have cost, as far as prices are known
    Column("reuse_scope_key", BigInteger),  # NULL: the run neither takes nor gives answers
    # how far the reading of the source has come; ingestion_complete is NULL until something was said about it
    Column("source_kind", Text),
    Column("source_ref", Text),
    Column("source_fingerprint", Text),
    _count("next_item_index"),
    Column("checkpoint_payload", Text),
    Column("ingestion_complete", Boolean),
    # the control plane's backoff
    _count("consecutive_failures"),
    _count("total_failures"),
    Column("backoff_sec", Double, nullable=False, server_default="0"),
    Column("next_retry_at", Double),
    Column("last_error_class", Text),
    Column("last_error_message", Text),
    # the run's place in the queue for its budget: core.admission.Place
    Column("waiting_since", Double),
    Column("waiting_need", BigInteger),
    Column("waiting_seen_at", Double),
    Column("exported_at", Double),
    Column("export_root", Text),
    # what its answers have cost: core.pricing
    _count("cost"),  # picodollars
    _count("unpriced_answers"),  # that are not in it
    Column("cost_notes", Text),  # JSON: what it leaves out, in words
)

# what the shared enqueue budget sums up: the runs of one key that have something in flight
IN_FLIGHT_RUNS = runs.c.queued_local_tokens + runs.c.submitted_tokens > literal_column("0")
Index(
    "runs_in_flight",
    runs.c.budget_key,
    sqlite_where=IN_FLIGHT_RUNS,
    postgresql_where=IN_FLIGHT_RUNS,
)
_index_where("runs_waiting", runs.c.waiting_since, runs.c.budget_key)

run_leases = Table(
    "run_leases",
    metadata,
    Column("run_key", BigKey, primary_key=True, autoincrement=False),
    Column("epoch", BigInteger, nullable=False, server_default="0"),
    Column("session", Text),  # NULL: the run has no driver
    Column("host", Text),
    Column("boot_id", Text),
    Column("pid", BigInteger),
    Column("pid_start", Text),
    Column("pid_namespace", Text),
    Column("expires_at", Double),
)

IN_SUBMISSION = "in_submission"
"""Stored as the status of an item that a driver's submission has taken: QUEUED_LOCAL until the submission has a batch, and
SUBMITTED from then on. A batch is so recorded without a touch to the tens of thousands of rows that are in it."""

CLAIMABLE_QUEUE = 1
TAKEN_QUEUE = 2
FOLLOWING_QUEUE = 3
QUEUES = {status.value: CLAIMABLE_QUEUE for status in CLAIMABLE} | {
    ItemStatus.QUEUED_LOCAL.value: TAKEN_QUEUE
}
"""By stored status, the queue that an item waits in: to be claimed, or, taken by hand through the documented methods, to be
sent. All others are in none; and an item that follows an equal one is in a third, whatever its status, see sql_following.py."""

items = Table(
    "items",
    metadata,
    Column("run_key", BigKey, primary_key=True, autoincrement=False),
    Column("item_index", BigInteger, primary_key=True, autoincrement=False),
    Column("item_id", Text, nullable=False),
    Column("status", String(32), nullable=False),  # of ItemStatus, or IN_SUBMISSION
    Column("queue", Integer),  # QUEUES says which for each status
    Column("attempt_count", Integer, nullable=False),
    Column("generation", Integer, nullable=False),
    # NULL: the one that core.custom_ids derives; else one that a caller of the documented methods chose
    Column("custom_id", Text),
    # the submission the item is in, or that brought its terminal answer; NULL while it waits
    Column("intent_key", BigInteger),
    Column("submission_tokens", BigInteger, nullable=False),
    Column("request_bytes", BigInteger, nullable=False),
    Column("terminal_sequence", BigInteger),
    Column("last_error", Text),  # of an item that is not terminal; a terminal one has it in item_results
    Column("cost", BigInteger),  # picodollars for the attempts before; NULL where no price is known
    Column("repairs", Integer),  # how often it was asked again with the reason; NULL: never
    sqlite_with_rowid=False,
)

# room for the next version of each row in its own page; as an argument of Table it needs SQLAlchemy 2.1
_leave_room = DDL("ALTER TABLE %(fullname)s SET (fillfactor = 50)")  # type: ignore[no-untyped-call]
event.listen(items, "after_create", _leave_room.execute_if(dialect="postgresql"))

# SQLite reads candidates from the index alone. Postgres would have to look whether each row is visible anyway, and
# attempt_count, which changes at the end, must be in none of its indexes
_queued = (items.c.run_key, items.c.queue, items.c.item_index)
_index_where(
    "items_queued",
    items.c.queue,
    *_queued,
    items.c.attempt_count,
    items.c.submission_tokens,
    items.c.request_bytes,
).ddl_if(dialect="sqlite")
_index_where("items_queued", items.c.queue, *_queued).ddl_if(dialect="postgresql")
_index_where("items_by_intent", items.c.intent_key, items.c.run_key, items.c.intent_key, items.c.item_index)
_index_where("items_by_given_custom_id", items.c.custom_id, items.c.run_key, items.c.custom_id)

item_contents = Table(
    "item_contents",
    metadata,
    Column("run_key", BigKey, primary_key=True, autoincrement=False),
    Column("item_index", BigInteger, primary_key=True, autoincrement=False),
    Column("item_id", Text, nullable=False),
    Column("metadata", Text),  # JSON; NULL is {}
    Column("prompt", Text, nullable=False),
    Column("system_prompt", Text),
    # a line without its custom_id, or with that of generation 0, see core/request_lines.py; and without the parts of this number
    # in line_parts, if there is a number; the prompts are empty then
    Column("request_line", LargeBinary),
    Column("parts_number", Integer),
    Column("content_address", LargeBinary),  # see core/request_lines.py
    sqlite_with_rowid=False,
)

# what an item asks in its next attempt instead of its own request: the same with a bad answer and the reason, see core/repair.py.
# Until it is answered the tokens and bytes of the item are those of this line; its own are kept here
repairs = Table(
    "repairs",
    metadata,
    Column("run_key", BigKey, primary_key=True, autoincrement=False),
    Column("item_index", BigInteger, primary_key=True, autoincrement=False),
    Column("request_line", LargeBinary, nullable=False),  # as in item_contents
    Column("parts_number", Integer),
    Column("own_tokens", BigInteger, nullable=False),
    Column("own_bytes", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

# here and not on items, each change of which would have to be entered into it
Index("item_contents_by_id", item_contents.c.run_key, item_contents.c.item_id, unique=True)

# what items were rendered to when they were stored, by chunk, see core/rendered.py; items of earlier builds are in none
rendered_chunks = Table(
    "rendered_chunks",
    metadata,
    Column("run_key", BigKey, primary_key=True, autoincrement=False),
    Column("first_index", BigInteger, primary_key=True, autoincrement=False),
    Column("item_count", BigInteger, nullable=False),
    *[
        Column(name, LargeBinary, nullable=False)
        for name in ("item_ids", "prompts", "system_prompts", "messages", "options", "metadata")
    ],
    sqlite_with_rowid=False,
)

# of rows that name a model of their own: sql_row_models.py
row_models = Table(
    "row_models",
    metadata,
    Column("run_key", BigKey, primary_key=True, autoincrement=False),
    Column("item_index", BigInteger, primary_key=True, autoincrement=False),
    Column("model", Text, nullable=False),
    sqlite_with_rowid=False,
)

# of submissions that were made of such rows
batch_models = Table(
    "batch_models",
    metadata,
    Column("intent_key", BigKey, primary_key=True, autoincrement=False),
    Column("run_key", BigInteger, nullable=False),
    Column("model", Text, nullable=False),
)

# what many request lines of a run have in common, see line_parts.py
line_parts = Table(
    "line_parts",
    metadata,
    Column("run_key", BigKey, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("head", LargeBinary, nullable=False),
    Column("tail", LargeBinary, nullable=False),
)

item_results = Table(
    "item_results",
    metadata,
    Column("run_key", BigKey, primary_key=True, autoincrement=False),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("item_index", BigInteger, nullable=False),
    Column("status", String(32), nullable=False),
    Column("attempt_count", Integer, nullable=False),
    Column("output_text", Text),
    Column("output_json", Text),  # JSON; NULL where text_is_json
    Column("text_is_json", Boolean, nullable=False),
    *[Column(kind, BigInteger) for kind in TOKEN_KINDS],  # all NULL: the provider did not say
    Column("error", Text),  # JSON
    Column("intent_key", BigInteger),
    # either where the raw response lies in the batch's kept file, or the response itself, zlib-compressed JSON
    Column("raw_is_error_file", Boolean),
    Column("raw_offset", BigInteger),
    Column("raw_length", BigInteger),
    Column("raw_response", LargeBinary),
    Column("output_data", LargeBinary),  # an answer that is bytes
    Column("cost", BigInteger),  # picodollars for all attempts of the item; NULL where no price is known
    # of an answer of an equal item: the item that was paid for, what it cost, and how old the answer is; and the item that the
    # index leads to, if this one is to take its place when its run is deleted
    Column("reused_run_id", Text),
    Column("reused_item_id", Text),
    Column("saved", BigInteger),  # picodollars
    Column("answered_at", Double),
    Column("reused_run_key", BigInteger),
    Column("reused_index", BigInteger),
    sqlite_with_rowid=False,
)
_index_where(
    "item_results_reusing",
    item_results.c.reused_run_key,
    item_results.c.reused_run_key,
    item_results.c.reused_index,
)

# whose answers may be reused by whom, by core.reuse.reuse_key
reuse_scopes = Table(
    "reuse_scopes",
    metadata,
    Column("scope_key", BigKey, primary_key=True, autoincrement=True),
    Column("reuse_key", String(64), nullable=False, unique=True),
)

# the item of a scope that asked for a content address last. The address is cut short to keep the index small and quick; the
# whole one is beside the item, and compared before anything is reused. Under the scope's number with a minus: the item with the
# answer before, where one was asked again
reuse_index = Table(
    "reuse_index",
    metadata,
    Column("scope_key", BigKey, primary_key=True, autoincrement=False),
    Column("short_address", BigInteger, primary_key=True, autoincrement=False),
    Column("run_key", BigInteger, nullable=False),
    Column("item_index", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

FAILED_RESULTS = item_results.c.status.in_(state_literals((ItemStatus.FAILED_PERMANENT,)))

Index(
    "item_results_failed",
    item_results.c.run_key,
    item_results.c.sequence,
    sqlite_where=FAILED_RESULTS,
    postgresql_where=FAILED_RESULTS,
)

# written through the documented record_request_artifacts only: the engine's own files are named by their submissions
request_pointers = Table(
    "request_pointers",
    metadata,
    Column("run_key", BigKey, primary_key=True, autoincrement=False),
    Column("item_index", BigInteger, primary_key=True, autoincrement=False),
    Column("artifact_path", Text, nullable=False),
    Column("line_number", Integer, nullable=False),
    Column("request_sha256", Text, nullable=False),
    sqlite_with_rowid=False,
)
Index("request_pointers_by_path", request_pointers.c.run_key, request_pointers.c.artifact_path)

submission_intents = Table(
    "submission_intents",
    metadata,
    Column("intent_key", BigKey, primary_key=True, autoincrement=True),
    Column("run_key", BigInteger, nullable=False),
    Column("local_batch_id", Text, nullable=False),
    Column("state", String(32), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("item_count", BigInteger, nullable=False),
    Column("submission_tokens", BigInteger, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("artifact_key", Text),
    Column("sha256", Text),
    Column("size_bytes", BigInteger, nullable=False, server_default="0"),
    Column("input_file_id", Text),
    Column("key_fingerprint", Text),
    Column("sending_at", Double),
    Column("fenced_at", Double),
    Column("clean_listings", Integer, nullable=False, server_default="0"),
    Column("next_check_at", Double),
    Column("last_error_class", Text),
    Column("server_date_skew", Double, nullable=False, server_default="0"),
    Column("uploaded_at", Double),
    # what its rows may cost at most, in picodollars: all their prompts, and the answer of each
    _count("reserved_prompts"),
    _count("reserved_answer"),
    UniqueConstraint("run_key", "local_batch_id", name="submission_intents_by_local_id"),
)
IN_DOUBT = submission_intents.c.state.in_(state_literals(lifecycle.IN_DOUBT))

Index(
    "submission_intents_in_doubt",
    submission_intents.c.run_key,
    submission_intents.c.state,
    sqlite_where=IN_DOUBT,
    postgresql_where=IN_DOUBT,
)

batches = Table(
    "batches",
    metadata,
    Column("intent_key", BigKey, primary_key=True, autoincrement=False),
    Column("run_key", BigInteger, nullable=False),
    Column("provider_batch_id", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("is_terminal", Boolean, nullable=False),
    Column("item_count", BigInteger, nullable=False),
    Column("submitted_items", BigInteger, nullable=False),  # that it still owns; moved by deltas
    Column("created_at", Double, nullable=False),
    Column("output_file_id", Text),
    Column("error_file_id", Text),
    Column("output_artifact_path", Text),
    Column("error_artifact_path", Text),
    Column("poll_failures", Integer, nullable=False, server_default="0"),
    Column("next_poll_at", Double, nullable=False, server_default="0"),
    Column("poll_error", Text),
    *[Column(kind, BigInteger) for kind in TOKEN_KINDS],
    # see core.lateness
    Column("due_at", Double),  # by when it should have ended
    Column("ended_at", Double),  # for a batch whose results are late: when the wait began
    Column("late_rows", BigInteger, nullable=False, server_default="0"),
    Column("looks", Integer, nullable=False, server_default="0"),
    Column("wait_reason", Text),
    Column("stated_completed", BigInteger),  # the most answered rows that were ever stated
    # what its answers have cost, as of runs, and the tokens that they state
    _count("cost"),
    _count("unpriced_answers"),
    *[_count(f"billed_{kind}") for kind in TOKEN_KINDS],
    UniqueConstraint("run_key", "provider_batch_id", name="batches_by_provider_id"),
)

# core.caps: limits in picodollars or rows, as the code says and as an operator has set them
caps = Table(
    "caps",
    metadata,
    Column("scope", Text, primary_key=True),
    Column("measure", String(32), primary_key=True),
    Column("per", String(32), primary_key=True),  # empty for all time
    Column("given", BigInteger),
    Column("raised", BigInteger),
)

# core.queue_limits: what refused batches have shown of an account and model
queue_limits = Table(
    "queue_limits",
    metadata,
    Column("budget_key", Text, primary_key=True),  # as of runs
    Column("tokens", BigInteger, nullable=False),
    Column("refused_at", Double, nullable=False),
    Column("refused_batch", Text, nullable=False),  # the submission that was refused last
)

# what caps may be for, of each run
run_labels = Table(
    "run_labels",
    metadata,
    Column("run_key", BigKey, primary_key=True, autoincrement=False),
    Column("label", Text, primary_key=True),
    sqlite_with_rowid=False,
)
Index("run_labels_by_label", run_labels.c.label)
