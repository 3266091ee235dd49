"""Checks of arguments where they are passed in, so that a wrong type is reported there and not deep in a run."""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Iterable, Mapping
from typing import Any

from batchor_core.core.exceptions import InvalidInputError


def check_whole_number(name: str, value: Any, *, least: int) -> None:
    """Refuse anything but an int (a bool does not count) of at least ``least`` that databases and JSON can hold."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidInputError(f"{name} must be an int, not {shown(value)}")
    if value < least:
        raise InvalidInputError(f"{name} must be at least {least}, not {value}")
    if value >= 2**63:
        raise InvalidInputError(f"{name} must be less than 2**63")  # the number may have millions of digits


def check_seconds(name: str, value: Any) -> None:
    """Refuse anything but a finite number of at least 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidInputError(f"{name} must be a number of seconds, not {shown(value)}")
    if value < 0:
        raise InvalidInputError(f"{name} must not be negative, and is {value}")


def check_timeout(name: str, value: Any) -> None:
    """Refuse anything but a number and None; infinity is one, and what is over already is not refused."""
    if value is not None and (not isinstance(value, int | float) or math.isnan(value)):
        raise InvalidInputError(f"{name} must be a number of seconds or None, not {shown(value)}")


def check_bool(name: str, value: Any) -> None:
    """Refuse anything but True and False."""
    if not isinstance(value, bool):
        raise InvalidInputError(f"{name} must be True or False, not {shown(value)}")


def check_instance(name: str, value: Any, kind: type, *, hint: str = "") -> None:
    """Refuse anything but an instance of a class, such as the class itself."""
    if isinstance(value, kind):
        return
    if isinstance(value, type) and issubclass(value, kind):
        raise InvalidInputError(
            f"{name} is the class {value.__name__}; give an instance: {value.__name__}(...)"
        )
    raise InvalidInputError(f"{name} must be a {kind.__name__}, not {shown(value)}{hint}")


def check_function(name: str, value: Any) -> None:
    """Refuse objects that can't be called, and coroutine functions, which would not be awaited."""
    if not callable(value):
        raise InvalidInputError(f"{name} must be a function, not {shown(value)}")
    if inspect.iscoroutinefunction(value):
        raise InvalidInputError(
            f"{name} is a coroutine function; it must be a plain one, which returns its result"
        )


def check_items(items: Any, *, item_type: type) -> None:
    """Refuse what is obviously not a job's items; the items themselves are checked when they are read."""
    wanted = f"items must be an iterable of {item_type.__name__} objects or a source"
    if isinstance(items, str | bytes | os.PathLike):
        raise InvalidInputError(
            f"{wanted}, not {shown(items)}; for a file: CsvItemSource, JsonlItemSource or ParquetItemSource"
        )
    if isinstance(items, item_type):
        raise InvalidInputError(f"{wanted}, and is a single {item_type.__name__}; put it into a list")
    if isinstance(items, Mapping):
        raise InvalidInputError(f"{wanted}, not a dict; make an item of each entry")
    if hasattr(items, "__arrow_c_stream__") or hasattr(items, "iterrows"):
        raise InvalidInputError(
            f"{wanted}, not a table ({type(items).__name__}); FrameItemSource turns a table's rows into items"
        )
    if isinstance(items, type) or not isinstance(items, Iterable):
        raise InvalidInputError(f"{wanted}, not {shown(items)}")


def check_provider_config(config: Any, *, kind: type) -> None:
    """Refuse anything but a provider's config."""
    hint = (
        "; such as OpenAIProviderConfig(model=...)"
        if config is None or isinstance(config, str)
        else "; make one from the dict, such as OpenAIProviderConfig(**settings)"
        if isinstance(config, Mapping)
        else ""
    )
    check_instance("provider_config", config, kind, hint=hint)


def no_prompt(prompt: Any, system_prompt: Any) -> InvalidInputError:
    """The error about parts of a prompt that are not text."""
    return InvalidInputError(
        "a prompt must be a non-empty string and a system prompt a string or None; given were "
        f"prompt={shown(prompt)} and system_prompt={shown(system_prompt)}"
    )


def shown(value: Any) -> str:
    """A value in an error message: its type, and the value itself if it is short."""
    if value is None:
        return "None"
    kind = f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"
    try:
        text = repr(value)
    except ValueError:  # an int of more digits than Python writes out
        return kind
    return kind if isinstance(value, type) or len(text) > 60 else f"{text} ({kind})"
