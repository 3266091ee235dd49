"""Whether an uploaded input file can be used yet: what an error says of one that is not there, or not processed, *yet*.

For some moments after an upload a provider may not find the file that it has just taken, and some servers process a file
for minutes before a batch can be made of it. Nothing was created then, and the same request works a little later. What
servers call it differs, so this is judged by their words, and here alone: for answers to a create and for batches that
fail their validation.
"""

from __future__ import annotations

import re
from typing import Any

from batchor_core.core.exceptions import ProviderError, ProviderErrorKind
from batchor_core.providers.openai.records import read

_CODES = frozenset({"file_not_found", "file_not_ready", "file_not_processed", "input_file_not_found"})
_FILE = re.compile(r"\bfiles?\b|\bfile[-_ ]?id\b|\bfile-\w|\bassistant-\w|\binput_file", re.IGNORECASE)
_NOT_THERE = re.compile(
    r"(can(no|')t|could ?n(o|')t|unable to|failed to) (be )?(find|found|locate)"
    r"|\b(can ?not|can't|could ?n(o|')t|unable to|failed to) (yet )?(be )?(read|download|fetch|retrieve|access|accessed|open|load|use)"
    r"|\berror (while |when )?(downloading|fetching|loading|opening|reading|retrieving)\b"
    r"|\b(unknown|missing|invalid) (input[_ ])?file|\bfile([ _]id)? is missing|\breplicat"
    r"|\bno such\b|\bnot (be )?found\b|\b(does|do) ?n(o|')t exist|\bdoes not have access\b",
    re.IGNORECASE,
)
_STATE = r"(processed|ready|available|uploaded|completed?|finished|succeeded|terminal)"
_NOT_DONE = re.compile(
    rf"(\bnot|n't) (yet )?(been )?(fully )?(in )?(an? |the )?(valid )?['\"]?{_STATE}"
    r"|\b(still|currently|being) (being )?['\"]?(process|pending|upload|import|validat|running)|\b(pre)?processing in progress|\bis pending\b"
    r"|\bin progress\b|\bincomplete\b|\bunavailable\b|\bis locked\b|\bwait(ing)? (for|until)\b"
    r"|\b(status|state)\b.{0,20}\b(pending|uploaded|processing|running|not ?running|queued)\b"
    r"|['\"]?\b(pending|processing|not ?running|queued)['\"]? (status|state)\b"
    rf"|\b(must|has to|needs? to) (have )?be(en)? .{{0,20}}{_STATE}",
    re.IGNORECASE,
)
_OF_THE_MODEL = re.compile(r"^\W*(the )?model\b", re.IGNORECASE)
_NEVER = re.compile(
    r"\b(expired|deleted|purpose|too large|invalid file format|invalid json|unsupported|extension)\b"
    r"|\bline \d|\b(duplicate|deployment|vector store|files api|access to (batch )?file processing)\b",
    re.IGNORECASE,
)


def is_file_not_ready(*, code: str, param: str, message: str) -> bool:
    """Whether a refused create, or a batch that failed as a whole, only came too early for its input file."""
    message = message.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    if _NEVER.search(message) or _OF_THE_MODEL.search(message):
        return False
    if code in _CODES:
        return True
    names_file = param in ("file_id", "input_file_id") or bool(_FILE.search(message))
    return names_file and bool(_NOT_THERE.search(message) or _NOT_DONE.search(message))


_PENDING = frozenset({"pending", "running", "notrunning", "processing", "uploading", "importing", "queued"})
"""Statuses of a file that some servers process before a batch can be made of it. OpenAI's own have none of these."""

_REJECTED = frozenset({"error", "failed", "deleted", "canceled", "cancelled"})


def is_ready(answer: Any, action: str) -> bool | None:
    """Whether a batch can be made of a file, by what the server says of it; None where it says nothing that tells.

    Raises:
        ProviderError: The server has rejected the file.
    """
    status = str(read(answer, "status") or "").lower()
    if status in _REJECTED:
        details = read(answer, "status_details")
        raise ProviderError(
            f"{action}: the server has rejected the input file: status {status}"
            + (f", {details}" if isinstance(details, str) and details else ""),
            kind=ProviderErrorKind.BAD_REQUEST,
            error_class="input_file_rejected",
            not_performed=True,
        )
    return False if status in _PENDING else True if status == "processed" else None
