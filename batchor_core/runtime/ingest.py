"""Reading a job's items into the store: one transaction per chunk, rows and checkpoint together.

A crash between two chunks loses nothing and reads nothing twice: the checkpoint in the store is where the next reader
begins. Everything a request needs is decided here, once: the prompt, the finished request line, its size and its tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

from batchor_core.core.custom_ids import most_chars
from batchor_core.core.exceptions import (
    InvalidInputError,
    RunIngestionSourceRequiredError,
    SourceMismatchError,
)
from batchor_core.core.models import BatchItem, BatchItems, PromptBuilder
from batchor_core.core.parts import ENCODED_CHARS_PER_TOKEN, encoded_chars
from batchor_core.core.prompts import PromptFeature
from batchor_core.core.request_lines import PLACEHOLDERS, Frames, longest_line
from batchor_core.core.types import BatchRequestLine, JSONValue
from batchor_core.runtime.drive import Drive, JobInHand
from batchor_core.runtime.encoding import about, check_ids, encoded_request, named
from batchor_core.runtime.engine import CHUNK
from batchor_core.runtime.local_files import with_contents
from batchor_core.runtime.rendering import Asked
from batchor_core.runtime.repeated_ids import naming_rows
from batchor_core.runtime.reuse import has_address, reuse_terms
from batchor_core.sources.base import CheckpointedItemSource, SourceIdentity
from batchor_core.sources.fingerprint import split_options
from batchor_core.storage.records import IngestCheckpoint, MaterializedItem, request_bytes

_ITERABLE = SourceIdentity(source_kind="iterable", source_ref="", source_fingerprint="")


def first_checkpoint(items: BatchItems) -> IngestCheckpoint:
    """Where reading ``items`` begins, and what identifies them."""
    identity, start = _ITERABLE, None
    if isinstance(items, CheckpointedItemSource):
        identity, start = items.source_identity(), items.initial_checkpoint()
    return IngestCheckpoint(
        source_kind=identity.source_kind,
        source_ref=identity.source_ref,
        source_fingerprint=identity.source_fingerprint,
        checkpoint_payload=start,
    )


def check_same_source(run_id: str, items: BatchItems, stored: IngestCheckpoint) -> None:
    """Refuse to continue reading from another source.

    The path may differ, since files are moved; kind and content may not. Of an iterable that can be read again, nothing
    is lost as long as nothing of it is stored.

    Raises:
        SourceMismatchError: The source's kind or content is not the stored one.
        RunIngestionSourceRequiredError: The items are, or were, a plain iterable, which has no checkpoint to continue from.
    """
    was_iterable = stored.source_kind == _ITERABLE.source_kind
    if (
        was_iterable
        and stored.next_item_index == 0
        and not isinstance(items, CheckpointedItemSource | Iterator)
    ):
        return
    if was_iterable or not isinstance(items, CheckpointedItemSource):
        raise RunIngestionSourceRequiredError(run_id)
    identity = items.source_identity()
    if identity.source_kind != stored.source_kind:
        raise SourceMismatchError(
            run_id,
            f"it was started with a {stored.source_kind} source, but this is a {identity.source_kind} source",
        )
    if identity.source_fingerprint != stored.source_fingerprint:
        content, options = split_options(identity.source_fingerprint)
        stored_content, stored_options = split_options(stored.source_fingerprint)
        if content == stored_content:
            raise SourceMismatchError(
                run_id,
                f"{identity.source_ref} is read with {options or 'the default options'}, but was read with "
                f"{stored_options or 'the default options'} when the run started. Use the same options to resume, or start "
                "a new run id.",
            )
        raise SourceMismatchError(
            run_id,
            f"{'the query or its parameters' if identity.source_kind == 'sql' else 'the content'} of {identity.source_ref} "
            f"differs from that of {stored.source_ref} when the run started. Put the original back to resume, or start a new "
            "run id.",
        )


CHUNK_BYTES = 16 << 20
"""About the most bytes of requests that are stored, and held in memory, at a time; a single larger one is stored by itself."""


@dataclass(frozen=True, slots=True)
class SourceChunk:
    """Items as they were read and rendered, and the checkpoint after them."""

    asked: Asked
    next_checkpoint: JSONValue
    is_last: bool


class Reader:
    """Where this process stands in the items of one job.

    A chunk is handed out again until :meth:`kept` says that it is in the store, so that a failed transaction loses no
    row of an iterable that can be read once only.

    Attributes:
        items: What is read.
        build_prompt: Renders each item.
        next_item_index: The index of the next chunk's first item.
        is_broken: Reading raised. An iterator that has raised is at its end, which must not be taken for the items' end.
        is_over: The last chunk is in the store.
    """

    def __init__(self, items: BatchItems, build_prompt: PromptBuilder, checkpoint: IngestCheckpoint) -> None:
        self.items = items
        self.build_prompt = build_prompt
        self.next_item_index = checkpoint.next_item_index
        self.is_broken = self.is_over = False
        self._checkpoint = checkpoint.checkpoint_payload
        self._rows = _rows(items, checkpoint)
        self._read: list[tuple[BatchItem[Any], JSONValue]] = []
        self._chunk: SourceChunk | None = None

    def chunk(self) -> SourceChunk:
        """The next chunk, the same one until it is kept.

        Raises:
            InvalidInputError: An item can't be rendered. Its row is kept, and rendered again by the next call.
        """
        if self._chunk is None:
            self._chunk = self._next_chunk()
        return self._chunk

    def _next_chunk(self) -> SourceChunk:
        read, left, size = self._read, iter(list(self._read)), 0
        asked = Asked(self.next_item_index, [], [], [])
        checkpoint, is_last = self._checkpoint, False
        while len(asked.items) < CHUNK and size < CHUNK_BYTES:
            row = next(left, None)
            if row is None:
                self.is_broken = True
                row = next(self._rows, None)
                self.is_broken = False
                if row is None:
                    is_last = True
                    break
                read.append(row)
            item, checkpoint = row
            size += asked.add(item, self.build_prompt)
        return SourceChunk(asked, checkpoint, is_last)

    def kept(self) -> None:
        """The chunk is stored; continue with the next."""
        assert self._chunk is not None
        count = len(self._chunk.asked.items)
        self.next_item_index += count
        del self._read[:count]
        self._checkpoint = self._chunk.next_checkpoint
        self.is_over = self._chunk.is_last
        self._chunk = None


def _rows(items: BatchItems, checkpoint: IngestCheckpoint) -> Iterator[tuple[BatchItem[Any], JSONValue]]:
    if isinstance(items, CheckpointedItemSource):
        for row in items.iter_from_checkpoint(checkpoint.checkpoint_payload):
            yield row.item, row.next_checkpoint
    else:
        # what can be read once only stands behind the rows that were read of it
        skipped = 0 if is_read_once(items) else checkpoint.next_item_index
        for item in islice(items, skipped, None):
            yield item, None


def is_resumable(items: object, checkpoint: IngestCheckpoint) -> bool:
    """Whether reading goes on from the checkpoint, with a source that can tell whether it is the stored one."""
    return isinstance(items, CheckpointedItemSource) and checkpoint.source_kind != _ITERABLE.source_kind


def is_read_once(items: object) -> bool:
    """Whether items are gone once they have been read."""
    return isinstance(items, Iterator) or bool(getattr(items, "is_read_once", False))


@dataclass(slots=True)
class Intake:
    """What has been read since the last submission: enough for a batch, or not yet."""

    rows: int = 0
    size_bytes: int = 0
    tokens: int = 0

    def add(self, items: Sequence[MaterializedItem]) -> None:
        """Count a chunk."""
        self.rows += len(items)
        self.size_bytes += sum(request_bytes(item) for item in items)
        self.tokens += sum(item.submission_tokens for item in items)

    def clear(self) -> None:
        """A submission has taken what there was."""
        self.rows = self.size_bytes = self.tokens = 0


@dataclass(slots=True)
class Ingestion:
    """Reads chunk after chunk of one job into the store."""

    drive: Drive
    reader: Reader
    intake: Intake = field(default_factory=Intake)

    def step(self) -> bool:
        """Store one more chunk; False when that was the last."""
        chunk = self.reader.chunk()
        asked = chunk.asked
        stored = materialize(self.drive, asked)
        with naming_rows(self.reader.items):
            self.drive.session.append(
                stored,
                next_item_index=asked.end,
                checkpoint_payload=chunk.next_checkpoint,
                ingestion_complete=chunk.is_last,
                rendered=asked.digest(),
                reuse=reuse_terms(self.drive),
            )
        self.reader.kept()
        self.intake.add(stored)
        self.drive.emit("items_ingested", count=len(stored), next_item_index=self.reader.next_item_index)
        return not chunk.is_last

    def fills_a_batch(self) -> bool:
        """Whether enough has been read since the last submission to fill a batch to one of its limits."""
        full, intake = self.drive.batch_size(), self.intake
        return (
            intake.rows >= full.max_requests
            or intake.size_bytes + intake.rows * full.row_bytes >= full.max_file_bytes
            or 0 < full.max_tokens <= intake.tokens
        )


def materialize(job: JobInHand, asked: Asked) -> list[MaterializedItem]:
    """Turn rendered items into stored rows: request line and tokens; raises what :func:`requests_of` does."""
    made = requests_of(job, asked)
    models = models_of(job, asked)
    # a store without sessions of its own may not know of finished lines, so it gets the prompts to build them from
    keeps_lines = job.store.supports_leases
    return [
        MaterializedItem(
            item.item_id,
            index,
            item.payload,
            item.metadata,
            "" if keeps_lines else prompt.prompt,
            None if keeps_lines else prompt.system_prompt,
            request_line,
            tokens,
            metadata,
            longest_line(request_line, most_chars(item.item_id, index)),
            address,
            model,
        )
        for index, (item, prompt, metadata, request_line, address, tokens, model) in enumerate(
            zip(*asked[1:], made.stored, made.addresses, tokens_of(job, made), models, strict=True),
            asked.first_index,
        )
    ]


def models_of(job: JobInHand, asked: Asked) -> list[str | None]:
    """The models that items name, other than that of the job."""
    own_model = str(getattr(job.config.provider_config, "model", ""))
    known: set[str | None] = {None, own_model}
    for item, prompt in zip(asked.items, asked.prompts, strict=True):
        if prompt.options and prompt.model not in known:
            try:
                job.provider_config(prompt.model)  # its answers will be priced by this
            except InvalidInputError as error:
                raise about(item, error) from error
            known.add(prompt.model)
    return [None if prompt.model == own_model else prompt.model for prompt in asked.prompts]


def _check_features(job: JobInHand, asked: Asked) -> None:
    """Refuse prompt features that the request would silently leave out."""
    keeps_lines = job.store.supports_leases
    taken = job.api.limits.prompts
    if keeps_lines and taken.issuperset(PromptFeature):
        return
    for item, prompt in zip(asked.items, asked.prompts, strict=True):
        if not (prompt.messages or prompt.options):
            continue
        for feature in prompt.features:
            if feature not in taken:
                kind = job.config.provider_config.provider_kind
                raise InvalidInputError(
                    f"{named(item)}: its prompt has {feature.value}, which the provider {kind} does not support; give only a "
                    "prompt and a system prompt"
                )
            if not keeps_lines:
                raise InvalidInputError(
                    f"{named(item)}: its prompt has {feature.value}, and {type(job.store).__name__} stores only a prompt and "
                    "a system prompt; use a built-in store"
                )


class Requests(NamedTuple):
    """The request lines of a chunk's items, in order.

    Attributes:
        lines: As they were built.
        stored: As they are stored.
        addresses: Their content addresses.
        encoded: Characters of base64 in each.
    """

    lines: list[BatchRequestLine]
    stored: list[bytes]
    addresses: list[bytes | None]
    encoded: list[int]


def requests_of(job: JobInHand, asked: Asked) -> Requests:
    """Build the items' request lines, with the local files that they name.

    They are built with a placeholder as custom_id and stored without it. If a provider's requests depend on the custom_id,
    they are built with the real one and stored whole.

    Raises:
        InvalidInputError: An id holds half of a surrogate pair, a request can't be built, or the provider or the store has no
            place for a part of a prompt; names the item.
    """
    check_ids(asked.items)
    _check_features(job, asked)
    wanted, build_line = job.wanted, job.api.request_line
    frames = Frames(str(job.config.provider_config.provider_kind))
    placeholder, placeholder_bytes = PLACEHOLDERS[0], PLACEHOLDERS[0].encode()
    name = job.custom_ids.of
    keeps_address, most_bytes = has_address(job), job.batch_size().max_file_bytes
    made = Requests([], [], [], [])
    try:
        are_nameless = _are_nameless(job, asked, most_bytes)
    except InvalidInputError as error:
        raise about(asked.items[0], error) from error
    for index, (item, prompt) in enumerate(zip(asked.items, asked.prompts, strict=True), asked.first_index):
        try:
            prompt = with_contents(prompt, most_bytes=most_bytes)
        except InvalidInputError as error:
            raise about(item, error) from error
        made.encoded.append(encoded_chars(prompt.messages) if prompt.messages else 0)
        if are_nameless:
            try:
                line = build_line(custom_id=placeholder, prompt=prompt, output=wanted)
            except InvalidInputError as error:
                raise about(item, error) from error
            if (apart := frames.apart(line)) is not None:
                frame, value = apart
                body = encoded_request(value, prompt, item)
                if placeholder_bytes not in body:
                    made.lines.append(line)
                    made.stored.append(frame.around(body))
                    made.addresses.append(frame.address(body) if keeps_address(value) else None)
                    continue
        custom_id = name(item.item_id, index, 0)
        try:
            line = build_line(custom_id=custom_id, prompt=prompt, output=wanted)
        except InvalidInputError as error:
            raise about(item, error) from error
        made.lines.append(line)
        made.stored.append(encoded_request(line, prompt, item))
        made.addresses.append(None)
    return made


def _are_nameless(job: JobInHand, asked: Asked, most_bytes: int) -> bool:
    """Whether requests are the same with any custom_id, judging by the chunk's first one."""
    if not asked.items:
        return True
    prompt = with_contents(asked.prompts[0], most_bytes=most_bytes)
    first, second = (
        job.api.request_line(custom_id=placeholder, prompt=prompt, output=job.wanted)
        for placeholder in PLACEHOLDERS
    )
    _check_name(job, first)
    return {**first, "custom_id": ""} == {**second, "custom_id": ""}


def _check_name(job: JobInHand, line: BatchRequestLine) -> None:
    """Refuse lines whose name the engine can't change: a retry would be answered under the id of the attempt before it, and
    the mark of a submission would not be sent."""
    name = PLACEHOLDERS[1]
    if (found := job.api.custom_id_of({**line, "custom_id": name})) != name:
        kind = job.config.provider_config.provider_kind
        raise InvalidInputError(
            f"the provider {kind} reads {found!r} as the custom_id of a request line that is sent as {name!r}. request_line() "
            "must put it at the top of the line, as 'custom_id', and there custom_id_of() must find it; if the API calls it "
            "something else, rename it in prepare() or create()"
        )


def tokens_of(job: JobInHand, made: Requests) -> list[int]:
    """Token counts: exact if a limit depends on them, otherwise estimated from the length, which is about fifty times faster."""
    chars_per_token = job.config.chunk_policy.chars_per_token
    if job.budget() is None:
        return [
            max(1, (len(line) - encoded) // chars_per_token + encoded // ENCODED_CHARS_PER_TOKEN)
            for line, encoded in zip(made.stored, made.encoded, strict=True)
        ]
    return job.api.estimate_tokens(made.lines, chars_per_token=chars_per_token)
