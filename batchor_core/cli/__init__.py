"""The command line: jobs from a terminal, and commands for their runs. Needs the ``cli`` extra."""

from __future__ import annotations

import logging
import sys


def main() -> None:
    """Entry point of the ``batchor`` command."""
    try:
        from batchor_core.cli.app import app
    except KeyboardInterrupt:
        sys.exit(130)  # of a command that has not begun
    except ImportError as error:
        if error.name not in ("typer", "rich", "click", "jinja2"):
            raise
        sys.exit(f"the batchor command needs {error.name}: pip install 'batchor-core[cli]'")
    logging.getLogger("batchor_core").setLevel(logging.ERROR)  # what concerns a person, doctor says
    app()
