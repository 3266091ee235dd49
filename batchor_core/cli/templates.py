"""Prompts as Jinja2 templates over the fields of a row.

Templates run in Jinja's sandbox, and a name that the row does not have is an error: an empty place in a prompt would be paid for
without anybody noticing. Nothing in them is random, since an interrupted run renders its rows again and compares them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, UndefinedError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from batchor_core.cli.profiles import near
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.models import BatchItem, PromptParts
from batchor_core.core.plain import json_safe

ROW = "row"
"""The whole row, for columns whose names are not identifiers: ``{{ row["review text"] }}``."""


class RowTemplate:
    """A text with placeholders for the fields of a row.

    Args:
        source: The template.
        name: What errors call it.

    Raises:
        InvalidInputError: It is no template; says in which line.
    """

    def __init__(self, source: str, *, name: str) -> None:
        self.name = name
        try:
            self._template = _ENVIRONMENT.from_string(source)
            self._names = meta.find_undeclared_variables(_ENVIRONMENT.parse(source))
        except TemplateSyntaxError as error:
            raise InvalidInputError(f"{name}, line {error.lineno}: {error.message}") from None

    def render(self, row: Mapping[str, Any], *, row_id: str) -> str:
        """The text for one row.

        Raises:
            InvalidInputError: A field is missing or can't be used like this; names the row and the fields that there are.
        """
        try:
            return self._template.render({ROW: row, **row})
        except UndefinedError as error:
            raise InvalidInputError(self._about_missing(row, row_id, error)) from None
        except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            problem = f"{type(error).__name__}: {error}"
            raise InvalidInputError(f"{self.name} can't be filled in for row {row_id!r}: {problem}") from None

    def _about_missing(self, row: Mapping[str, Any], row_id: str, error: UndefinedError) -> str:
        missing = sorted(self._names - row.keys() - {ROW})
        if not missing:
            return f"{self.name} can't be filled in for row {row_id!r}: {error.message}"
        fields = ", ".join(map(repr, row))
        hint = near(missing[0], row).partition("; there")[0]
        return f"{self.name} names {missing[0]!r}, which row {row_id!r} does not have{hint}; its columns are {fields}"


class Attachment(NamedTuple):
    """What is sent beside a prompt.

    Attributes:
        kind: Type of the part: ``image`` or ``file``.
        place: Template of its path or URL.
    """

    kind: str
    place: RowTemplate

    def part(self, row: Mapping[str, Any], *, row_id: str) -> dict[str, Any] | None:
        """The part for one row; None where the template is empty."""
        place = self.place.render(row, row_id=row_id).strip()
        if not place:
            return None
        is_url = place.lower().startswith(("https://", "http://"))
        return (
            {"type": self.kind, "url": place}
            if is_url
            else {"type": self.kind, "path": Path(place).expanduser()}
        )


class Prompts:
    """The prompts of a job: what ``build_prompt`` is.

    Args:
        prompt: The user's turn.
        system: Instructions before it.
        attachments: Images and documents of the user's turn.
    """

    def __init__(
        self, prompt: RowTemplate, system: RowTemplate | None = None, attachments: Sequence[Attachment] = ()
    ) -> None:
        self._prompt = prompt
        self._system = system
        self._attachments = attachments

    def __call__(self, item: BatchItem[Mapping[str, Any]]) -> PromptParts:
        row = item.payload
        prompt = self._prompt.render(row, row_id=item.item_id)
        if not prompt.strip():
            raise InvalidInputError(f"{self._prompt.name} is empty for row {item.item_id!r}")
        system = self._system.render(row, row_id=item.item_id) if self._system is not None else None
        if self._attachments:
            made = [attachment.part(row, row_id=item.item_id) for attachment in self._attachments]
            if parts := [part for part in made if part is not None]:
                content = [{"type": "text", "text": prompt}, *parts]
                return PromptParts.of_messages(
                    [{"role": "user", "content": content}], system_prompt=system or None
                )
        return PromptParts(prompt, system or None)


def _shown(value: Any) -> Any:
    """What ``{{ value }}`` writes: nothing for a missing value, and JSON for lists and objects."""
    if value is None:
        return ""
    return _json(value) if isinstance(value, list | dict) else value


def _json(value: Any, indent: int | None = None) -> str:
    """The filter ``tojson``, without the escapes that Jinja makes for HTML."""
    return json.dumps(json_safe(value), ensure_ascii=False, indent=indent)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined,
        autoescape=False,  # prompts are no HTML
        finalize=_shown,
    )
    environment.filters["tojson"] = _json
    del environment.filters["random"], environment.globals["lipsum"]
    return environment


_ENVIRONMENT = _environment()
