"""The function under ``@batch_asset``: which parameter is the context, and how a Dagster step calls it."""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg

from batchor_core import BatchJob
from batchor_core.core.exceptions import InvalidInputError
from batchor_dagster.resource import BatchorResource

CONFIG = "config"

CONTEXT_NAMES = frozenset({"context", "_context", "context_", "_"})
"""A first parameter of one of these names is the context: Dagster's rule for ``@asset``."""

_CONTEXT_TYPES = (dg.AssetExecutionContext, dg.OpExecutionContext)


@dataclass(frozen=True)
class JobFunction:
    """A user's function and its parameters.

    Attributes:
        function: What to call.
        name: For messages.
        context: Its first parameter, if that is the context.
        parameters: All others, with their annotations resolved: config, resources and upstream assets, as Dagster tells them
            apart.
    """

    function: Callable[..., Any]
    name: str
    context: inspect.Parameter | None
    parameters: tuple[inspect.Parameter, ...]

    @classmethod
    def of(cls, function: Callable[..., Any], *, resource_key: str) -> JobFunction:
        """Read a function's signature.

        Raises:
            InvalidInputError: Dagster can't fill a parameter, or the annotated return type is not a ``BatchJob``. Says what to
                write instead.
        """
        name = str(getattr(function, "__name__", type(function).__name__))
        parameters = [
            parameter.replace(annotation=_annotation(function, name, parameter))
            for parameter in inspect.signature(function).parameters.values()
        ]
        context = parameters.pop(0) if parameters and _is_context(parameters[0], CONTEXT_NAMES) else None
        for parameter in parameters:
            _check(name, parameter, resource_key)
        _check_returned(function, name)
        return cls(function, name, context, tuple(parameters))

    def step_parameters(self, added: Mapping[str, Any]) -> list[inspect.Parameter]:
        """The parameters of the step that calls it: the context, ``added`` ones by their annotations, then its own."""
        # Dagster finds no upstream assets in keyword-only parameters
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        own = [p if p.kind is p.VAR_KEYWORD else p.replace(kind=kind) for p in self.parameters]
        # those with defaults may stand behind others only
        own.sort(key=lambda p: (p.kind, p.default is not p.empty))
        return [
            inspect.Parameter("context", kind, annotation=dg.AssetExecutionContext),
            *(inspect.Parameter(name, kind, annotation=annotation) for name, annotation in added.items()),
            *own,
        ]

    def __call__(self, context: Any, given: Mapping[str, Any]) -> Any:
        """Call it with what Dagster gave the step."""
        named = dict(given)
        only_by_place = [p.name for p in self.parameters if p.kind is p.POSITIONAL_ONLY and p.name in named]
        by_place = [named.pop(name) for name in only_by_place]
        if self.context is not None and self.context.kind is self.context.KEYWORD_ONLY:
            named[self.context.name] = context
        elif self.context is not None:
            by_place.insert(0, context)
        return self.function(*by_place, **named)


def _check(name: str, parameter: inspect.Parameter, resource_key: str) -> None:
    if parameter.kind is parameter.VAR_POSITIONAL:
        raise InvalidInputError(
            f"{name}: *{parameter.name} can't be filled, since Dagster gives upstream assets by name. "
            "Give each a parameter, or use ins=... and **kwargs."
        )
    if _is_context(parameter, {"context"}):  # the step has a context of that name
        raise InvalidInputError(
            f"{name}: the context must be its first parameter, and {parameter.name!r} is not"
        )
    annotation = parameter.annotation
    is_resource = isinstance(annotation, type) and issubclass(annotation, BatchorResource)
    if parameter.name == resource_key and not is_resource:
        raise InvalidInputError(
            f"{name}: {resource_key!r} is the name of the resource. Annotate the parameter with BatchorResource, or give the "
            "upstream asset another name with ins=..."
        )


def _check_returned(function: Callable[..., Any], name: str) -> None:
    """Raise if the annotation rules out that a job is returned. One that can't be resolved here is accepted."""
    try:
        returned = typing.get_type_hints(function).get("return", Any)
        made = typing.get_origin(returned) or returned
        may_be_a_job = made in (Any, types.UnionType, typing.Union) or not isinstance(made, type)
        may_be_a_job = may_be_a_job or issubclass(made, BatchJob) or issubclass(BatchJob, made)
    except Exception:  # evaluating what somebody wrote may raise anything, and nothing depends on it
        return
    if not may_be_a_job:
        raise InvalidInputError(
            f"{name}: a function under @batch_asset returns a BatchJob, and its annotation says "
            f"{getattr(returned, '__name__', returned)}. Return BatchJob(items=..., build_prompt=..., provider_config=...)."
        )


def _is_context(parameter: inspect.Parameter, names: Collection[str]) -> bool:
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        return False
    alternatives = [parameter.annotation]
    if typing.get_origin(parameter.annotation) in (typing.Union, types.UnionType):
        alternatives += typing.get_args(parameter.annotation)
    return parameter.name in names or any(
        isinstance(one, type) and issubclass(one, _CONTEXT_TYPES) for one in alternatives
    )


def _annotation(function: Callable[..., Any], name: str, parameter: inspect.Parameter) -> Any:
    """A parameter's annotation with whatever is written as a string looked up; each by itself, so that none spoils another."""
    if parameter.annotation is parameter.empty:
        return parameter.empty

    def holder() -> None: ...

    holder.__annotations__ = {parameter.name: parameter.annotation}
    try:
        hints = typing.get_type_hints(holder, globalns=_globals(function), include_extras=True)
    except Exception as error:  # evaluating what somebody wrote may raise anything
        raise InvalidInputError(
            f"{name}: the annotation {parameter.annotation!r} of {parameter.name!r} can't be resolved ({error}). Import its "
            "type at the top of the module, outside `if TYPE_CHECKING:` and outside functions, or write it without quotes "
            "in a module without `from __future__ import annotations`."
        ) from error
    return hints[parameter.name]


def _globals(function: Any) -> dict[str, Any]:
    """The names that the function's module knows."""
    function = inspect.unwrap(function)
    while isinstance(function, functools.partial):
        function = inspect.unwrap(function.func)
    if not inspect.isfunction(function) and not inspect.ismethod(function):
        function = type(function).__call__  # an object that can be called
    found: dict[str, Any] = getattr(function, "__globals__", {})
    return found
