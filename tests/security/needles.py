"""Looking for a key, and for pieces and disguises of it, in whatever a process leaves behind."""

from __future__ import annotations

import base64
import traceback
import urllib.parse
from collections.abc import Iterable
from pathlib import Path

# letters, digits and marks that change in every encoding; the first twelve are nobody else's
KEY = "sk-Qx7/Can+ary=9Zt4vB2mLw8"


def needles(key: str = KEY) -> list[bytes]:
    """The key as it is, its first twelve characters, URL-encoded, and in base64 at each of the three alignments."""
    raw = key.encode()
    encoded = [base64.b64encode(b"x" * shift + raw)[4 if shift else 0 : -4] for shift in range(3)]
    return [raw, raw[:12], urllib.parse.quote(key, safe="").encode(), *encoded]


def found_in(data: bytes) -> list[bytes]:
    """The needles that are in there."""
    return [needle for needle in needles() if needle in data]


def found_below(folder: Path) -> dict[str, list[bytes]]:
    """Files that hold a needle, and which."""
    hits = {
        str(path.relative_to(folder)): found_in(path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    return {name: found for name, found in hits.items() if found}


def told_by(errors: Iterable[BaseException]) -> bytes:
    """All that crash reporters show of errors: messages, attributes, causes, and every local variable of every frame."""
    told = []
    for error in errors:
        trace = traceback.TracebackException.from_exception(error, capture_locals=True)
        told += [*trace.format(), repr(error), str(error), repr(vars(error))]
    return "\n".join(told).encode("utf-8", "replace")
