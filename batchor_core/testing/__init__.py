"""Stand-ins for the outside world, for your own tests: a provider, a clock and an OpenAI-compatible server.

Names are resolved when they are first used, so that the fakes cost no import of the server's libraries
(``pip install 'batchor-core[emulator]'``).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batchor_core.testing.fake_clock import FakeClock as FakeClock
    from batchor_core.testing.fake_provider import FakeProvider as FakeProvider
    from batchor_core.testing.openai_server import OpenAIServer as OpenAIServer

_HOMES = {
    "FakeClock": "batchor_core.testing.fake_clock",
    "FakeProvider": "batchor_core.testing.fake_provider",
    "OpenAIServer": "batchor_core.testing.openai_server",
}

__all__ = ["FakeClock", "FakeProvider", "OpenAIServer"]


if not TYPE_CHECKING:  # a type checker would take every misspelled name for one that comes late

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
