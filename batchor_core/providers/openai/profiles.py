"""Hosts that speak OpenAI's API with differences, one entry each.

What is stated of a host is what its documentation said in November 2026; nothing was tried against a live one. What is not known
is assumed as it costs nothing: that a deleted input file is no fence, so that a create in doubt is held for a person rather
than sent again.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from batchor_core.core.enums import OpenAIEndpoint
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.providers.api import BatchLimits

_HOUR, _DAY = 3_600.0, 86_400.0
_MB = 1_000_000
_CHAT = frozenset({OpenAIEndpoint.CHAT_COMPLETIONS})


@dataclass(frozen=True, slots=True)
class HostProfile:
    """How a host differs from OpenAI.

    Attributes:
        name: Its name in ``OpenAIProviderConfig(profile=...)``.
        windows: The values of ``completion_window`` that it takes; None if that is not known.
        lifetime_sec: Seconds after its creation by which every batch has ended.
        max_bytes: Bytes of an input file; None if it is not known to be less than at OpenAI.
        purpose: The purpose of uploaded input files.
        endpoints: Those that it has; None if that is not known.
        created_under: The member of the answer to a create that holds the batch; empty if it is the answer.
    """

    name: str
    windows: tuple[str, ...] | None = None
    lifetime_sec: float = _DAY
    max_bytes: int | None = None
    purpose: str = "batch"
    endpoints: frozenset[OpenAIEndpoint] | None = None
    created_under: str = ""

    @property
    def key_variable(self) -> str:
        """The environment variable that its key is read from. OpenAI's own key is never sent to another host."""
        return _KEY_VARIABLES.get(self.name, f"{self.name.upper()}_API_KEY")

    def key(self) -> str:
        """The key in the environment; empty if there is none."""
        return os.environ.get(self.key_variable, "").strip()

    def narrowed(self, limits: BatchLimits) -> BatchLimits:
        """The limits with those of the host."""
        return replace(limits, max_bytes=self.max_bytes, lifetime_sec=self.lifetime_sec, can_fence=False)

    def check(self, *, base_url: str | None, window: str, endpoint: OpenAIEndpoint) -> None:
        """Refuse settings that the host can't have.

        Raises:
            InvalidInputError: Says which.
        """
        if base_url is None:
            raise InvalidInputError(
                f"profile {self.name!r} needs base_url: without it requests would go to OpenAI{_EXAMPLES.get(self.name, '')}"
            )
        if self.windows is not None and window not in self.windows:
            raise InvalidInputError(
                f"profile {self.name!r} takes completion_window {' or '.join(map(repr, self.windows))}, not {window!r}"
            )
        if self.endpoints is not None and endpoint not in self.endpoints:
            known = " or ".join(repr(str(one)) for one in sorted(self.endpoints))
            raise InvalidInputError(f"profile {self.name!r} has the endpoint {known}, not {str(endpoint)!r}")


_KEY_VARIABLES = {"azure": "AZURE_OPENAI_API_KEY"}  # as OpenAI's SDK has it
_EXAMPLES = {"azure": "; it is https://RESOURCE.openai.azure.com/openai/v1/, and model is the deployment"}

_PROFILES = {
    one.name: one
    for one in (
        # batches are not expired after their day, so that only a week settles a doubt; their counts may be null, and
        # error_file_id may name an empty file
        HostProfile("azure", lifetime_sec=7 * _DAY),
        # windows from a day to a week; chat, and audio, which has no endpoint here
        HostProfile(
            "groq",
            windows=("24h", *(f"{days}d" for days in range(1, 8))),
            lifetime_sec=7 * _DAY,
            endpoints=_CHAT,
        ),
        HostProfile("deepinfra"),
        HostProfile("doubleword", windows=("1h", "24h")),
        HostProfile("parasail"),
        HostProfile("perplexity"),
        # statuses in upper case
        HostProfile("novita", lifetime_sec=48 * _HOUR),
        # a proxy to other vendors; a 429 may come as a 500
        HostProfile("litellm"),
        # statuses in upper case, no counts, and a create that answers {"job": {...}}
        HostProfile("together", max_bytes=100 * _MB, purpose="batch-api", created_under="job"),
    )
}


def profile_named(name: str) -> HostProfile:
    """The profile of a host.

    Raises:
        InvalidInputError: There is none of that name.
    """
    try:
        return _PROFILES[name]
    except KeyError:
        raise InvalidInputError(f"profile {name!r} is not known; there are {', '.join(_PROFILES)}") from None
