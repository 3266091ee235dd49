"""The server on the command line."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from batchor_core.testing.local_server.command import make_parser, run_server

_DESCRIPTION = (
    "A local OpenAI-compatible server for Files and Batches. Its answers are made up, nothing is billed."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; return the exit status."""
    parser = make_parser("batchor_core.testing.openai_server", _DESCRIPTION)
    parser.add_argument(
        "--empty-error-file-id",
        action="store_true",
        help='return "" as error_file_id of a batch without errors',
    )
    parser.add_argument(
        "--omit-nulls", action="store_true", help="leave optional fields out instead of answering null"
    )
    options = parser.parse_args(arguments)

    def make(common: dict[str, Any]) -> Any:
        from batchor_core.testing.openai_server import OpenAIServer

        return OpenAIServer(
            **common,
            clean_error_file_id="" if options.empty_error_file_id else None,
            omit_nulls=options.omit_nulls,
        )

    return run_server(options, make)


if __name__ == "__main__":
    sys.exit(main())
