"""Whether the processes that drive a run can import its model, by which they check the answers."""

from collections.abc import Iterable, Sequence

from pydantic import BaseModel

from batchor_core.core.exceptions import InvalidInputError, ModelResolutionError
from batchor_core.core.outputs import ModelOutput, OutputSpec
from batchor_core.core.structured import resolve_model
from batchor_core.core.tools import ToolOutput
from batchor_core.tables.answer_columns import as_output
from batchor_dagster.facts import BatchFacts


def check_models(assets: Iterable[BatchFacts]) -> None:
    """Refuse models that the driver of a run can't find by their names.

    A stored run has the name of its model. A driver that can't import it accepts any JSON as an answer, so that an answer which
    does not fit is not retried, but stays in the results, paid for.

    Raises:
        InvalidInputError: There is such a model; says where to define it instead.
    """
    for asset in assets:
        wanted = as_output(asset.output)
        for model in _models_of(wanted):
            try:
                resolve_model(model.__module__, model.__qualname__)
            except ModelResolutionError as error:
                raise InvalidInputError(
                    f"{asset.key.to_user_string()}: the sensor checks answers in another process, which can't import the output "
                    f"model {model.__name__}: {_reason(model)}"
                ) from error


def _models_of(output: OutputSpec) -> Sequence[type[BaseModel]]:
    if isinstance(output, ToolOutput):
        return output.models or ()
    return [output.model] if isinstance(output, ModelOutput) and output.model is not None else []


def _reason(model: type[BaseModel]) -> str:
    name = model.__name__
    if "[" in name:
        return (
            f"a generic model with its arguments has no name there. Derive a class at the top level of {model.__module__} and "
            f"use that: class Answer({name}): ..."
        )
    if "<locals>" in model.__qualname__:
        function = model.__qualname__.partition(".<locals>")[0]
        return f"it is defined inside {function}(). Move it to the top level of {model.__module__}."
    return (
        f"the module {model.__module__} has no {model.__qualname__}. Define it at the top level of a module that can be imported, "
        "under the name that the class has."
    )
