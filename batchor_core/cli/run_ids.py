"""The run id of a job without --run-id: the same command gives the same id, so that it continues the run instead of paying again.

It is made of what decides what is paid for: rows, prompts, model, schema, the provider's settings as they were typed, and the
server. How the results are written, how often is polled, and where the rows' file lies don't count. Settings count as they were
given, not as a version of this package completes them, so that an update in the middle of a run changes nothing.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from batchor_core.core.models import BatchJob
from batchor_core.sources.base import CheckpointedItemSource

_READABLE_CHARACTERS = 40
_DIGEST_BYTES = 6


def derived_run_id(
    rows: str,
    source: CheckpointedItemSource[Any],
    job: BatchJob[Any, Any],
    *,
    texts: Mapping[str, str | None],
    settings: Mapping[str, Any],
    mapping: Mapping[str, Any],
) -> str:
    """The run id.

    Args:
        rows: What the rows are called.
        source: Where they are.
        job: The job.
        texts: Its templates.
        settings: The provider's settings as they were given.
        mapping: What makes an item of a row.
    """
    identity, schema = source.source_identity(), job.output_schema()
    config = job.provider_config
    operational = config.operational_settings
    stated = {
        "rows": [identity.source_kind, identity.source_fingerprint],
        "mapping": mapping,
        "texts": texts,
        "provider": str(config.provider_kind),
        "server": (config.server_url() or "").rstrip("/"),
        "settings": {name: value for name, value in settings.items() if name not in operational},
        "output": job.output_spec.to_payload(),
        "schema": None if schema is None else [schema.name, schema.schema],
    }
    text = json.dumps(stated, sort_keys=True, ensure_ascii=True, default=str)
    digest = hashlib.blake2b(text.encode(), digest_size=_DIGEST_BYTES).hexdigest()
    return f"{_readable(rows)}-{digest}"


def _readable(rows: str) -> str:
    name = PurePath(rows.partition("?")[0]).name.partition(".")[0]
    plain = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-").lower()
    return plain[:_READABLE_CHARACTERS].rstrip("-") or "rows"
