"""Lines of a batch input file."""

from __future__ import annotations

from typing import Any

from batchor_core.core.outputs import VectorOutput
from batchor_core.core.prompts import PromptParts
from batchor_core.core.structured import StructuredOutputSchema
from batchor_core.core.tools import WantedTools
from batchor_core.core.types import BatchRequestLine
from batchor_core.providers.api import WantedOutput
from batchor_core.providers.openai.base_url import account_address
from batchor_core.providers.openai.config import OpenAIProviderConfig
from batchor_core.providers.openai.endpoints import endpoint_of
from batchor_core.providers.openai.messages import with_options

_CACHE_KEY = b'"prompt_cache_key"'


class RequestLines:
    """Builds request lines of one config.

    What is the same in every line is made once per output and shared by the lines, so treat a line as read-only.
    """

    def __init__(self, config: OpenAIProviderConfig) -> None:
        self._config = config
        self._endpoint = endpoint_of(config.endpoint)
        self._url = str(config.endpoint)
        self._model = str(config.model)
        is_own_server = not account_address(config.server_url())
        self._has_cache_keys = is_own_server and "prompt_cache_key" not in self._endpoint.lacks
        # what was made for the output last asked for; replaced as one, so that threads agree
        self._tail: tuple[WantedOutput | None, dict[str, Any]] = (None, self._make_tail(None))

    def build(self, custom_id: str, prompt: PromptParts, wanted: WantedOutput | None) -> BatchRequestLine:
        """Return the line of one item. Its keys always come in the same order."""
        made_for, tail = self._tail
        endpoint = self._endpoint
        if wanted is not made_for:
            tail = self._make_tail(wanted)
            self._tail = (wanted, tail)
        options = prompt.options
        if options and "model" in options:
            options = {name: value for name, value in options.items() if name != "model"}
        if options:
            field = None if wanted is None else endpoint.schema_field
            if isinstance(wanted, WantedTools):
                field = "tools"
            tail = with_options(tail, options, worded=endpoint.option, schema_field=field)
        return {
            "custom_id": custom_id,
            "method": "POST",
            "url": self._url,
            "body": {"model": prompt.model or self._model, **endpoint.asked(prompt), **tail},
        }

    def continued(self, line: BatchRequestLine, *, answer: str, reply: str) -> BatchRequestLine:
        """Return the line with an answer to it, and a reply to that, as further turns.

        Raises:
            InvalidInputError: The endpoint has no turns.
        """
        return {**line, "body": self._endpoint.continued(line["body"], answer=answer, reply=reply)}

    def with_cache_key(self, line: bytes, *, key: str) -> bytes:
        """Return a finished line whose body has a ``prompt_cache_key``.

        The same line at other servers, which may refuse a field that they don't know; where there is such a field already; and
        at endpoints that generate nothing.
        """
        if not self._has_cache_keys or not line.endswith(b"}}") or _CACHE_KEY in line:
            return line
        return b'%b,%b:"%b"}}' % (line[:-2], _CACHE_KEY, key.encode())

    def _make_tail(self, wanted: WantedOutput | None) -> dict[str, Any]:
        config = self._config
        if isinstance(wanted, VectorOutput):
            return self._endpoint.vectors(wanted, model=self._model, options=config.request_options)
        effort = None if config.reasoning_effort is None else str(config.reasoning_effort)
        tools = wanted if isinstance(wanted, WantedTools) else None
        schema = wanted if isinstance(wanted, StructuredOutputSchema) else None
        tail = self._endpoint.settings(schema=schema, effort=effort, max_tokens=config.max_output_tokens)
        if tools is not None:
            tail |= self._endpoint.tools(tools)
        for name, value in config.request_options.items():
            ours = tail.get(name)
            # an option such as text.verbosity joins the schema in the same object; what the config says itself wins
            tail[name] = (
                {**value, **ours}
                if isinstance(ours, dict) and isinstance(value, dict)
                else tail.get(name, value)
            )
        return tail
