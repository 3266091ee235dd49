"""Leads links that leave the documentation, such as to an example, to the text of their file in the repository."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

_OUTSIDE = re.compile(
    r"\[([^\]]+)\]\(((?:\.\./)+(?:examples|benchmarks|tests|CONTRIBUTING|SECURITY|CHANGELOG)[^)\s]*)\)"
)


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """A site has no page for them: their name stays, as code that can be found in a checkout."""
    docs = Path(config.docs_dir)

    def named(found: re.Match[str]) -> str:
        target = (Path(page.file.abs_src_path).parent / found[2].partition("#")[0]).resolve()
        return f"{found[1]} (`{target.relative_to(docs.parent)}`)"

    return _OUTSIDE.sub(named, markdown)
