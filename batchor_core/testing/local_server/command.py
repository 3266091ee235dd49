"""A local server on the command line."""
# ruff: noqa: T201 - printing is what a command does

from __future__ import annotations

import argparse
import ipaddress
import logging
import signal
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the server's libraries may be missing
    from batchor_core.testing.local_server.server import LocalServer


def run_server(options: argparse.Namespace, make: Callable[[dict[str, Any]], LocalServer]) -> int:
    """Serve until SIGTERM or SIGINT; return the exit status.

    Args:
        options: Of the parser of :func:`make_parser`.
        make: Makes the server, given the options that every server takes.
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    if not _is_loopback(options.host):
        print(
            f"warning: {options.host} lets other machines connect; anyone may use this server",
            file=sys.stderr,
        )
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    common = {
        "host": options.host,
        "port": options.port,
        "batch_seconds": options.batch_seconds,
        "latency": options.latency,
        "fault_rate": options.fault_rate,
        "seed": options.seed,
        "api_keys": options.api_key,
        "state_dir": options.state_dir,
        "manual": options.manual,
    }
    try:
        server = make(common)
    except ModuleNotFoundError as missing:
        print(f"error: {missing}", file=sys.stderr)
        return 2
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


def make_parser(module: str, description: str) -> argparse.ArgumentParser:
    """The options that every local server has, for ``python -m MODULE``."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=description,
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
