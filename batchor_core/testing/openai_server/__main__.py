"""The server on the command line."""
# ruff: noqa: T201 - printing is what a command does

from __future__ import annotations

import argparse
import ipaddress
import logging
import signal
import sys
import threading
from collections.abc import Sequence

_DESCRIPTION = (
    "A local OpenAI-compatible server for Files and Batches. Its answers are made up, nothing is billed."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; return the exit status."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        from batchor_core.testing.openai_server import OpenAIServer
    except ModuleNotFoundError as missing:
        print(f"error: {missing}", file=sys.stderr)
        return 2
    if not _is_loopback(options.host):
        print(
            f"warning: {options.host} lets other machines connect; anyone may use this server",
            file=sys.stderr,
        )

    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    server = OpenAIServer(
        host=options.host,
        port=options.port,
        batch_seconds=options.batch_seconds,
        latency=options.latency,
        fault_rate=options.fault_rate,
        seed=options.seed,
        api_keys=options.api_key,
        state_dir=options.state_dir,
        manual=options.manual,
        clean_error_file_id="" if options.empty_error_file_id else None,
        omit_nulls=options.omit_nulls,
    )
    try:
        server.start()
        print(f"listening on {server.base_url}", flush=True)
        stopped.wait()
    except OSError as refused:
        print(f"error: can't listen on {options.host}:{options.port}: {refused.strerror}", file=sys.stderr)
        return 2
    finally:
        server.stop()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m batchor_core.testing.openai_server",
        description=_DESCRIPTION,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on")
    add("--port", type=_port, default=8099, help="port to listen on; 0 picks a free one")
    add(
        "--batch-seconds",
        type=_not_negative,
        default=1.0,
        help="time from a batch's creation to its completion",
    )
    add("--latency", type=_not_negative, default=0.0, help="seconds that every answer takes at least")
    add("--fault-rate", type=_share, default=0.0, help="share of the rows that fails, between 0 and 1")
    add("--seed", type=int, default=0, help="decides which rows fail")
    add("--state-dir", help="keep files and state here and use them again next time")
    add("--api-key", action="append", help="accept this key only; may be given several times")
    add("--manual", action="store_true", help="stop the clock except for POST /_control/advance")
    add(
        "--empty-error-file-id",
        action="store_true",
        help='return "" as error_file_id of a batch without errors',
    )
    add("--omit-nulls", action="store_true", help="leave optional fields out instead of answering null")
    return parser


def _port(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 65_535:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 65535")
    return number


def _not_negative(text: str) -> float:
    number = float(text)
    if not number >= 0:
        raise argparse.ArgumentTypeError(f"{text} is negative")
    return number


def _share(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return number


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


if __name__ == "__main__":
    sys.exit(main())
