"""Local files that messages name: read once, while their row is read."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.models import PromptParts
from batchor_core.core.parts import LocalPath, parts_of, with_data
from batchor_core.core.types import JSONObject


def with_contents(prompt: PromptParts, *, most_bytes: int = sys.maxsize) -> PromptParts:
    """A prompt with the contents of the files that it names; the same prompt if it names none.

    Args:
        prompt: The prompt.
        most_bytes: Larger files are refused without reading them, since no batch has room for them.

    Raises:
        InvalidInputError: A file can't be read or can't be sent; says which.
    """
    if prompt.messages is None or not any(
        isinstance(part.get("path"), LocalPath) for part in parts_of(prompt.messages)
    ):
        return prompt
    messages = [
        _loaded(f"messages[{number}].content", message, most_bytes)
        for number, message in enumerate(prompt.messages)
    ]
    return replace(prompt, messages=messages)


def _loaded(where: str, message: JSONObject, most_bytes: int) -> JSONObject:
    content = message.get("content")
    if not isinstance(content, list | tuple):
        return message
    parts = [
        _with_file(f"{where}[{number}]", part, most_bytes)
        if isinstance(part.get("path"), LocalPath)
        else part
        for number, part in enumerate(content)
    ]
    return {**message, "content": parts}


def _with_file(where: str, part: JSONObject, most_bytes: int) -> JSONObject:
    path = Path(part["path"])
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size * 4 // 3 > most_bytes:
                raise InvalidInputError(
                    f"{where}: the file {path} has {size:,} bytes, and a batch has room for {most_bytes:,} with base64"
                )
            content = file.read()
    except OSError as error:
        found = f"{where}: the file {path} can't be read: {error.strerror or error}"
        hint = (
            "" if path.is_absolute() else f"; a relative path begins at the working directory, {Path.cwd()}"
        )
        raise InvalidInputError(found + hint) from error
    return with_data(where, part, content, path.name)
