"""Leaves out the line of a class's bases if one of them is internal or only says that it is generic."""

from __future__ import annotations

import re
from typing import Any

_BASES = re.compile(r'<p class="doc doc-class-bases">.*?</p>', re.DOTALL)
_INTERNAL = re.compile(r'<code><span title="(?:batchor_|typing\.Generic)')


def on_post_page(output: str, **_: Any) -> str:
    """Links are in place by now: a base without one is not on any page."""
    return _BASES.sub(lambda found: "" if _INTERNAL.search(found[0]) else found[0], output)
