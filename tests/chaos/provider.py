"""The provider as a process of its own: it outlives every driver, and keeps the books that the verdict reads.

``python -m tests.chaos.provider openai`` prints its URL, and serves until its standard input ends.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import orjson
from starlette.requests import ClientDisconnect

from batchor_core.testing import gemini_server
from batchor_core.testing.anthropic_server.responder import wanted_schema
from batchor_core.testing.openai_server import Timing
from batchor_core.testing.openai_server.prompts import spoken_text
from batchor_core.testing.openai_server.responder import answer_format
from tests.chaos.profile import profile

TIMING = Timing(validating=0.0, running=0.03, finalizing=0.0, cancelling=0.02)


def echo(body: dict[str, Any], endpoint: str, custom_id: str) -> str:
    """Say the prompt again, so that an answer that goes to the wrong item is seen."""
    text = spoken_text(body) or gemini_server.responder.spoken_text(body)
    formats = (answer_format, wanted_schema, gemini_server.responder.wanted_schema)
    wants_json = any(format_of(body) is not None for format_of in formats)
    return text if not wants_json else orjson.dumps({"said": text}).decode()


def is_news(record: logging.LogRecord) -> bool:
    """Whether a record tells more than that a client was killed while it sent something."""
    return record.exc_info is None or not isinstance(record.exc_info[1], ClientDisconnect)


def main() -> None:
    """Serve until nobody is there any more."""
    logging.getLogger("uvicorn.error").addFilter(is_news)
    provider = profile(sys.argv[1])
    with provider.server(responder=echo, timing=TIMING, protocols=provider.protocols) as server:
        print(server.url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
