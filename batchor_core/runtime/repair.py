"""Asking rows again with the reason why their answers were bad (``RetryPolicy.repair``).

The request is the row's own, as it is stored, with the answer and the errors as further turns. It is built while the answer is
collected and stored in the transaction that sends the row back: after a crash it is there with the row, whatever has become of
the provider's files. The row's own request, and so its content address, stay what they are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import orjson

from batchor_core.core.custom_ids import most_chars
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.models import BatchJob
from batchor_core.core.outputs import ModelOutput
from batchor_core.core.repair import can_be_repaired, reply_to
from batchor_core.core.request_lines import PLACEHOLDERS, Frames, longest_line, named_line
from batchor_core.core.types import BatchRequestLine
from batchor_core.providers.api import BatchLimits
from batchor_core.runtime.drive import Drive
from batchor_core.runtime.engine import log
from batchor_core.runtime.ingest import Requests, tokens_of
from batchor_core.runtime.stored_rows import stored_rows
from batchor_core.storage.records import ItemFailureRecord, NextRequest, StoredItem
from batchor_core.storage.state import StateStore

_BASE64 = re.compile(rb"[A-Za-z0-9+/]{1024,}")
"""Images and the like in a request. No text is as long without a space."""


def check_repair(job: BatchJob[Any, Any], limits: BatchLimits, store: StateStore) -> None:
    """Refuse a job whose rows can't be asked again with the reason.

    Raises:
        InvalidInputError: It has no model, or the provider or the store can't do it.
    """
    if not job.retry_policy.repair:
        return
    if not isinstance(job.output_spec, ModelOutput):
        raise InvalidInputError(
            "RetryPolicy.repair asks rows again whose answers the job's model rejects, and the job has no model; give it "
            "structured_output, or repair=0"
        )
    if not limits.can_continue:
        raise InvalidInputError(
            f"the provider {job.provider_config.provider_kind} can't ask again with the answer and the reason: it has no method "
            "continued_line(); give RetryPolicy(repair=0)"
        )
    if not store.supports_leases:
        raise InvalidInputError(
            f"{type(store).__name__} can't store the requests that ask again with the reason; give RetryPolicy(repair=0), or use "
            "a built-in store"
        )


def with_reasons(
    drive: Drive, failures: Sequence[ItemFailureRecord], indexes: Mapping[str, int]
) -> list[ItemFailureRecord]:
    """Failures with what their rows ask next, where that is another request than their own.

    Args:
        drive: The run.
        failures: What was wrong with the answers.
        indexes: The rows' indexes by custom_id.
    """
    most = drive.config.retry_policy.repair
    bad = {
        indexes[record.custom_id]: record
        for record in failures
        if most and record.count_attempt and can_be_repaired(record.error, record.output_text)
    }
    if not bad or not drive.api.limits.can_continue:
        return list(failures)
    try:
        asked = _requests(drive, bad, most)
    except Exception:  # of the provider's method: what was answered and paid for is stored all the same
        log.exception("rows of run %s can't be asked again with the reason", drive.run_id)
        return list(failures)
    return [replace(record, next_request=asked.get(record.custom_id)) for record in failures]


def _requests(drive: Drive, bad: Mapping[int, ItemFailureRecord], most: int) -> dict[str, NextRequest]:
    """What rows ask next, by custom_id."""
    built = [
        one
        for item in stored_rows(drive, sorted(bad))
        if (one := _continued(drive, item, bad[item.item_index]))
    ]
    encoded = [one.encoded for one in built]
    made = Requests([one.line for one in built], [one.stored for one in built], [], encoded)
    tokens = tokens_of(drive, made)
    size = drive.batch_size()
    return {
        one.custom_id: NextRequest(one.stored, count, one.size_bytes, most)
        for one, count in zip(built, tokens, strict=True)
        # one that no batch has room for would fail the row: it is asked as it was instead
        if one.size_bytes + size.row_bytes <= size.max_file_bytes and not 0 < size.max_tokens < count
    }


class _Continued(NamedTuple):
    custom_id: str
    line: BatchRequestLine
    stored: bytes
    size_bytes: int
    encoded: int


def _continued(drive: Drive, item: StoredItem, record: ItemFailureRecord) -> _Continued | None:
    """A row's request with the answer and the reason; None where it can't be made."""
    if item.request_line is None or record.output_text is None:
        return None
    own: Any = orjson.loads(named_line(item.request_line, PLACEHOLDERS[0], is_first=False))
    line = drive.api.continued_line(own, answer=record.output_text, reply=reply_to(record.error))
    apart = Frames(str(drive.config.provider_config.provider_kind)).apart(line)
    if apart is None:
        return None
    frame, body = apart
    stored = frame.around(orjson.dumps(body))
    name_chars = most_chars(item.item_id, item.item_index)
    encoded = sum(map(len, _BASE64.findall(stored)))
    return _Continued(record.custom_id, line, stored, longest_line(stored, name_chars), encoded)
