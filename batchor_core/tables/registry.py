"""The table formats, by kind. Another format is a file beside this one and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from importlib.metadata import entry_points
from typing import Any, TypeAlias

from batchor_core.core.arguments import shown
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.tables.delta_sink import DeltaSink
from batchor_core.tables.parquet_sink import ParquetSink
from batchor_core.tables.sink import ResultSink

ENTRY_POINT_GROUP = "batchor.sinks"
"""Where an installed package registers a sink's class under its kind."""

_KINDS: dict[str, type[ResultSink]] = {sink.kind: sink for sink in (ParquetSink, DeltaSink)}

SinkChoice: TypeAlias = ResultSink | str | Mapping[str, Any] | None
"""A sink, its kind, or its kind with settings; None is Parquet."""


def register_sink(sink: type[ResultSink]) -> type[ResultSink]:
    """Register a format by its kind in this process; usable as a class decorator."""
    _KINDS[sink.kind] = sink
    return sink


def sink_of(choice: SinkChoice) -> ResultSink:
    """The sink for a choice: a sink, ``"delta"``, or ``{"kind": "delta", "url": "s3://bucket/results"}``.

    Raises:
        InvalidInputError: There is no such kind, or the kind has no such setting.
        ImportError: The format's package is missing; says what to install.
    """
    if choice is None:
        return ParquetSink()
    if isinstance(choice, ResultSink):
        if _class_of(choice.kind) is not type(choice):
            raise InvalidInputError(
                f"sink: {type(choice).__name__} is not registered, so readers of the table could not find it; put "
                "@batchor_core.tables.register_sink over it"
            )
        return choice
    if not isinstance(choice, str | Mapping):
        raise InvalidInputError(f"sink must be a sink, a kind or settings, not {shown(choice)}")
    settings = {"kind": choice} if isinstance(choice, str) else dict(choice)
    kind = settings.pop("kind", None)
    found = _class_of(kind)
    if found is None:
        known = [*_KINDS, *entry_points(group=ENTRY_POINT_GROUP).names]
        raise InvalidInputError(f"sink: there is no kind {kind!r}; there are {', '.join(known)}")
    names = [field.name for field in fields(found)]
    for name in settings:
        if name not in names:
            raise InvalidInputError(f"sink: {kind} has no setting {name!r}; it has {', '.join(names)}")
    return found(**settings)


def _class_of(kind: Any) -> type[ResultSink] | None:
    if kind in _KINDS:
        return _KINDS[kind]
    for point in entry_points(group=ENTRY_POINT_GROUP):
        if point.name == kind:
            where = f"sink: the kind {kind!r} ({point.value})"
            try:
                found = point.load()
            except Exception as error:  # somebody else's module
                raise InvalidInputError(
                    f"{where} can't be imported: {type(error).__name__}: {error}. Install its package completely"
                ) from error
            if isinstance(found, type) and issubclass(found, ResultSink) and is_dataclass(found):
                return found
            raise InvalidInputError(f"{where} is {shown(found)}, and must be a dataclass and a ResultSink")
    return None
