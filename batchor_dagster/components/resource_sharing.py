"""Which components of a project share a resource, a sensor and a control job, and under which key.

Components that describe the same resource share it; a component that describes none uses the project's. Another
database needs another resource, with its own key.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchor_core.core.exceptions import InvalidInputError
from batchor_dagster.control import DEFAULT_RESOURCE


@dataclass(frozen=True)
class Asked:
    """The settings of one component for its resource.

    Attributes:
        name: The component's first batch, as a Python name.
        settings: Of the resource it describes, defaults included; None if it describes none.
        key: The key it asks for; None if it leaves that open.
    """

    name: str
    settings: Mapping[str, Any] | None
    key: str | None = None


def resource_keys(components: Sequence[Asked]) -> list[str]:
    """The resource key of each component, in their order.

    A requested key is used. Of the other resources, the one that most components describe has the key ``batchor``,
    which components without a description use too. Each further resource is named after the first component that
    describes it.

    Raises:
        InvalidInputError: Two resources are described equally often, so that it is open which one a component without a
            description uses; or components disagree about one resource, or about the resource of one database: a sensor drives all
            runs of its database, and would send those of one component with the other's key, or to the other's server.
    """
    described = sorted((one for one in components if one.settings is not None), key=lambda one: one.name)
    _check_databases(described)
    named: dict[str, Asked] = {}
    for one in described:
        if one.key is not None:
            first = named.setdefault(one.key, one)
            _check_same(first, one, f"the resource {one.key!r}", "give one of them another resource_key")
    keys = {_database(one.settings or {}): key for key, one in named.items()}
    by_use = Counter(_database(one.settings or {}) for one in described)
    if DEFAULT_RESOURCE not in keys.values():
        _check_default(
            components, [one for one in described if _database(one.settings or {}) not in keys], by_use
        )
    for one in sorted(described, key=lambda one: -by_use[_database(one.settings or {})]):
        if one.key is None:
            key = (
                DEFAULT_RESOURCE
                if DEFAULT_RESOURCE not in keys.values()
                else f"{DEFAULT_RESOURCE}_{one.name}"
            )
            keys.setdefault(_database(one.settings or {}), key)
    return [
        one.key or (DEFAULT_RESOURCE if one.settings is None else keys[_database(one.settings)])
        for one in components
    ]


def _check_default(
    components: Iterable[Asked], described: Sequence[Asked], by_use: Mapping[str, int]
) -> None:
    """Refuse to guess where a component's runs are kept: in another database they would be paid for again."""
    left_open = next((one for one in components if one.settings is None and one.key is None), None)
    most = max((by_use[_database(one.settings or {})] for one in described), default=0)
    first = {_database(one.settings or {}): one for one in reversed(described)}
    tied = sorted(one.name for database, one in first.items() if by_use[database] == most)
    if left_open is not None and len(tied) > 1:
        raise InvalidInputError(
            f"The component of {left_open.name!r} has no `resource`, and could use that of {tied[0]!r} or of {tied[1]!r}. Give "
            f"the one that it should use `resource_key: {DEFAULT_RESOURCE}`, or give the component a `resource`."
        )


def _check_databases(described: Iterable[Asked]) -> None:
    first: dict[str, Asked] = {}
    for one in described:
        database = _database(one.settings or {})
        _check_same(
            first.setdefault(database, one),
            one,
            f"the same database, {database},",
            "give one of them another root",
        )


def _check_same(one: Asked, another: Asked, shared: str, otherwise: str) -> None:
    before, now = one.settings or {}, another.settings or {}
    differing = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    if differing:
        details = ", ".join(f"{name}: {before.get(name)!r} and {now.get(name)!r}" for name in differing)
        raise InvalidInputError(
            f"The components of {one.name!r} and {another.name!r} use {shared} with different settings ({details}). Make them "
            f"the same, leave `resource` out of one, or {otherwise}."
        )


def _database(settings: Mapping[str, Any]) -> str:
    """The settings that identify a store."""
    storage, root = settings.get("storage"), str(settings.get("root"))
    if storage == "postgres":
        return f"postgres schema {settings.get('postgres_schema') or 'of the environment'}"
    path = Path(settings.get("sqlite_path") or Path(root, "batchor.sqlite3")).expanduser().absolute()
    return f"{storage} {os.path.normpath(path)}"
