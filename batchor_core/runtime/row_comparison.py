"""Whether a job that is started again asks what is stored: the same items, prompts and metadata.

All rows are read and rendered, which takes neither a provider nor a request line, and compared chunk by chunk with the digests
that were stored with them. Where digests differ, what is stored of the items decides, and names the first one that is
different; so it does for rows of earlier builds, which have no digests.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence, Sized
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, TypeAlias, assert_never

import orjson

from batchor_core.core.exceptions import InvalidInputError, RunItemsMismatchError
from batchor_core.core.models import BatchItem, BatchJob, PromptParts
from batchor_core.core.rendered import PROMPT_FIELDS, RENDERED_FIELDS, RenderedChunk
from batchor_core.core.request_lines import PLACEHOLDERS, Frames, is_whole
from batchor_core.core.types import BatchRequestLine, JSONObject
from batchor_core.runtime.engine import CHUNK
from batchor_core.runtime.ingest import Reader, is_read_once
from batchor_core.runtime.local_files import with_contents
from batchor_core.runtime.rendering import Asked, ask
from batchor_core.sources.rows import LINEAGE_KEY
from batchor_core.storage.line_parts import custom_id_in
from batchor_core.storage.records import IngestCheckpoint, StoredItem
from batchor_core.storage.state import StateStore

log = logging.getLogger("batchor_core")

OnChange: TypeAlias = Literal["refuse", "keep"]
"""What ``start()`` does if the job's rows are not those that are stored: refuse, or keep the stored ones without a look."""

BuildLine: TypeAlias = Callable[[str, PromptParts], BatchRequestLine]
"""Makes the request line of a custom_id and a prompt."""


def check_on_change(on_change: str) -> OnChange:
    """Refuse a word that is neither."""
    match on_change:
        case "refuse" | "keep":
            return on_change
        case _:
            raise InvalidInputError(f"on_change={on_change!r} must be 'refuse' or 'keep'")


@dataclass(slots=True)
class KnownRows:
    """How far the stored rows of a run are known to be those of the job that this process has.

    Another driver may store rows too, by a job that need not be the same: they are compared when they are seen.

    Attributes:
        job: The job.
        on_change: What to do about rows that differ.
        count: So many rows are known, from the first one on.
        is_settled: There is nothing left to compare, or no way to.
    """

    job: BatchJob[Any, Any]
    on_change: OnChange
    count: int = 0
    is_settled: bool = False

    @classmethod
    def of_new_run(cls, job: BatchJob[Any, Any]) -> KnownRows:
        """Of a run that has no rows yet."""
        return cls(job, "refuse", is_settled=is_read_once(job.items))

    def note_own(self, reader: Reader) -> None:
        """What this process has stored itself is known."""
        self.count = max(self.count, reader.next_item_index)
        self.is_settled = self.is_settled or reader.is_over

    def check(
        self,
        store: StateStore,
        run_id: str,
        checkpoint: IngestCheckpoint,
        build_line: Callable[[], BuildLine | None],
    ) -> None:
        """Compare the rows that are not known yet; raises RunItemsMismatchError."""
        if self.is_settled:
            return
        match self.on_change:
            case "keep":
                self.is_settled = True
            case "refuse":
                if checkpoint.next_item_index > self.count or checkpoint.ingestion_complete:
                    check_same_rows(
                        store, run_id, self.job, checkpoint, verified=self.count, build_line=build_line
                    )
                self.count = checkpoint.next_item_index
                self.is_settled = checkpoint.ingestion_complete or is_read_once(self.job.items)
            case _:
                assert_never(self.on_change)


def check_same_rows(
    store: StateStore,
    run_id: str,
    job: BatchJob[Any, Any],
    checkpoint: IngestCheckpoint,
    *,
    verified: int = 0,
    build_line: Callable[[], BuildLine | None],
) -> None:
    """Compare the job's rows with those that are stored. Reads the job's items from the first one on.

    Args:
        store: Where the run is kept.
        run_id: The run.
        job: The job as it is given now.
        checkpoint: How far the run has been read.
        verified: So many of its rows are known to be this job's.
        build_line: Returns the provider's way to build lines, None if there is no provider. Called only where digests
            differ or are missing.

    Raises:
        RunItemsMismatchError: Names the first difference.
        InvalidInputError: A row can no longer be rendered.
    """
    rows: Iterator[BatchItem[Any]] = iter(job.items)
    comparison = _Comparison(store, run_id, job, build_line)
    total = checkpoint.next_item_index
    for chunk in _chunks(store.get_rendered_chunks(run_id=run_id), total):
        read = list(islice(rows, chunk.item_count))
        if chunk.end > verified:
            comparison.compare(chunk, ask(read, chunk.first_index, job.build_prompt))
        if len(read) < chunk.item_count:
            there = chunk.first_index + len(read)
            why = " (they can be read only once: were they read before?)" if is_read_once(job.items) else ""
            raise _wrong_number(run_id, f"the job has {there:,} items{why}", checkpoint)
    if checkpoint.ingestion_complete and next(rows, None) is not None:
        given = f"{len(job.items):,}" if isinstance(job.items, Sized) else f"more than {total:,}"
        raise _wrong_number(run_id, f"the job has {given} items", checkpoint)


