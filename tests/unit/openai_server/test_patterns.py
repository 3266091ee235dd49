"""Strings are made to match simple regular expressions."""

from __future__ import annotations

import re
from random import Random

import pytest

from batchor_core.testing.local_server.patterns import UnsupportedPatternError, pattern_writer


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "abc",
        "^abc$",
        "a|b|cd",
        "(?:x|y)+z",
        r"\d{3}-\d{4}",
        r"[A-Z][a-z]*",
        r"[^abc]{5}",
        r"[\w.+-]+@[a-z]+\.com",
        r"a{2,}b{,3}",
        r"\w+\s\S\D\W",
        r"[a\]-]+",
        r"^\^\$\.$",
        r"\bword\b",
        r"x*?y+?z??",
        r"line\n",
    ],
)
def test_what_is_written_matches(pattern: str) -> None:
    write = pattern_writer(pattern)
    for seed in range(50):
        written = write(Random(seed))
        assert re.search(pattern, written), written


@pytest.mark.parametrize(
    "pattern", [r"(?=a)b", r"(a)\1", "*", "[", "[]", "(", ")", "a{x}", r"\p{L}", "\\", "(?P<n>a)"]
)
def test_what_goes_beyond_is_refused(pattern: str) -> None:
    with pytest.raises(UnsupportedPatternError):
        pattern_writer(pattern)
