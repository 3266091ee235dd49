"""The engine speaks of batches and rows. Words of one vendor stay in that vendor's package."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import batchor_core

PACKAGE = Path(batchor_core.__file__).parent
NEUTRAL = ("core", "runtime", "storage", "sources")
WORDS = re.compile(
    r"openai|azure|anthropic|claude|gemini|mistral|groq|gpt-|chat.completions?|/v1/|responses endpoint|request_counts"
    # what single endpoints call their parts
    r"|embedding|moderation|image_url|input_(?:text|image|file_data|audio)|tool_calls|finish_reason|response_format"
    r"|max_completion_tokens",
    re.I,
)

DOCUMENTED = {
    "core/enums.py": "the documented enums of the built-in provider and its kind",
    "core/types.py": "the documented shapes of a request line and of a batch's record",
    "core/models.py": "docstrings name the limits that documented defaults come from",
    "core/policies.py": "the same",
    "core/batching.py": "the documented error class of a request beyond the batch's tokens",
    "core/validation.py": "the source of a limit",
    "core/arguments.py": "an error shows the config that is mostly meant",
    "core/enqueue_budget.py": "fields that other configs may share with the documented one",
}
"""Files that hold vendor words, and why they may."""


def words_in(path: Path) -> list[str]:
    return [
        f"{path.relative_to(PACKAGE)}:{number}: {line.strip()}"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if WORDS.search(line)
    ]


def neutral_files() -> list[Path]:
    return [path for folder in NEUTRAL for path in sorted((PACKAGE / folder).rglob("*.py"))]


@pytest.mark.parametrize("path", neutral_files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_engine_uses_no_vendors_words(path: Path) -> None:
    if str(path.relative_to(PACKAGE)) not in DOCUMENTED:
        assert words_in(path) == []


def test_every_exception_is_still_needed() -> None:
    assert [name for name in DOCUMENTED if not words_in(PACKAGE / name)] == []


def test_vendor_words_are_seen(tmp_path: Path) -> None:
    assert WORDS.search("the provider's request_counts")
    assert WORDS.search("OpenAI's Chat Completions")
    assert WORDS.search('{"type": "input_image"}')
    assert not WORDS.search("the provider answers with a batch")