def check_same_builder(run_id: str, before: Callable[..., Any], now: Callable[..., Any]) -> None:
    """Compare two builders of prompts, where the items are used up and can't be rendered to compare the prompts.

    Raises:
        RunItemsMismatchError: They are not the same function with the same values around it.
    """
    if not _is_same_function(before, now):
        told = "the job has another build_prompt, and its items can be read only once, so its prompts can't be compared"
        raise RunItemsMismatchError(run_id, ["prompt"], told)


def _is_same_function(one: Any, other: Any) -> bool:
    code, other_code = getattr(one, "__code__", None), getattr(other, "__code__", None)
    if code is None or getattr(one, "__self__", None) is not None:
        return _is_same(one, other)
    # a lambda is made again each time the line with it runs
    return code == other_code and all(
        _is_same(getattr(one, name), getattr(other, name))
        for name in ("__closure__", "__defaults__", "__kwdefaults__")
    )


def _is_same(one: Any, other: Any) -> bool:
    try:
        return one is other or bool(one == other)
    except Exception:  # of a comparison in somebody's class; an array has no single answer
        return False


def _wrong_number(run_id: str, given: str, checkpoint: IngestCheckpoint) -> RunItemsMismatchError:
    stored = f"{checkpoint.next_item_index:,} items"
    if not checkpoint.ingestion_complete:
        stored = f"more than {stored}" if checkpoint.next_item_index else stored
    return RunItemsMismatchError(
        run_id, ["number of items"], f"{given}, but the run was started with {stored}"
    )


# --- what is compared ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Undigested:
    """A contiguous piece of the rows that were stored without digests, up to ``gap_end``."""

    first_index: int
    item_count: int
    gap_end: int

    @property
    def end(self) -> int:
        return self.first_index + self.item_count


def _chunks(known: Sequence[RenderedChunk], stored: int) -> Iterator[RenderedChunk | _Undigested]:
    """Pieces without gaps that cover the first ``stored`` rows, in order."""
    position = 0
    for chunk in known:
        if chunk.first_index < position or chunk.end > stored:
            continue  # overlapped, or stored by another driver since the checkpoint was read
        yield from _undigested(position, chunk.first_index)
        yield chunk
        position = chunk.end
    yield from _undigested(position, stored)


def _undigested(start: int, end: int) -> Iterator[_Undigested]:
    for first_index in range(start, end, CHUNK):
        yield _Undigested(first_index, min(CHUNK, end - first_index), end)


# --- comparing -------------------------------------------------------------------------------------------------------


