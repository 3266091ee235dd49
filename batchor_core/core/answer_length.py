"""How long answers may be where nothing says so."""

from __future__ import annotations

DEFAULT_ANSWER_TOKENS = 4_096
"""Reserved for an answer if nothing limits its length."""
