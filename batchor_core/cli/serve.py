"""``batchor serve``: the local server, to try things without a key and at no cost."""

from __future__ import annotations

from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from batchor_core.cli.console import say


class Served(StrEnum):
    """Whose API is served."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    GEMINI = "gemini"


def serve(
    provider: Annotated[Served, typer.Option("--provider", help="Whose API to serve.")] = Served.OPENAI,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65_535, help="Port to listen on; 0 picks a free one.")
    ] = 8099,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    batch_seconds: Annotated[
        float,
        typer.Option("--batch-seconds", min=0.0, help="Time from a batch's creation to its completion."),
    ] = 1.0,
    latency: Annotated[float, typer.Option("--latency", min=0.0, help="Minimum seconds per response.")] = 0.0,
    fault_rate: Annotated[
        float, typer.Option("--fault-rate", min=0.0, max=1.0, help="Share of the rows that fail.")
    ] = 0.0,
    seed: Annotated[int, typer.Option("--seed", help="Decides which rows fail.")] = 0,
    state_dir: Annotated[
        Path | None,
        typer.Option("--state-dir", help="Keep files and state here, and use them again next time."),
    ] = None,
) -> None:
    """Serve a provider's batch API on this machine until Ctrl-C. Answers are made up, and nothing is billed.

    Commands are sent to it with --base-url http://127.0.0.1:8099/v1, or OPENAI_BASE_URL, and any OPENAI_API_KEY; with
    --provider anthropic or gemini without the /v1, or ANTHROPIC_BASE_URL or GEMINI_BASE_URL, and any key in ANTHROPIC_API_KEY or
    GEMINI_API_KEY.
    """
    main = import_module(f"batchor_core.testing.{provider}_server.__main__").main

    options: dict[str, object] = {
        "--host": host,
        "--port": port,
        "--batch-seconds": batch_seconds,
        "--latency": latency,
        "--fault-rate": fault_rate,
        "--seed": seed,
    }
    if state_dir is not None:
        options["--state-dir"] = state_dir
    say(f"answers are made up; any {provider.upper()}_API_KEY works, and nothing is billed")
    raise typer.Exit(main([word for name, value in options.items() for word in (name, str(value))]))
