"""Defaults of the commands in ``batchor.toml``, or in the ``[tool.batchor]`` table of ``pyproject.toml``.

The nearest file, from the working directory upwards, counts. Its ``profiles`` are further sets of defaults, by name: each
overrides the file's own.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from batchor_core.core.exceptions import InvalidInputError

FILE = "batchor.toml"
PROJECT_FILE = "pyproject.toml"


@dataclass(frozen=True, slots=True)
class Profile:
    """Defaults of the commands; None if the file does not set one.

    Attributes:
        db: SQLite file; relative to the profile's file.
        postgres: Whether runs are in the database that ``BATCHOR_POSTGRES_DSN`` names.
        postgres_schema: Its schema.
        artifacts: Folder or URL of the runs' files; relative to the profile's file.
        prices: TOML file with prices of your own; relative to the profile's file.
        provider: Kind of the provider.
        model: Model of new runs.
        base_url: The provider's server.
        host: The profile of the server's host, as ``--host`` has it.
        endpoint: Where requests are sent there.
        id: Column of the rows' ids.
        repair: As ``--repair`` has it.
        options: As ``--option`` has them.
        source: The file that says so.
    """

    db: str | None = None
    postgres: bool | None = None
    postgres_schema: str | None = None
    artifacts: str | None = None
    prices: str | None = None
    provider: str | None = None
    model: str | None = None
    base_url: str | None = None
    host: str | None = None
    endpoint: str | None = None
    id: str | None = None
    repair: int | None = None
    options: dict[str, Any] = field(default_factory=dict)
    source: Path | None = None


_SETTINGS = sorted({one.name for one in fields(Profile)} - {"source"})
_PROFILES = "profiles"
_KINDS: dict[str, tuple[type, str]] = {
    "postgres": (bool, "true or false"),
    "repair": (int, "a number, 0 or more"),
    "options": (dict, "a table"),
}


def load_profile(name: str | None = None, *, folder: Path | None = None) -> Profile:
    """The defaults that apply in a folder.

    Args:
        name: One of the file's profiles; its own defaults without it.
        folder: Where to look first; the working directory by default.

    Raises:
        InvalidInputError: The file is no TOML, holds a setting that there is not, or has no such profile.
    """
    found = _nearest(folder or Path.cwd())
    if found is None:
        if name is not None:
            raise InvalidInputError(
                f"there is no profile {name!r}: no {FILE} in this folder or above, and no [tool.batchor] in a {PROJECT_FILE}"
            )
        return Profile()
    path, table = found
    profiles = table.get(_PROFILES, {})
    if not isinstance(profiles, Mapping) or not all(isinstance(one, Mapping) for one in profiles.values()):
        raise InvalidInputError(f"{path}: profiles must be tables, such as [profiles.local]")
    settings = _checked(path, {key: value for key, value in table.items() if key != _PROFILES})
    for each, values in profiles.items():
        checked = _checked(path, values, where=f"profile {each!r}: ")
        if each == name:
            settings |= checked | {"options": settings.get("options", {}) | checked.get("options", {})}
    if name is not None and name not in profiles:
        raise InvalidInputError(f"{path} has no profile {name!r}{near(name, profiles)}")
    for place in ("db", "artifacts", "prices"):
        if (given := settings.get(place)) and "://" not in given:
            settings[place] = str(path.parent / Path(given).expanduser())
    return Profile(**settings, source=path)


def near(word: str, known: Iterable[str]) -> str:
    """The nearest known name, or else all of them, as the end of an error message."""
    there = sorted(known)
    close = difflib.get_close_matches(word, there, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; there are {', '.join(there)}" if there else "; there are none"


def _nearest(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    for place in [folder, *folder.parents]:
        if (own := place / FILE).is_file():
            return own, _toml(own)
        if (project := place / PROJECT_FILE).is_file():
            table = _toml(project).get("tool", {}).get("batchor")
            if table is not None:
                return project, table
    return None


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{path} is not TOML: {error}") from None


def _checked(path: Path, table: Mapping[str, Any], *, where: str = "") -> dict[str, Any]:
    for name, value in table.items():
        if name not in _SETTINGS:
            if name == _PROFILES:
                advice = ": a profile can't hold others"
            elif "key" in name.lower():
                advice = "; keys come from the environment alone"
            else:
                advice = near(name, [*_SETTINGS, _PROFILES])
            raise InvalidInputError(f"{path}: {where}unknown setting {name!r}{advice}")
        kind, wanted = _KINDS.get(name, (str, "a string"))
        is_number = isinstance(value, int) and not isinstance(value, bool) and value >= 0
        if not (is_number if kind is int else isinstance(value, kind)):
            raise InvalidInputError(f"{path}: {where}{name} must be {wanted}, not {value!r}")
    return dict(table)
