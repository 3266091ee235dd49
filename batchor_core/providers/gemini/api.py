"""The provider that talks to the Gemini Batch API."""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from batchor_core.core.answers import Answer
from batchor_core.core.exceptions import BatchorError, ProviderError, ProviderErrorKind
from batchor_core.core.prompts import PromptFeature, PromptParts
from batchor_core.core.types import BatchRequestLine, JSONObject
from batchor_core.providers.api import BatchApi, BatchLimits, BatchState, FoundBy, ResultFile, WantedOutput
from batchor_core.providers.gemini.answers import error_of, key_of, read_body, read_calls, read_record
from batchor_core.providers.gemini.client import Received, check_installed, make_client, patient
from batchor_core.providers.gemini.config import OUTPUTS, GeminiEndpoint, GeminiProviderConfig
from batchor_core.providers.gemini.credentials import find_api_key, fingerprint
from batchor_core.providers.gemini.errors import translate, unreadable
from batchor_core.providers.gemini.requests import RequestLines, estimated_tokens, model_of, uploaded_form
from batchor_core.providers.gemini.states import (
    BATCHES,
    LIFETIME_SEC,
    batch_state,
    display_name,
    handle_of,
    listed_state,
    read_handle,
)

MAX_FILE_BYTES = 2_000_000_000
_PAGE_FIELDS = {"nextPageToken", "unreachable"}

PAGE = 100
"""Entries of a page of a list."""

ENGINE_TAGS = 3
"""Pairs that the name of a batch has room for: the engine's own, by which it is found again."""

T = TypeVar("T")


