"""Stored results as rows: what a reader of results makes of their columns, and rows for stores that have records only.

Whoever passes results on (lines of a file, columns of a table) takes the JSON text of a row as it is. Only who wants values
decodes it.
"""

from __future__ import annotations

from binascii import a2b_base64

from batchor_core.core.enums import ItemStatus
from batchor_core.core.lazy_field import decode_later
from batchor_core.core.models import ItemFailure
from batchor_core.core.pricing import PICODOLLARS
from batchor_core.core.results import ReusedFrom
from batchor_core.core.types import JSONObject
from batchor_core.core.usage import TokenUsage, counts
from batchor_core.storage.columns import (
    STATUS,
    STATUS_NAME,
    answer_json,
    decode_answer,
    decode_failure,
    decode_json,
    decode_optional_json,
    encode_failure,
    encode_json,
    encode_optional_json,
    pack_response,
    plain_json,
    raw_columns,
    unpack_response,
    unpacked,
    usage_columns,
    usage_from_columns,
)
from batchor_core.storage.records import PersistedItemRecord, RawResponseRef, ResultRow


def status_of(row: ResultRow) -> ItemStatus:
    """Where the item stands."""
    return STATUS[row.status]


def answer_text(row: ResultRow) -> str:
    """What a model is read from: the answer's own words, or its value as JSON where they were not kept."""
    return (row.output_text if row.output_text is not None else row.output_json) or ""


def output_json(row: ResultRow) -> str | bytes | None:
    """JSON of the answer's value."""
    if row.text_is_json and row.output_text is not None:
        return answer_json(row.output_text)
    return None if row.output_json is None else plain_json(row.output_json)


def failed_text(row: ResultRow) -> str | None:
    """The words of a failed answer, such as a refusal; None for a good one, whatever it is stored as."""
    return row.output_text if row.error is not None else None


def answer_bytes(row: ResultRow) -> bytes | None:
    """The bytes of a good answer that is stored as bytes. A store with the documented methods alone has them as a text."""
    if row.error is not None:
        return None
    if row.output_data is not None:
        return row.output_data
    return None if row.output_text is None else a2b_base64(row.output_text)


def body_text(row: ResultRow) -> str | None:
    """The JSON of a good answer that is a body."""
    return None if row.error is not None else row.output_text


def response_json(row: ResultRow) -> str | None:
    """JSON of the raw response, where the row holds it itself."""
    stored = unpacked(row.raw_response)
    return None if stored is None else plain_json(stored)


def error_json(row: ResultRow) -> str | None:
    """JSON of :func:`failure_of`."""
    return None if row.error is None else plain_json(row.error)


def metadata_json(row: ResultRow) -> str:
    """JSON of :func:`metadata_of`."""
    return plain_json(row.metadata)


def metadata_of(row: ResultRow) -> JSONObject:
    """The item's metadata, a fresh copy each time."""
    found: JSONObject = decode_json(row.metadata)
    return found


def failure_of(row: ResultRow) -> ItemFailure | None:
    """Why the item failed."""
    return decode_failure(row.error)


def usage_of(row: ResultRow) -> TokenUsage | None:
    """Tokens of the last answer."""
    return usage_from_columns(*counts(row))


def cost_usd(row: ResultRow) -> float | None:
    """US dollars for the item's attempts."""
    return None if row.cost is None else row.cost / PICODOLLARS  # correctly rounded, as both are integers


def reused_from(row: ResultRow) -> ReusedFrom | None:
    """Whose answer it is, if the item was not sent itself."""
    if row.reused_run_id is None or row.reused_item_id is None:
        return None
    return ReusedFrom(row.reused_run_id, row.reused_item_id)


def record_of(row: ResultRow) -> PersistedItemRecord:
    """The documented record of a row."""
    raw = None
    if row.raw_offset is not None and row.raw_length is not None:
        raw = RawResponseRef(bool(row.raw_is_error_file), row.raw_offset, row.raw_length)
    record = PersistedItemRecord(
        row.item_id,
        row.item_index,
        STATUS[row.status],
        row.attempt_count,
        metadata_of(row),
        row.sequence,
        row.output_text,
        decode_optional_json(row.output_json),
        unpack_response(row.raw_response),
        failure_of(row),
        usage_of(row),
        row.raw_artifact_path,
        raw,
        row.output_data,
        row.cost,
        reused_from(row),
        row.saved,
    )
    if row.text_is_json and row.output_text is not None:
        decode_later(record, "output_json", decode_answer, row.output_text)
    return record


def row_of(record: PersistedItemRecord) -> ResultRow:
    """The row of a documented record."""
    return ResultRow(
        record.terminal_result_sequence,
        record.item_id,
        record.item_index,
        STATUS_NAME[record.status],
        record.attempt_count,
        encode_json(record.metadata),
        record.output_text,
        encode_optional_json(record.output_json),
        False,
        None if record.error is None else encode_failure(record.error),
        *usage_columns(record.usage),
        record.raw_artifact_path,
        *raw_columns(record.raw),
        pack_response(record.raw_response),
        record.output_data,
        record.cost,
        None if record.reused_from is None else record.reused_from.run_id,
        None if record.reused_from is None else record.reused_from.item_id,
        record.saved,
    )
