"""Writing the request file of a submission: the stored lines under the names of their attempts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import orjson

from batchor_core.core.custom_ids import marked
from batchor_core.core.models import PromptParts
from batchor_core.core.prompt_cache import cache_key, job_key
from batchor_core.core.request_lines import renamed
from batchor_core.runtime.drive import Drive
from batchor_core.runtime.lookup import wire_mark
from batchor_core.storage.session import RequestDraft, SubmissionRecord

_WRITE_BUFFER = 1 << 20


def write_requests(drive: Drive, submission: SubmissionRecord) -> str:
    """Write the request file, whole and synced or not at all."""
    assert submission.artifact_key is not None
    digest, size = hashlib.sha256(), 0
    with drive.artifacts.open_writer(submission.artifact_key) as file:
        mark = wire_mark(drive, submission.local_batch_id)
        for block in _blocks(drive, drive.session.drafts(local_batch_id=submission.local_batch_id), mark):
            digest.update(block)
            size += len(block)
            file.write(block)
    drive.session.mark_written(
        local_batch_id=submission.local_batch_id, sha256=digest.hexdigest(), size_bytes=size
    )
    return submission.artifact_key


def _blocks(drive: Drive, drafts: Iterator[RequestDraft], mark: str | None) -> Iterator[bytes]:
    buffer, job = bytearray(), _job_key(drive)
    for draft in drafts:
        line = request_line(drive, draft, mark)
        buffer += (
            line if job is None else drive.api.with_cache_key(line, key=cache_key(job, draft.item_index))
        )
        buffer += b"\n"
        if len(buffer) >= _WRITE_BUFFER:
            yield bytes(buffer)
            buffer.clear()
    yield bytes(buffer)


def _job_key(drive: Drive) -> str | None:
    """What the cache keys of the run's rows begin with; None where there are none."""
    if not drive.api.limits.has_cache_keys:
        return None
    config = drive.config.provider_config
    shaping = config.to_public_payload().items()
    return job_key(
        {name: value for name, value in shaping if name not in config.operational_settings},
        drive.config.output_schema,
    )


def request_line(drive: Drive, draft: RequestDraft, mark: str | None) -> bytes:
    """The line as it is sent: the stored one, or built from the stored prompts."""
    custom_id = draft.custom_id if mark is None else marked(draft.custom_id, mark=mark)
    if draft.request_line is not None:
        return draft.request_line if mark is None else renamed(draft.request_line, draft.custom_id, custom_id)
    prompt = PromptParts(draft.prompt, draft.system_prompt)
    return orjson.dumps(drive.api.request_line(custom_id=custom_id, prompt=prompt, output=drive.wanted))
