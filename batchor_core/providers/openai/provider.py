"""The provider that talks to the OpenAI Batch API."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from batchor_core.core.answers import parse_line
from batchor_core.core.enqueue_budget import budget_key
from batchor_core.core.exceptions import BatchorError, ProviderError, ProviderErrorKind
from batchor_core.core.outputs import OutputKind, VectorOutput
from batchor_core.core.prompts import PromptFeature, PromptParts
from batchor_core.core.structured import StructuredOutputSchema
from batchor_core.core.tools import WantedTools
from batchor_core.core.types import BatchRemoteRecord, BatchRequestLine, JSONObject
from batchor_core.providers.api import BatchLimits
from batchor_core.providers.base import BatchProvider, EnqueueBudget, OptionalMethods
from batchor_core.providers.openai.answers import read_body, read_calls, read_record, was_answered
from batchor_core.providers.openai.client import TRANSFER_TIMEOUT_SEC, make_client, with_timeout
from batchor_core.providers.openai.config import OpenAIProviderConfig
from batchor_core.providers.openai.credentials import (
    earlier_fingerprints,
    find_openai_api_key,
    fingerprint,
    resolve_base_url,
)
from batchor_core.providers.openai.download import download
from batchor_core.providers.openai.endpoints import endpoint_of
from batchor_core.providers.openai.errors import WEB_PAGE, translate, unreadable
from batchor_core.providers.openai.input_file import is_ready
from batchor_core.providers.openai.paging import pages
from batchor_core.providers.openai.records import batch_record, listed_record, read
from batchor_core.providers.openai.requests import RequestLines
from batchor_core.providers.openai.tokens import TokenCounter

BATCH_PAGE = 100  # the most that GET /batches gives
FILE_PAGE = 1_000

T = TypeVar("T")

logger = logging.getLogger(__name__)


class OpenAIBatchProvider(BatchProvider, OptionalMethods):
    """Runs batches at OpenAI, or at a server with the same API.

    Nothing is sent twice: each call makes one request and returns its result or raises
    :class:`~batchor_core.core.exceptions.ProviderError`. The client is made when it is first needed, so that lines can
    be built and answers read without a key. Methods may be called from several threads.

    Args:
        config: Model, endpoint, limits, credentials.
        client: An ``openai.OpenAI`` to use instead of creating one. Its retries are switched off. Whether it follows
            redirects, which would repeat a request, depends on the HTTP client that you gave it.
    """

    def __init__(self, config: OpenAIProviderConfig, client: Any = None) -> None:
        self._config = config
        self._given = client
        self._made: Any = None
        self._clock_offset: float | None = None
        self._lock = threading.Lock()
        self._answered = threading.local()
        self._lines = RequestLines(config)
        self._tokens = TokenCounter(str(config.model), has_turns=endpoint_of(config.endpoint).has_turns)

    # The eight methods.

    def build_request_line(
        self,
        *,
        custom_id: str,
        prompt_parts: PromptParts,
        structured_output: StructuredOutputSchema | None = None,
    ) -> BatchRequestLine:
        """Build one line for the config's endpoint. Lines share their constant parts: don't change them."""
        return self._lines.build(custom_id, prompt_parts, structured_output)

    def upload_input_file(self, input_path: str | Path) -> str:
        """Stream a file to OpenAI under its own name, which must end in ``.jsonl``, and return its id."""
        path = Path(input_path)
        client = self._patient_client()
        with path.open("rb") as file:
            answer = self._call(
                f"upload of {path.name}",
                lambda: client.files.create(file=(path.name, file), purpose=self._purpose()),
                is_route=True,
            )
        file_id = read(answer, "id")
        if not isinstance(file_id, str) or not file_id:
            raise unreadable(f"upload of {path.name}", answer, url=str(getattr(client, "base_url", "")))
        return file_id

    def delete_input_file(self, file_id: str) -> None:
        """Try to delete a file; failure is only logged."""
        try:
            self.remove_input_file(file_id)
        except BatchorError as error:
            logger.info("input file %s stays until it expires: %s", file_id, error)

    def create_batch(
        self, *, input_file_id: str, metadata: dict[str, str] | None = None
    ) -> BatchRemoteRecord:
        """Create a batch with exactly one POST.

        Raises:
            ProviderError: With ``not_performed=True`` if certainly no batch exists; otherwise there may be one.
        """
        client = self._client()
        options: dict[str, Any] = {} if metadata is None else {"metadata": metadata}
        action = f"creation of a batch from {input_file_id}"
        answer = self._call(
            action,
            lambda: client.batches.create(
                input_file_id=input_file_id,
                endpoint=str(self._config.endpoint),
                completion_window=self._config.completion_window,
                **options,
            ),
            is_route=True,
            input_file=input_file_id,
        )
        if (host := self._config.host) is not None and host.created_under:
            answer = read(answer, host.created_under) or answer
        return _record(answer, action)

    def get_batch(self, batch_id: str) -> BatchRemoteRecord:
        """Fetch the state of a batch."""
        client = self._client()
        action = f"look-up of batch {batch_id}"
        return _record(self._call(action, lambda: client.batches.retrieve(batch_id)), action)

    def download_file_content(self, file_id: str) -> str:
        """Return a whole file as text; a byte order mark is dropped. Use :meth:`download_to_path` for large ones."""
        client = self._patient_client()
        content = self._call(f"download of {file_id}", lambda: client.files.content(file_id))
        if isinstance(content, str):
            return content
        data = content if isinstance(content, bytes) else getattr(content, "content", None)
        if not isinstance(data, bytes):
            raise unreadable(f"download of {file_id}")
        return data.decode("utf-8-sig", errors="replace")

    @staticmethod
    def parse_jsonl(content: str) -> list[JSONObject]:
        """Parse JSON lines. Lines that hold no JSON object are left out and counted in the log: their rows count as missing.

        Lines end at ``\\n`` alone, since model output may hold the other line separators of Unicode.
        """
        lines = [line for line in content.removeprefix("\ufeff").split("\n") if line.strip()]
        records = [record for record in map(parse_line, lines) if record is not None]
        if len(records) < len(lines):
            logger.warning("%d of %d lines hold no JSON object", len(lines) - len(records), len(lines))
        return records

    def parse_batch_output(
        self, *, output_content: str | None, error_content: str | None
    ) -> tuple[dict[str, JSONObject], dict[str, JSONObject], list[JSONObject]]:
        """Split the texts of a batch's files into ``(successes, errors, all_records)`` by custom_id.

        A success is an answer with status 200 and no error in it; the first success of an id wins over everything else,
        and so does its first error over later ones. Either file may hold either kind.
        """
        records = [
            record for text in (output_content, error_content) if text for record in self.parse_jsonl(text)
        ]
        successes: dict[str, JSONObject] = {}
        errors: dict[str, JSONObject] = {}
        for record in records:
            custom_id = record.get("custom_id")
            if isinstance(custom_id, str) and custom_id:
                (successes if was_answered(record) else errors).setdefault(custom_id, record)
        return successes, {name: record for name, record in errors.items() if name not in successes}, records

    def estimate_request_tokens(self, request_line: BatchRequestLine, *, chars_per_token: int) -> int:
        """Estimate a line's prompt tokens, its schema included."""
        return self._tokens.count([request_line], chars_per_token=chars_per_token)[0]

    # Hooks; see OptionalMethods for what each promises.

    def estimate_tokens(self, lines: Sequence[BatchRequestLine], *, chars_per_token: int) -> list[int]:
        """Estimate many lines, in their order."""
        return self._tokens.count(lines, chars_per_token=chars_per_token)

    def unbilled_tokens(self, line: BatchRequestLine, *, chars_per_token: int) -> int:
        """What OpenAI leaves out of a schema; see :meth:`TokenCounter.unbilled`."""
        return self._tokens.unbilled(line, chars_per_token=chars_per_token)

    def build_vector_line(
        self, *, custom_id: str, prompt_parts: PromptParts, output: VectorOutput
    ) -> BatchRequestLine:
        """Build one line that asks for vectors of the output's dimensions. Lines share their constant parts."""
        return self._lines.build(custom_id, prompt_parts, output)

    def continued_line(self, line: BatchRequestLine, *, answer: str, reply: str) -> BatchRequestLine:
        """Two more turns in the body."""
        return self._lines.continued(line, answer=answer, reply=reply)

    def with_cache_key(self, line: bytes, *, key: str) -> bytes:
        """With a ``prompt_cache_key``, at OpenAI itself and where nobody has set one."""
        return self._lines.with_cache_key(line, key=key)

    def build_tools_line(
        self, *, custom_id: str, prompt_parts: PromptParts, tools: WantedTools
    ) -> BatchRequestLine:
        """Build one line that asks for a call of one of the tools. Lines share their constant parts."""
        return self._lines.build(custom_id, prompt_parts, tools)

    read_record = staticmethod(read_record)
    """See :func:`~batchor_core.providers.openai.answers.read_record`."""

    read_body = staticmethod(read_body)
    """Read a line for its whole body, which may hold calls in the place of a text."""

    read_calls = staticmethod(read_calls)
    """Read a line for the calls in it."""

    def output_kinds(self) -> frozenset[OutputKind]:
        """Those of the config's endpoint."""
        return endpoint_of(self._config.endpoint).outputs

    def narrowed_limits(self, limits: BatchLimits) -> BatchLimits:
        """What is known of the config's host. Without a profile, a host is taken for one like OpenAI."""
        host = self._config.host
        return limits if host is None else host.narrowed(limits)

    def prompt_features(self) -> frozenset[PromptFeature]:
        """Those of the config's endpoint."""
        return endpoint_of(self._config.endpoint).prompts

    def download_to_path(self, file_id: str, path: str | Path) -> int:
        """Stream a file to disk and return its size in bytes.

        Memory stays flat. Nothing is at ``path`` unless the whole file is; a cut one is a ProviderError to retry.
        """
        client = self._patient_client()
        action = f"download of {file_id}"
        announced = self._announced_size(client, file_id)
        target = Path(path)
        unfinished = target.with_name(target.name + ".part")
        try:
            size = self._call(action, lambda: download(client, file_id, unfinished, announced=announced))
            unfinished.replace(target)
        finally:
            unfinished.unlink(missing_ok=True)
        return size

    def cancel_batch(self, batch_id: str) -> BatchRemoteRecord:
        """Cancel a batch; one that has ended is looked up instead."""
        client = self._client()
        action = f"cancellation of batch {batch_id}"
        try:
            answer = self._call(action, lambda: client.batches.cancel(batch_id))
        except ProviderError as error:
            if error.status_code != 409:
                raise
            return self.get_batch(batch_id)
        return _record(answer, action)

    def list_batches(self) -> Iterator[list[BatchRemoteRecord]]:
        """Yield pages of up to 100 batches in the server's order, at OpenAI newest first. Each is fetched when asked for.

        An entry that names no batch has the empty id: it may be any batch, and none.
        """
        client = self._client()
        fetch = client.batches.list
        for page in self._pages("list of batches", lambda **cursor: fetch(limit=BATCH_PAGE, **cursor)):
            yield [listed_record(entry) for entry in page]

    def remove_input_file(self, file_id: str) -> None:
        """Delete a file, and return only if it is gone.

        Raises:
            ProviderError: It is still there, or it is unknown whether it is.
        """
        client = self._client()
        action = f"deletion of {file_id}"
        try:
            answer = self._call(action, lambda: client.files.delete(file_id))
        except ProviderError as error:
            if error.kind is ProviderErrorKind.NOT_FOUND:
                return
            raise
        if read(answer, "deleted") is not True:
            raise unreadable(action)

    def find_input_files(self, filename: str) -> list[str]:
        """Return the ids of all uploaded input files of this name, newest first."""
        client = self._client()
        fetch = client.files.list
        pages = self._pages(
            "list of files", lambda **cursor: fetch(purpose=self._purpose(), limit=FILE_PAGE, **cursor)
        )
        return [read(file, "id") for page in pages for file in page if read(file, "filename") == filename]

    def is_input_file_ready(self, file_id: str) -> bool | None:
        """Whether a batch can be made of a file, by the status that the server gives; None where it gives none it stands for.

        Raises:
            ProviderError: The server has rejected the file, or can't be asked.
        """
        client = self._client()
        action = f"look-up of {file_id}"
        try:
            answer = self._call(action, lambda: client.files.retrieve(file_id))
        except ProviderError as error:
            if error.kind is ProviderErrorKind.NOT_FOUND:
                # not there yet, or a server that has content without metadata: a create will tell
                return None
            raise
        return is_ready(answer, action)

    def key_fingerprint(self) -> str | None:
        """Sixteen hex digits that distinguish keys, accounts and servers; None without a key."""
        resolve_base_url(self._config)  # what may raise comes before the key is a local variable
        key = self._key()
        return fingerprint(key, self._config) if key else None

    def earlier_fingerprints(self) -> frozenset[str]:
        """The fingerprints that other spellings of ``base_url`` gave in earlier builds."""
        key = self._key()
        return earlier_fingerprints(key, self._config) if key else frozenset()

    def enqueue_budget(self) -> EnqueueBudget | None:
        """The config's limits, shared by all that use this account and model; None if it sets none."""
        budget = self._config.enqueue_budget()
        # the client that was given may have a key of its own
        return budget and replace(budget, key=budget_key(self._config, self.key_fingerprint()))

    def clock_offset(self) -> float | None:
        """Seconds by which the server's clock is ahead of ours, by its last answer; None before the first."""
        return self._clock_offset

    def _note_date(self, date: float) -> None:
        self._clock_offset = date - time.time()

    def _note_content_type(self, content_type: str) -> None:
        self._answered.with_page = content_type.startswith("text/html")

    def close(self) -> None:
        """Close the connections of the provider's own client; the next call opens new ones."""
        with self._lock:
            made, self._made = self._made, None
        if made is not None:
            made.close()

    def _purpose(self) -> Any:
        """The purpose of uploaded files; the SDK's type has OpenAI's alone."""
        return "batch" if self._config.host is None else self._config.host.purpose

    def _client(self) -> Any:
        return with_timeout(self._raw_client(), self._config.request_timeout_sec)

    def _patient_client(self) -> Any:
        return with_timeout(self._raw_client(), max(self._config.request_timeout_sec, TRANSFER_TIMEOUT_SEC))

    def _raw_client(self) -> Any:
        if self._given is not None:
            return self._given
        with self._lock:
            if self._made is None:
                self._made = make_client(
                    self._config, on_date=self._note_date, on_content_type=self._note_content_type
                )
            return self._made

    def _key(self) -> str:
        given = getattr(self._given, "api_key", None)
        if isinstance(given, str) and given:
            return given
        return find_openai_api_key(self._config)

    def _call(
        self,
        action: str,
        request: Callable[[], T],
        *,
        is_route: bool = False,
        input_file: str | None = None,
    ) -> T:
        """Make a request; whatever it raises becomes a ProviderError. See :func:`translate` for the last two."""
        self._answered.with_page = False
        try:
            return request()
        except ProviderError:
            raise
        except Exception as error:
            # Broad on purpose: the SDK lets errors of its transport and of JSON through, and an error that is not
            # recognised must count as "may have happened", never as a crash between a batch and its registration.
            is_page = self._answered.with_page and not hasattr(error, "status_code")
            if is_route and input_file is None and is_page:
                # the SDK stumbles over a web page where it expects a list
                translated = unreadable(
                    action, WEB_PAGE, url=str(getattr(self._raw_client(), "base_url", ""))
                )
            else:
                translated = translate(
                    error, action=action, secrets=[self._key()], is_route=is_route, input_file=input_file
                )
        raise translated

    def _announced_size(self, client: Any, file_id: str) -> int | None:
        """The size that the server gives for a file; None where it gives none."""
        if not hasattr(client.files, "retrieve"):
            return None
        try:
            answer = self._call(f"look-up of {file_id}", lambda: client.files.retrieve(file_id))
        except ProviderError as error:
            if error.kind in (ProviderErrorKind.NOT_FOUND, ProviderErrorKind.BAD_REQUEST):
                return None  # some servers have content without metadata; the download itself will tell
            raise
        size = read(answer, "bytes")
        return size if isinstance(size, int) and not isinstance(size, bool) and size > 0 else None

    def _pages(self, action: str, fetch: Callable[..., Any]) -> Iterator[list[Any]]:
        return pages(action, lambda request: self._call(action, request, is_route=True), fetch)


def _record(answer: Any, action: str) -> BatchRemoteRecord:
    record = batch_record(answer)
    if record is None:
        raise unreadable(action)
    return record
