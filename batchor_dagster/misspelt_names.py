"""Names that a model does not have, reported with the name that was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from typing import Any

import dagster as dg
from pydantic import BaseModel

from batchor_core.core.exceptions import InvalidInputError


def advice(name: str, known: Collection[str]) -> str:
    """What to append to "unknown name ...": the nearest known name, or all of them."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known here: {', '.join(known)}"


def refuse_unknown(model: type[BaseModel], given: Iterable[str]) -> None:
    """Check the arguments of a Dagster config class, which would drop those that it does not know.

    Raises:
        InvalidInputError: Names every unknown argument. A class with ``extra="allow"`` takes any.
    """
    if model.model_config.get("extra") == "allow":
        return
    aliases = {field.alias for field in model.model_fields.values() if field.alias}
    unknown = [name for name in given if name not in model.model_fields and name not in aliases]
    if unknown:
        known = list(model.model_fields)
        raise InvalidInputError(
            "; ".join(
                f"{model.__name__} has no setting {name!r}{advice(name, known)}" for name in sorted(unknown)
            )
        )


class CheckedConfig(dg.Config):
    """A Dagster config class that refuses unknown arguments."""

    def __init__(self, **data: Any) -> None:
        refuse_unknown(type(self), data)
        super().__init__(**data)
