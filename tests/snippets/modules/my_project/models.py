"""What the pages' users have in their own project."""

from typing import Literal

from pydantic import BaseModel


class Review(BaseModel):
    sentiment: Literal["positive", "negative", "mixed"]
    summary: str