class GeminiBatchApi(BatchApi):
    """Runs batches at the Gemini Developer API.

    Nothing is sent twice: each call makes one request and returns its result or raises
    :class:`~batchor_core.core.exceptions.ProviderError`. The client is made when it is first needed, so that lines can
    be built and answers read without a key. Methods may be called from several threads.

    A batch is found again by its display name, which holds the submission's tags. Whether a batch can still be created of a file
    that was deleted is not documented, so that deleting one is no fence: a submission of unknown outcome waits until a batch could
    no longer be running.

    Args:
        config: Model, endpoint, credentials.
    """

    def __init__(self, config: GeminiProviderConfig) -> None:
        check_installed()
        self._config = config
        generates = config.endpoint is GeminiEndpoint.GENERATE_CONTENT
        self.limits = BatchLimits(
            max_bytes=MAX_FILE_BYTES,
            max_tags=ENGINE_TAGS,
            found_by=FoundBy.TAGS,
            can_cancel=True,
            lifetime_sec=LIFETIME_SEC,
            outputs=OUTPUTS[config.endpoint],
            prompts=frozenset(PromptFeature) if generates else frozenset({PromptFeature.OPTIONS}),
            can_continue=generates,
        )
        self._lines = RequestLines(config)
        self._received = Received()
        self._made: Any = None
        self._lock = threading.Lock()
        self._clock_offset: float | None = None

    # requests

    def request_line(
        self, *, custom_id: str, prompt: PromptParts, output: WantedOutput | None
    ) -> BatchRequestLine:
        """One line, under the engine's names. Lines share their constant parts: don't change them."""
        return self._lines.build(custom_id, prompt, output)

    def continued_line(self, line: BatchRequestLine, *, answer: str, reply: str) -> BatchRequestLine:
        """Two more turns; embeddings have none."""
        return self._lines.continued(line, answer=answer, reply=reply)

    def custom_id_of(self, record: JSONObject) -> str:
        """Results have it as ``key``."""
        return key_of(record)

    def estimate_tokens(self, lines: Sequence[BatchRequestLine], *, chars_per_token: int) -> list[int]:
        """By their characters."""
        return estimated_tokens(lines, chars_per_token=chars_per_token)

    # submission

    def prepare(self, request_file: Path) -> str:
        """Upload the file under its own name, with the names of fields that the API has."""
        action = f"upload of {request_file.name}"
        with uploaded_form(request_file) as lines:
            options = {"display_name": request_file.name, "mime_type": "application/jsonl"}
            self._call(
                action,
                lambda client: client.files.upload(
                    file=lines, config=options | patient(self._config.request_timeout_sec)
                ),
            )
        file = self._received.json.get("file") if isinstance(self._received.json, dict) else None
        name = file.get("name") if isinstance(file, dict) else None
        if not isinstance(name, str) or not name.startswith("files/"):
            raise unreadable(action)
        model = model_of(request_file)
        return handle_of(name, model if model not in ("", self._config.model) else None)

    def is_ready(self, handle: str) -> bool | None:
        """Whether Google has processed the file."""
        file, _ = read_handle(handle)
        action = f"look-up of {file}"
        try:
            self._call(action, lambda client: client.files.get(name=file))
        except ProviderError as error:
            if error.status_code in (
                403,
                404,
            ):  # not there yet, which the API calls forbidden: a create will tell
                return None
            raise
        state = self._object(action).get("state")
        if state == "FAILED":
            raise ProviderError(
                f"{action}: Google could not process the file",
                kind=ProviderErrorKind.BAD_REQUEST,
                error_class="input_file_rejected",
                not_performed=True,
            )
        return {"ACTIVE": True, "PROCESSING": False}.get(str(state))

    def discard(self, handle: str) -> None:
        """Try to delete the file, which otherwise goes by itself after two days."""
        file, _ = read_handle(handle)
        with suppress(BatchorError):
            self._call(f"deletion of {file}", lambda client: client.files.delete(name=file))

    def find_prepared(self, file_name: str) -> list[str]:
        """The uploaded files of this name."""
        pages = self._pages("list of files", "files", lambda client, config: client.files.list(config=config))
        found = (file for page in pages for file in page if isinstance(file, dict))
        return [
            str(file["name"]) for file in found if file.get("displayName") == file_name and "name" in file
        ]

    def create(
        self, request_file: Path | None, *, handle: str | None, tags: Mapping[str, str] | None
    ) -> BatchState:
        """Create a batch of the uploaded file with exactly one POST."""
        assert handle is not None  # prepare() uploads always
        file, own_model = read_handle(handle)
        action = f"creation of a batch from {file}"
        config = {"display_name": display_name(tags)}
        model = own_model or self._config.model

        def post(client: Any) -> None:
            if self._config.endpoint is GeminiEndpoint.EMBED_CONTENT:
                _create_embeddings(client, model=model, src={"file_name": file}, config=config)
            else:
                client.batches.create(model=model, src=file, config=config)

        self._call(action, post, input_file=file)
        return self._state(action)

    # recovery

    def list_batches(self) -> Iterator[list[BatchState]]:
        """Pages of batches in Google's order."""
        pages = self._pages(
            "list of batches", "operations", lambda client, config: client.batches.list(config=config)
        )
        for page in pages:
            yield [listed_state(entry) for entry in page]

    def key_fingerprint(self) -> str | None:
        """Sixteen hex digits that distinguish keys and servers; None without a key."""
        return fingerprint(self._config)

    def clock_offset(self) -> float | None:
        """Seconds by which the server's clock is ahead of ours, by its last answer; None before the first."""
        return self._clock_offset

    # collection

    def poll(self, batch_id: str) -> BatchState:
        """The state of a batch."""
        action = f"look-up of {batch_id}"
        self._call(action, lambda client: client.batches.get(name=f"{BATCHES}{batch_id}"))
        return self._state(action)

    def fetch(self, file: ResultFile, path: Path) -> None:
        """Stream the file to the disk; nothing is at ``path`` unless the whole file is."""
        action = f"download of {file.ref}"
        unfinished = path.with_name(path.name + ".part")
        try:
            readable_by_owner = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(readable_by_owner, "wb") as target:
                self._call(
                    action,
                    lambda client: client.files.download(
                        file=file.ref, destination=target, config=patient(self._config.request_timeout_sec)
                    ),
                )
            size, announced = unfinished.stat().st_size, self._received.size
            if announced is not None and size < announced:
                raise ProviderError(
                    f"{action}: {size} of {announced} bytes arrived",
                    error_class="truncated_download",
                    status_code=200,
                )
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)

    def read(self, record: JSONObject) -> Answer:
        """See :func:`~batchor_core.providers.gemini.answers.read_record`."""
        return read_record(record)

    def read_body(self, record: JSONObject) -> Answer:
        """A line for its whole response."""
        return read_body(record)

    def read_calls(self, record: JSONObject) -> Answer:
        """See :func:`~batchor_core.providers.gemini.answers.read_calls`."""
        return read_calls(record)

    def is_failure(self, record: JSONObject, answer: Answer) -> bool:
        """Google counts as failed what has an error in the place of a response."""
        return answer.failure is not None and error_of(record) is not None

    def cancel(self, batch_id: str) -> BatchState:
        """Ask for the cancellation; a batch that has ended is only looked up."""
        action = f"cancellation of {batch_id}"
        try:
            self._call(action, lambda client: client.batches.cancel(name=f"{BATCHES}{batch_id}"))
        except ProviderError as error:
            if error.status_code not in (400, 409):
                raise
        return self.poll(batch_id)

    def close(self) -> None:
        """Close the connections of the client; the next call opens new ones."""
        with self._lock:
            made, self._made = self._made, None
        if made is not None:
            made.close()

    # calls

    def _call(self, action: str, request: Callable[[Any], T], *, input_file: str | None = None) -> T:
        """Make a request; whatever it raises becomes a ProviderError."""
        client = self._client()
        self._received.json = None
        try:
            return request(client)
        except Exception as error:
            # Broad on purpose: the SDK lets errors of its transport and of JSON through, and an error that is not
            # recognised must count as "may have happened", never as a crash between a batch and its registration.
            translated = translate(
                error, action=action, secrets=[find_api_key(self._config)], input_file=input_file
            )
        raise translated

    def _client(self) -> Any:
        with self._lock:
            if self._made is None:
                self._made = make_client(
                    self._config,
                    timeout_sec=self._config.request_timeout_sec,
                    received=self._received,
                    on_date=self._note_date,
                )
            return self._made

    def _note_date(self, date: float) -> None:
        self._clock_offset = date - time.time()

    def _object(self, action: str) -> dict[str, Any]:
        if not isinstance(self._received.json, dict):
            raise unreadable(action)
        return self._received.json

    def _state(self, action: str) -> BatchState:
        state = batch_state(self._received.json)
        if state is None:
            raise unreadable(action)
        return state

    def _pages(
        self, action: str, entries: str, fetch: Callable[[Any, dict[str, Any]], Any]
    ) -> Iterator[list[Any]]:
        """Pages until the last. A list that can't be read to its end is an error: it proves nothing absent."""
        config: dict[str, Any] = {"page_size": PAGE}
        seen: set[str] = set()
        while True:
            self._call(action, lambda client: fetch(client, dict(config)))
            page = self._object(action)
            # an empty list is left out; what has other fields instead is no list, and proves nothing absent
            is_list = entries in page or not page.keys() - _PAGE_FIELDS
            found = page.get(entries, [])
            if not is_list or not isinstance(found, list) or "error" in page:
                raise unreadable(action)
            yield found
            token = page.get("nextPageToken")
            if not token:
                return
            if not isinstance(token, str) or token in seen:
                raise unreadable(action)
            seen.add(token)
            config["page_token"] = token


def _create_embeddings(client: Any, **arguments: Any) -> None:
    """The SDK warns each time that its method is experimental."""
    warnings.filterwarnings("ignore", message=r"batches\.create_embeddings")
    client.batches.create_embeddings(**arguments)
