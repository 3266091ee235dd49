"""A provider whose calls are named boundaries: each asks a server over a network, and may have worked though it failed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import ParamSpec, TypeVar

from batchor_core.core.boundaries import Boundary, at
from batchor_core.core.models import PromptParts
from batchor_core.core.structured import StructuredOutputSchema
from batchor_core.core.types import BatchRemoteRecord, BatchRequestLine, JSONObject
from batchor_core.providers.base import BatchProvider, ProviderHooks

P = ParamSpec("P")
T = TypeVar("T")


class ProviderAtBoundaries(BatchProvider):
    """Passes every call on to ``provider``; those that leave this process pass a boundary.

    Args:
        provider: Whom to ask. Of :class:`BatchProvider`'s shape; it need not be a subclass.
    """

    def __init__(self, provider: BatchProvider) -> None:
        self._provider = provider

    def upload_input_file(self, input_path: str | Path) -> str:
        """See :meth:`BatchProvider.upload_input_file`."""
        with at(Boundary.UPLOAD_FILE):
            return self._provider.upload_input_file(input_path)

    def delete_input_file(self, file_id: str) -> None:
        """See :meth:`BatchProvider.delete_input_file`."""
        with at(Boundary.DELETE_FILE):
            self._provider.delete_input_file(file_id)

    def create_batch(
        self, *, input_file_id: str, metadata: dict[str, str] | None = None
    ) -> BatchRemoteRecord:
        """See :meth:`BatchProvider.create_batch`."""
        with at(Boundary.CREATE_BATCH):
            return self._provider.create_batch(input_file_id=input_file_id, metadata=metadata)

    def get_batch(self, batch_id: str) -> BatchRemoteRecord:
        """See :meth:`BatchProvider.get_batch`."""
        with at(Boundary.GET_BATCH):
            return self._provider.get_batch(batch_id)

    def download_file_content(self, file_id: str) -> str:
        """See :meth:`BatchProvider.download_file_content`."""
        with at(Boundary.DOWNLOAD_FILE):
            return self._provider.download_file_content(file_id)

    # what asks nobody

    def build_request_line(
        self,
        *,
        custom_id: str,
        prompt_parts: PromptParts,
        structured_output: StructuredOutputSchema | None = None,
    ) -> BatchRequestLine:
        """See :meth:`BatchProvider.build_request_line`."""
        return self._provider.build_request_line(
            custom_id=custom_id, prompt_parts=prompt_parts, structured_output=structured_output
        )

    def parse_batch_output(
        self, *, output_content: str | None, error_content: str | None
    ) -> tuple[dict[str, JSONObject], dict[str, JSONObject], list[JSONObject]]:
        """See :meth:`BatchProvider.parse_batch_output`."""
        return self._provider.parse_batch_output(output_content=output_content, error_content=error_content)

    def estimate_request_tokens(self, request_line: BatchRequestLine, *, chars_per_token: int) -> int:
        """See :meth:`BatchProvider.estimate_request_tokens`."""
        return self._provider.estimate_request_tokens(request_line, chars_per_token=chars_per_token)


def hooks_at_boundaries(hooks: ProviderHooks) -> ProviderHooks:
    """The same optional abilities, those that leave this process at boundaries."""
    return replace(
        hooks,
        download_to_path=_named(Boundary.DOWNLOAD_FILE, hooks.download_to_path),
        cancel_batch=_named(Boundary.CANCEL_BATCH, hooks.cancel_batch),
        remove_input_file=_named(Boundary.REMOVE_FILE, hooks.remove_input_file),
        find_input_files=_named(Boundary.FIND_FILES, hooks.find_input_files),
        is_input_file_ready=_named(Boundary.LOOK_AT_FILE, hooks.is_input_file_ready),
        list_batches=_paged(Boundary.LIST_BATCHES, hooks.list_batches),
    )


def _named(name: Boundary, call: Callable[P, T] | None) -> Callable[P, T] | None:
    if call is None:
        return None

    def passing(*args: P.args, **kwargs: P.kwargs) -> T:
        with at(name):
            return call(*args, **kwargs)

    return passing


def _paged(name: Boundary, call: Callable[[], Iterator[T]] | None) -> Callable[[], Iterator[T]] | None:
    """Each page is a call of its own."""
    if call is None:
        return None

    def passing() -> Iterator[T]:
        pages = iter(call())
        while True:
            with at(name):
                page = next(pages, None)
            if page is None:
                return
            yield page

    return passing
