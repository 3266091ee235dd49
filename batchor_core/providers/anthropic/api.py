"""The provider that talks to Anthropic's Message Batches API.

There are no files, no metadata and no way to take a create back: requests travel in the create, streamed from the request file,
and a batch tells whose it is by the custom_id of its first result. A create whose response was lost is looked up in the list, and
held until the list shows its batch or a batch's lifetime is over.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import orjson

from batchor_core.core.answers import Answer
from batchor_core.core.exceptions import ProviderError
from batchor_core.core.outputs import OutputKind, VectorOutput
from batchor_core.core.prompts import PromptFeature, PromptParts
from batchor_core.core.types import BatchRequestLine, JSONObject
from batchor_core.providers.anthropic.answers import read_calls, read_result, read_whole_message, was_answered
from batchor_core.providers.anthropic.client import check_installed, make_client
from batchor_core.providers.anthropic.config import AnthropicProviderConfig
from batchor_core.providers.anthropic.credentials import find_key, fingerprint, resolve_base_url
from batchor_core.providers.anthropic.errors import translate, unreadable
from batchor_core.providers.anthropic.requests import Requests, content_of, estimated_tokens, size_of
from batchor_core.providers.anthropic.states import listed_state, read_state
from batchor_core.providers.api import (
    DAY_SEC,
    BatchApi,
    BatchLimits,
    BatchState,
    FoundBy,
    ResultFile,
    WantedOutput,
)
from batchor_core.providers.saving import save

PATH = "/v1/messages/batches"
PAGE = 100
TRANSFER_TIMEOUT_SEC = 600.0
"""Least patience for downloads, seconds without any progress."""

LEAST_BYTES_PER_SEC = 500_000
"""What a server takes in at least: a create carries up to 256 MB, and is answered when all of them were looked at."""

T = TypeVar("T")

LIMITS = BatchLimits(
    max_requests=100_000,
    max_bytes=255_000_000,  # of 256 MB; a create is slightly longer than its request file
    found_by=FoundBy.ROWS,
    can_cancel=True,
    lifetime_sec=DAY_SEC,
    outputs=frozenset(OutputKind) - {OutputKind.VECTOR},
    prompts=frozenset(PromptFeature),
    can_continue=True,
)


class AnthropicBatchApi(BatchApi):
    """Runs batches at Anthropic.

    Nothing is sent twice: each call makes one request and returns its result or raises
    :class:`~batchor_core.core.exceptions.ProviderError`. The client is made when it is first needed, so that lines can
    be built and answers read without a key.

    Args:
        config: Model, limits, credentials.
        client: An ``anthropic.Anthropic`` to use instead of creating one. Its retries are switched off. Whether it follows
            redirects, which would repeat a request, depends on the HTTP client that you gave it.

    Raises:
        InvalidInputError: The package ``anthropic`` is not installed.
    """

    limits = LIMITS

    def __init__(self, config: AnthropicProviderConfig, client: Any = None) -> None:
        check_installed()
        self._config = config
        self._given = client
        self._made: Any = None
        self._clock_offset: float | None = None
        self._lock = threading.Lock()
        self._requests = Requests(config)

    # requests

    def request_line(
        self, *, custom_id: str, prompt: PromptParts, output: WantedOutput | None
    ) -> BatchRequestLine:
        """One line of a request file. Lines share their constant parts: don't change them."""
        assert not isinstance(output, VectorOutput)  # the limits name no vectors
        return self._requests.line(custom_id, prompt, output)

    def continued_line(self, line: BatchRequestLine, *, answer: str, reply: str) -> BatchRequestLine:
        """Two more messages."""
        return self._requests.continued(line, answer=answer, reply=reply)

    def estimate_tokens(self, lines: Sequence[BatchRequestLine], *, chars_per_token: int) -> list[int]:
        """Estimated from characters: there is no tokenizer to use offline."""
        return [estimated_tokens(line["body"], chars_per_token=chars_per_token) for line in lines]

    # submission

    def create(
        self, request_file: Path | None, *, handle: str | None, tags: Mapping[str, str] | None
    ) -> BatchState:
        """Create a batch with exactly one POST, which carries the requests.

        Raises:
            ProviderError: With ``not_performed=True`` if certainly no batch exists; otherwise there may be one.
        """
        assert request_file is not None
        size = size_of(request_file)
        headers = {"content-type": "application/json", "content-length": str(size)}
        if self._config.betas:
            headers["anthropic-beta"] = ",".join(self._config.betas)
        client = self._with_timeout(self._config.request_timeout_sec + size / LEAST_BYTES_PER_SEC)
        action = f"creation of a batch from {request_file.name}"
        answer = self._call(
            action,
            lambda: client.post(
                PATH, cast_to=object, content=content_of(request_file), options={"headers": headers}
            ),
            is_route=True,
        )
        return _state(answer, action)

    # recovery

    def list_batches(self) -> Iterator[list[BatchState]]:
        """Yield pages of up to 100 batches, newest first. Each is fetched when asked for."""
        client, action, seen = self._client(), "list of batches", set[str]()
        query: dict[str, Any] = {"limit": PAGE}
        while True:
            fetch = partial(client.get, PATH, cast_to=object, options={"params": query})
            page = self._call(action, fetch, is_route=True)
            entries = page.get("data") if isinstance(page, dict) else None
            if not isinstance(entries, list):
                raise unreadable(action)
            states = [listed_state(entry) for entry in entries]
            yield states
            if page.get("has_more") is False:
                return
            last = states[-1].batch_id if states else ""
            if not last or last in seen:  # there is more, and no way to it
                raise unreadable(action)
            seen.add(last)
            query = {"limit": PAGE, "after_id": last}

    def key_fingerprint(self) -> str | None:
        """Sixteen hex digits that distinguish keys and servers; None without a key."""
        resolve_base_url(self._config)  # what may raise comes before the key is a local variable
        key = self._key()
        return fingerprint(key, self._config) if key else None

    def clock_offset(self) -> float | None:
        """Seconds by which the server's clock is ahead of ours, by its last answer; None before the first."""
        return self._clock_offset

    # collection

    def poll(self, batch_id: str) -> BatchState:
        """The state of a batch."""
        client, action = self._client(), f"look-up of batch {batch_id}"
        return _state(self._call(action, lambda: client.get(f"{PATH}/{batch_id}", cast_to=object)), action)

    def fetch(self, file: ResultFile, path: Path) -> None:
        """Stream the results of a batch to disk. Nothing is at ``path`` unless the whole file is."""
        client = self._with_timeout(max(self._config.request_timeout_sec, TRANSFER_TIMEOUT_SEC))
        action = f"download of the results of {file.ref}"
        unfinished = path.with_name(path.name + ".part")

        def download() -> None:
            # the SDK asks for the batch first, to learn where its results are
            with client.messages.batches.with_streaming_response.results(file.ref) as response:
                save(response, unfinished, action=action)

        try:
            self._call(action, download)
            if not _is_whole(unfinished):
                raise ProviderError(
                    f"{action}: the last line is cut", error_class="truncated_download", status_code=200
                )
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)

    def read(self, record: JSONObject) -> Answer:
        """See :func:`~batchor_core.providers.anthropic.answers.read_result`."""
        return read_result(record)

    def read_body(self, record: JSONObject) -> Answer:
        """See :func:`~batchor_core.providers.anthropic.answers.read_whole_message`."""
        return read_whole_message(record)

    def read_calls(self, record: JSONObject) -> Answer:
        """See :func:`~batchor_core.providers.anthropic.answers.read_calls`."""
        return read_calls(record)

    def is_failure(self, record: JSONObject, answer: Answer) -> bool:
        """Everything but a message."""
        return not was_answered(record)

    def cancel(self, batch_id: str) -> BatchState:
        """Cancel a batch; one that has ended is looked up instead."""
        client, action = self._client(), f"cancellation of batch {batch_id}"
        try:
            answer = self._call(action, lambda: client.post(f"{PATH}/{batch_id}/cancel", cast_to=object))
        except ProviderError as error:
            if error.status_code not in (400, 409):
                raise
            state = self.poll(batch_id)
            if not state.has_ended:
                raise
            return state
        return _state(answer, action)

    def close(self) -> None:
        """Close the connections of the provider's own client; the next call opens new ones."""
        with self._lock:
            made, self._made = self._made, None
        if made is not None:
            made.close()

    # the client

    def _client(self) -> Any:
        return self._with_timeout(self._config.request_timeout_sec)

    def _with_timeout(self, seconds: float) -> Any:
        return self._raw_client().with_options(max_retries=0, timeout=seconds)

    def _raw_client(self) -> Any:
        if self._given is not None:
            return self._given
        with self._lock:
            if self._made is None:
                self._made = make_client(self._config, on_date=self._note_date)
            return self._made

    def _note_date(self, date: float) -> None:
        self._clock_offset = date - time.time()

    def _key(self) -> str:
        given = getattr(self._given, "api_key", None)
        return given if isinstance(given, str) and given else find_key(self._config)

    def _call(self, action: str, request: Callable[[], T], *, is_route: bool = False) -> T:
        """Make a request; whatever it raises becomes a ProviderError."""
        try:
            return request()
        except ProviderError:
            raise
        except Exception as error:
            # Broad on purpose: an error that is not recognised must count as "may have happened", never as a crash between
            # a batch and its registration.
            translated = translate(error, action=action, secrets=[self._key()], is_route=is_route)
        raise translated


def _state(answer: Any, action: str) -> BatchState:
    state = read_state(answer)
    if state is None:
        raise unreadable(action)
    return state


def _is_whole(path: Path) -> bool:
    """Whether the last line of a file is one, even if nothing ends it."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        if not size:
            return True
        file.seek(size - 1)
        if file.read(1) == b"\n":
            return True
        file.seek(0)
        last = b""
        for line in file:
            last = line
    try:
        orjson.loads(last)
    except orjson.JSONDecodeError:
        return False
    return True
