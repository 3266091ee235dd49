"""What the model is asked for."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, Field


class Level(StrEnum):
    """The levels of the Common European Framework, two by two."""

    BEGINNER = "beginner"
    INTERMEDIATE = "intermediate"
    ADVANCED = "advanced"


class Example(BaseModel):
    """A sentence that shows the word in use."""

    sentence: str
    formal: bool = Field(description="Whether it belongs to written rather than to spoken language")


class Card(BaseModel):
    """A learner's card for one word."""

    definition: str = Field(description="The meaning in at most fifteen plain words")
    level: Level = Field(description="When a learner meets the word")
    concrete: bool = Field(description="Whether it names something that can be seen or touched")
    related_words: list[str] = Field(description="Up to five words of the same field")
    example: Example
    usage_note: str | None = Field(description="A warning about a false friend or a trap, if there is one")
