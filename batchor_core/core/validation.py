"""Checks of names that end up in paths, in the provider's metadata or in SQL."""

from __future__ import annotations

import re
from collections.abc import Mapping

from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.json_limits import is_text

MAX_METADATA_PAIRS = 16  # https://platform.openai.com/docs/api-reference/batch/create
MAX_METADATA_KEY = 64
MAX_METADATA_VALUE = 512
ENGINE_METADATA_PAIRS = 3  # batchor_run_id, batchor_local_batch_id, batchor_attempt

MAX_RUN_ID = 200  # a path segment is at most 255 bytes, and suffixes are added to it
MAX_PATH_PART = 255

_RUN_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.=@+-]*")
_SCHEMA = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_SCHEMA_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def check_run_id(run_id: str) -> str:
    """Return ``run_id`` if it can name a folder on every system; it becomes one in exported bundles."""
    if (
        not isinstance(run_id, str)
        or not _RUN_ID.fullmatch(run_id)
        or len(run_id) > MAX_RUN_ID
        or run_id.endswith(".")
    ):
        raise InvalidInputError(
            f"run id {run_id!r} is not usable: use 1 to {MAX_RUN_ID} characters of A-Z a-z 0-9 _ . = @ + -, "
            "beginning with a letter, digit or underscore and not ending with a dot"
        )
    return run_id


def check_schema_identifier(schema: str) -> str:
    """Return ``schema`` if it is a plain SQL identifier of at most 63 characters."""
    if not isinstance(schema, str) or not _SCHEMA.fullmatch(schema):
        raise InvalidInputError(
            f"database schema {schema!r} is not usable: a letter or underscore, then up to 62 letters, digits, underscores"
        )
    return schema


def check_schema_name(name: str) -> str:
    """Return ``name`` if it can name a JSON schema at any provider."""
    if not isinstance(name, str) or not _SCHEMA_NAME.fullmatch(name):
        raise InvalidInputError(f"schema name {name!r} is not usable: 1 to 64 characters of A-Z a-z 0-9 _ -")
    return name


def check_batch_metadata(metadata: Mapping[str, str]) -> None:
    """Check a user's batch metadata against the provider's limits, less the pairs that the engine adds."""
    if not isinstance(metadata, Mapping):
        raise InvalidInputError(
            f"batch_metadata must be a dict of strings, not a {type(metadata).__name__}: {metadata!r}"
        )
    allowed = MAX_METADATA_PAIRS - ENGINE_METADATA_PAIRS
    if len(metadata) > allowed:
        raise InvalidInputError(f"batch_metadata has {len(metadata)} pairs; at most {allowed} are possible")
    for key, value in metadata.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise InvalidInputError(f"batch_metadata[{key!r}]: keys and values must be strings")
        if not is_text(key) or not is_text(value):
            raise InvalidInputError(
                f"batch_metadata[{key!r}] holds half of a surrogate pair; remove that character"
            )
        if not key or len(key) > MAX_METADATA_KEY:
            raise InvalidInputError(
                f"batch_metadata key {key!r} must have 1 to {MAX_METADATA_KEY} characters"
            )
        if len(value) > MAX_METADATA_VALUE:
            raise InvalidInputError(
                f"batch_metadata[{key!r}] has {len(value)} characters; at most {MAX_METADATA_VALUE}"
            )
        if key.startswith("batchor_"):
            raise InvalidInputError(
                f"batch_metadata key {key!r}: names beginning with batchor_ are the engine's"
            )


def check_artifact_key(key: str) -> tuple[str, ...]:
    """Return the parts of a relative artifact key, or refuse it.

    Refused: empty or absolute keys, ``.`` and ``..``, backslashes, drive letters, control characters, parts that are
    longer than a file name may be.
    """
    if not isinstance(key, str) or not key:
        raise InvalidInputError("an artifact key must be a non-empty string")
    parts = tuple(key.split("/"))
    for part in parts:
        if part in ("", ".", ".."):
            raise InvalidInputError(
                f"artifact key {key!r} must be relative, without empty, '.' or '..' parts"
            )
        if len(part.encode("utf-8", "surrogatepass")) > MAX_PATH_PART:
            raise InvalidInputError(f"artifact key {key[:80]!r}... has a part of over {MAX_PATH_PART} bytes")
    if (
        "\\" in key
        or ":" in parts[0]
        or any(ord(c) < 0x20 or ord(c) == 0x7F or 0xD800 <= ord(c) <= 0xDFFF for c in key)
    ):
        raise InvalidInputError(
            f"artifact key {key!r} holds a backslash, a drive letter or a control character"
        )
    return parts
