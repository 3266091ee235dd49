"""The server on the command line."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from batchor_core.testing.local_server.command import make_parser, run_server

_DESCRIPTION = (
    "A local server of the Gemini API's Files and Batches. Its answers are made up, nothing is billed."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; return the exit status."""

    def make(common: dict[str, Any]) -> Any:
        from batchor_core.testing.gemini_server import GeminiServer

        return GeminiServer(**common)

    parser = make_parser("batchor_core.testing.gemini_server", _DESCRIPTION)
    return run_server(parser.parse_args(arguments), make)


if __name__ == "__main__":
    sys.exit(main())
