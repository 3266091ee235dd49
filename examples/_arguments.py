"""The two arguments that every script takes."""

from __future__ import annotations

import argparse
from pathlib import Path


def parse(description: str | None) -> argparse.Namespace:
    """``--base-url`` (by default ``OPENAI_BASE_URL``, then OpenAI itself) and ``--folder`` for what is written."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument(
        "--base-url", help="an OpenAI-compatible server, such as python -m batchor_core.testing.openai_server"
    )
    parser.add_argument("--folder", type=Path, default=Path(".demo/scripts"), help="where to keep the run")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    return options
