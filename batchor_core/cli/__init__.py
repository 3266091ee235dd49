"""The command line: look at stored runs, and decide where a person has to. Needs the ``cli`` extra, and no API key."""

from __future__ import annotations

import logging
import sys


def main() -> None:
    """Entry point of the ``batchor`` command."""
    try:
        from batchor_core.cli.app import app
    except ImportError as error:
        if error.name not in ("typer", "rich", "click"):
            raise
        sys.exit(f"the batchor command needs {error.name}: pip install 'batchor-core[cli]'")
    logging.getLogger("batchor_core").setLevel(logging.ERROR)  # what concerns a person, doctor says
    app()
