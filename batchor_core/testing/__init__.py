"""Fakes for your own tests: a provider, a clock and local servers of OpenAI's, Anthropic's and Google's APIs.

Names are resolved when they are first used, so that the fakes cost no import of the server's libraries
(``pip install 'batchor-core[emulator]'``).
"""

from typing import TYPE_CHECKING

from batchor_core.core.lazy_imports import lazy_imports

if TYPE_CHECKING:
    from batchor_core.testing.anthropic_server import AnthropicServer
    from batchor_core.testing.fake_clock import FakeClock
    from batchor_core.testing.fake_config import FakeProviderConfig
    from batchor_core.testing.fake_provider import FakeProvider, register_fake_provider
    from batchor_core.testing.gemini_server import GeminiServer
    from batchor_core.testing.local_server.server import LocalServer
    from batchor_core.testing.openai_server import OpenAIServer

__all__ = [
    "AnthropicServer",
    "FakeClock",
    "FakeProvider",
    "FakeProviderConfig",
    "GeminiServer",
    "LocalServer",
    "OpenAIServer",
    "register_fake_provider",
]

if not TYPE_CHECKING:  # a type checker would take every misspelled name for one that comes late
    __getattr__ = lazy_imports(
        __name__,
        {
            "AnthropicServer": "batchor_core.testing.anthropic_server",
            "FakeClock": "batchor_core.testing.fake_clock",
            "FakeProvider": "batchor_core.testing.fake_provider",
            "FakeProviderConfig": "batchor_core.testing.fake_config",
            "GeminiServer": "batchor_core.testing.gemini_server",
            "LocalServer": "batchor_core.testing.local_server.server",
            "OpenAIServer": "batchor_core.testing.openai_server",
            "register_fake_provider": "batchor_core.testing.fake_provider",
        },
    )


def __dir__() -> list[str]:
    return sorted(__all__)