class _Comparison:
    """Compares the chunks of a job with what is stored of them."""

    def __init__(
        self,
        store: StateStore,
        run_id: str,
        job: BatchJob[Any, Any],
        build_line: Callable[[], BuildLine | None],
    ) -> None:
        self._store, self._run_id, self._job = store, run_id, job
        self._get_build_line = build_line
        self._has_warned = False
        self._gap: Iterator[StoredItem] = iter(())
        self._gap_at = -1

    def compare(self, chunk: RenderedChunk | _Undigested, asked: Asked) -> None:
        """Raise if the items, of which there may be fewer, are not those of the chunk."""
        if isinstance(chunk, _Undigested):
            stored = self._undigested(chunk)
            self._look(chunk, asked, stored, ["metadata", "prompt"], by_digest=False)
        elif suspected := chunk.differs_in(asked.digest()):
            stored = self._store.iter_stored_items(
                run_id=self._run_id, first_index=chunk.first_index, count=chunk.item_count
            )
            self._look(chunk, asked, stored, suspected, by_digest=True)

    def _undigested(self, chunk: _Undigested) -> Iterator[StoredItem]:
        """The stored items of a piece. A store may have to scan all items, so all pieces are read at once."""
        if self._gap_at != chunk.first_index:
            self._gap = self._store.iter_stored_items(
                run_id=self._run_id,
                first_index=chunk.first_index,
                count=chunk.gap_end - chunk.first_index,
            )
        self._gap_at = chunk.end
        return islice(self._gap, chunk.item_count)

    def _look(
        self,
        chunk: RenderedChunk | _Undigested,
        asked: Asked,
        stored: Iterator[StoredItem],
        suspected: Sequence[str],
        *,
        by_digest: bool,
    ) -> None:
        """Compare with what is stored."""
        prompts = [name for name in suspected if name in PROMPT_FIELDS]
        build_line = self._get_build_line() if prompts else None
        first: dict[str, int] = {}
        unknown = 0
        for place, (there, item) in enumerate(zip(stored, asked.items, strict=False)):
            if there.item_id != item.item_id:
                raise self._other_id(there, item.item_id)
            if "metadata" in suspected and _own(there.metadata) != _own(orjson.loads(asked.metadata[place])):
                first.setdefault("metadata", place)
            is_same = _asks_the_same(there, asked.prompts[place], build_line) if prompts else True
            unknown += is_same is None
            if is_same is False:
                for name in prompts:
                    first.setdefault(name, place)
        if first:
            raise self._mismatch(asked, first)
        if unknown and by_digest and len(asked.items) == chunk.item_count:
            raise self._mismatch_somewhere(asked, prompts)
        if unknown and not by_digest:
            self._warn(chunk.first_index)

    def _other_id(self, there: StoredItem, here: str) -> RunItemsMismatchError:
        told = f"item {there.item_index} was {there.item_id!r} when the run was started, and is {here!r} now"
        return RunItemsMismatchError(
            self._run_id, ["item_id"], told, item_index=there.item_index, item_id=there.item_id
        )

    def _mismatch(self, asked: Asked, first: dict[str, int]) -> RunItemsMismatchError:
        place = min(first.values())
        fields = [name for name in RENDERED_FIELDS if first.get(name) == place]
        item, index = asked.items[place], asked.first_index + place
        told = f"item {index} ({item.item_id!r}) has {_another(fields)} than when the run was started"
        again = ask([item], index, self._job.build_prompt)
        if again.prompts[0] != asked.prompts[place]:
            told += "; build_prompt has just made two different prompts of it, one after the other"
        return RunItemsMismatchError(self._run_id, fields, told, item_index=index, item_id=item.item_id)

    def _mismatch_somewhere(self, asked: Asked, fields: Sequence[str]) -> RunItemsMismatchError:
        where = f"one of the items {asked.first_index} to {asked.end - 1}"
        told = f"{where} has {_another(fields)} than when the run was started"
        return RunItemsMismatchError(self._run_id, fields, told)

    def _warn(self, first_index: int) -> None:
        if not self._has_warned:
            self._has_warned = True
            log.warning(
                "run %s: from item %d on, there are no stored prompts to compare the job's with; ids and metadata are the same",
                self._run_id,
                first_index,
            )


def _own(metadata: JSONObject) -> JSONObject:
    """Metadata without the row's location, since files may be moved."""
    return {key: value for key, value in metadata.items() if key != LINEAGE_KEY}


_PLURAL = ("messages", "options", "metadata")


def _another(fields: Sequence[str]) -> str:
    names = (f"other {name}" if name in _PLURAL else f"another {name.replace('_', ' ')}" for name in fields)
    return " and ".join(names)


def _asks_the_same(there: StoredItem, prompt: PromptParts, build_line: BuildLine | None) -> bool | None:
    """Whether an item's prompt is the stored one; None if the stored data doesn't show it."""
    if there.prompt:  # kept by a store that has no place for more, see ThirdPartySession
        if prompt.features:
            return False
        return (there.prompt, there.system_prompt) == (prompt.prompt, prompt.system_prompt)
    if there.request_line is None or build_line is None:
        return None
    prompt = with_contents(prompt)
    if is_whole(there.request_line):
        custom_id = custom_id_in(there.request_line)
        return (
            None if custom_id is None else orjson.dumps(build_line(custom_id, prompt)) == there.request_line
        )
    apart = Frames("").apart(build_line(PLACEHOLDERS[0], prompt))
    if apart is None:
        return False
    frame, body = apart
    return frame.around(orjson.dumps(body)) == there.request_line
