"""Items that are given again: what is stored of one is never changed, so it has to be the same."""

from __future__ import annotations

from typing import Any, NamedTuple

from batchor_core.core.exceptions import RunStateError
from batchor_core.storage.columns import decode_optional_json, encode_optional_json
from batchor_core.storage.state import MaterializedItem


class StoredContents(NamedTuple):
    """What of an item is stored once and never changed; its metadata as JSON text, None being {}."""

    metadata: str | None
    prompt: str
    system_prompt: str | None
    request_line: bytes | None

    def check_same(self, run_id: str, item: MaterializedItem) -> None:
        """Refuse an item that would not be stored like this.

        Raises:
            RunStateError: It has another prompt, request line or metadata.
        """
        stored = (_read_back(self.metadata), *self[1:])
        new = (
            _read_back(item.metadata_json or encode_optional_json(item.metadata)),
            item.prompt,
            item.system_prompt,
            item.request_line,
        )
        for name, there, here in zip(self._fields, stored, new, strict=True):
            if there != here:
                raise RunStateError(
                    run_id,
                    f"item {item.item_index} ({item.item_id!r}) is stored with another {name}. What is stored is never "
                    "changed: give the same again, or start a new run for the new content",
                )


def _read_back(metadata: str | None) -> Any:
    return decode_optional_json(metadata) or {}
