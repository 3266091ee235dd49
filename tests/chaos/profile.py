"""What the harness knows of a provider, in one value, and where each provider's is.

Suites speak of requests by name, drivers of batches by the engine's own protocol. How a provider spells its requests, makes
its config and serves its protocol is in its profile; nothing else in this folder knows one provider from another.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any

from batchor_core.core.boundaries import Boundary
from batchor_core.core.models import ProviderConfig
from batchor_core.providers.api import BatchApi, BatchLimits, FoundBy
from batchor_core.providers.base import BatchProvider
from batchor_core.providers.eight_methods import as_batch_api
from batchor_core.providers.registry import ProviderRegistry
from batchor_core.testing.local_server.app import Routes
from batchor_core.testing.local_server.server import LocalServer
from batchor_core.testing.openai_server import OpenAIServer

PROFILES = {
    "openai": "tests.chaos.openai_profile:PROFILE",
    "stranger": "tests.support.stranger:PROFILE",
    "anthropic": "tests.chaos.anthropic_profile:PROFILE",
    "gemini": "tests.chaos.gemini_profile:PROFILE",
}
"""Where each provider's profile is."""


class Request(StrEnum):
    """A request that drivers make, whatever its route. A provider need not have all of them."""

    UPLOAD = "upload"
    CREATE = "create"
    LIST = "list"
    POLL = "poll"
    LOOK_UP_FILE = "look-up-file"
    DOWNLOAD = "download"
    DELETE = "delete"
    CANCEL = "cancel"


_OF_FILES = (Boundary.DELETE_FILE, Boundary.REMOVE_FILE, Boundary.LOOK_AT_FILE, Boundary.POSTPONE)
"""What nobody passes who uploads no files."""


@dataclass(frozen=True)
class Profile:
    """A provider, as the harness sees it.

    Attributes:
        name: What the command line calls it.
        config: Makes a config from the server's address and an enqueue limit, 0 for none.
        api: Makes the provider from its config.
        careless: The same, but it takes what it does not find for never created: a negative control.
        registry: Makes a registry that knows the provider.
        requests: Method and path pattern of each request that it has.
        protocols: Routes of the server that speak its protocol, unless that is the server's own.
        server: The local server, by default OpenAI's.
        warm_up: Imports what a driver would import on the way.
    """

    name: str
    config: Callable[[str, int], ProviderConfig]
    api: Callable[[Any], BatchApi | BatchProvider]
    careless: Callable[[Any], BatchApi | BatchProvider]
    registry: Callable[[], ProviderRegistry]
    requests: Mapping[Request, tuple[str, str]]
    protocols: tuple[Routes, ...] = ()
    server: Callable[..., LocalServer] = OpenAIServer
    warm_up: Callable[[], None] = field(default=lambda: None)

    @cached_property
    def limits(self) -> BatchLimits:
        """What it says of itself."""
        return as_batch_api(self.api(self.config("http://127.0.0.1:9", 0))).limits

    def has(self, *requests: str) -> bool:
        """Whether it has all of these requests."""
        return all(request in self.requests for request in requests)

    def passes(self, place: str) -> bool:
        """Whether drivers come to a boundary at all, given as ``name`` or ``name:when``."""
        return self.has(Request.UPLOAD) or place.partition(":")[0] not in _OF_FILES

    def fault(self, fault: Mapping[str, Any]) -> dict[str, Any]:
        """A scenario's fault as the server takes it: requests as routes, custom_ids as they are sent."""
        given = dict(fault)
        if "request" in given:
            given["method"], given["path"] = self.requests[given.pop("request")]
        if "custom_id" in given and self.limits.found_by is FoundBy.ROWS:
            given["custom_id"] += "_" + "?" * 16  # the mark of the submission
        return given


def profile(name: str) -> Profile:
    """The profile of a provider."""
    module, _, attribute = PROFILES[name].partition(":")
    found = getattr(importlib.import_module(module), attribute)
    assert isinstance(found, Profile)
    return found
