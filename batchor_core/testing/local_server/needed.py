"""Servers that are imported when they are first used, so that the fakes beside them work without their libraries."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

_EXTRA = {"starlette", "uvicorn", "python_multipart"}


def late_server(package: str, name: str) -> Callable[[str], Any]:
    """The ``__getattr__`` of a vendor's package: its server, from its module ``server``.

    Raises:
        ModuleNotFoundError: A library is missing; the message names the extra.
    """

    def get(wanted: str) -> Any:
        if wanted != name:
            raise AttributeError(f"module {package!r} has no attribute {wanted!r}")
        try:
            import_module("python_multipart")  # starlette reads uploads with it, and would miss it only then
            return getattr(import_module(f"{package}.server"), name)
        except ModuleNotFoundError as missing:
            library = (missing.name or "").partition(".")[0]
            if library not in _EXTRA:
                raise
            message = f"the local server needs {library}: pip install 'batchor-core[emulator]'"
            raise ModuleNotFoundError(message, name=missing.name) from missing

    return get
