"""A provider config that holds a key."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any, Self, cast

from batchor_core.core.models import ProviderConfig


class KeyedConfig(ProviderConfig):
    """The base of configs with an ``api_key`` and ``request_options``, which are frozen dataclasses.

    Pickles end up in logs, queues and caches, so they go without the key. Copies within the process keep it.
    """

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "api_key": ""}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def __copy__(self) -> Self:
        return cast(Self, replace(cast(Any, self)))

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        own = cast(Any, self)
        return cast(Self, replace(own, request_options=copy.deepcopy(own.request_options, memo)))
