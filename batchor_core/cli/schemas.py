"""``--schema``: the Pydantic model that every answer must satisfy, from a file or a module."""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType

from pydantic import BaseModel

from batchor_core.cli.profiles import near
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.json_schema_model import Making, model_of_schema

_USAGE = "give FILE.py:MODEL, MODULE:MODEL or FILE.json"


def model_named(schema: str, *, option: str = "--schema") -> type[BaseModel]:
    """The model of ``file.py:Model``, ``module:Model`` or a file with a JSON schema. Runs the file or module.

    Raises:
        InvalidInputError: It can't be had; says why.
    """
    if schema.lower().endswith(".json"):
        return _of_json(Path(schema).expanduser())
    place, colon, name = schema.rpartition(":")
    if not colon or not place or not name:
        raise InvalidInputError(f"{option} {schema!r} does not name a model: {_USAGE}")
    module = _of_file(Path(place).expanduser()) if place.endswith(".py") else _of_name(place)
    found: object = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, type) or not issubclass(found, BaseModel) or found is BaseModel:
        models = [key for key, value in vars(module).items() if _is_own_model(value, module)]
        problem = f"has no {name}" if found is None else f"has a {name} that is not a Pydantic model"
        raise InvalidInputError(f"{option} {schema!r}: {place} {problem}{near(name, models)}")
    return found


def _of_json(path: Path) -> type[BaseModel]:
    """The model of a file with the JSON schema of an object, named by its title or the file."""
    try:
        schema = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InvalidInputError(f"--schema: {path} can't be read: {error.strerror}") from None
    except ValueError as error:
        raise InvalidInputError(f"--schema: {path} is not JSON: {error}") from None
    if not isinstance(schema, dict) or schema.get("type") != "object":
        raise InvalidInputError(f"--schema: {path} must hold the JSON schema of an object")
    making = Making(
        place=f"--schema: {path}",
        instead="write a Pydantic model and give FILE.py:MODEL",
        class_name=_class_name,
        element="_item",
        extra="ignore",
    )
    return model_of_schema(str(schema.get("title") or path.name.partition(".")[0]), schema, making)


def _class_name(title: str) -> str:
    words = re.findall(r"[^\W_]+", title)
    return "".join(word[:1].upper() + word[1:] for word in words) or "Output"


def _is_own_model(value: object, module: ModuleType) -> bool:
    return isinstance(value, type) and issubclass(value, BaseModel) and value.__module__ == module.__name__


def _of_name(name: str) -> ModuleType:
    _add_to_path(Path.cwd())  # as python -m has it
    try:
        return importlib.import_module(name)
    except Exception as error:  # the user's own code may raise anything
        raise InvalidInputError(f"--schema: module {name!r} can't be imported: {_said(error)}") from error


def _of_file(path: Path) -> ModuleType:
    """The module of a file, under the file's own name, by which the model of a stored run is imported again."""
    if not path.is_file():
        raise InvalidInputError(f"--schema: there is no file {path}; {_USAGE}")
    path = path.resolve()
    _add_to_path(path.parent)  # its imports are those of a script that is run
    name = path.stem
    there = sys.modules.get(name)
    if there is not None and getattr(there, "__file__", None) == str(path):
        return there
    if there is not None or not name.isidentifier():
        name = f"batchor_schema_{name}"  # must not take the place of another module
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InvalidInputError(f"--schema: {path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # as above
        del sys.modules[name]
        raise InvalidInputError(f"--schema: {path} can't be imported: {_said(error)}") from error
    return module


def _add_to_path(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
