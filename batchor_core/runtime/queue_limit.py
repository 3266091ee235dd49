"""The queue limit in force: what the config says, else what the provider's refusals have shown."""

from __future__ import annotations

from batchor_core.core.enqueue_budget import account_of, budget_key, budget_of
from batchor_core.core.models import ProviderConfig
from batchor_core.core.queue_limits import QueueLimit
from batchor_core.providers.api import BatchApi
from batchor_core.storage.state import StateStore


def queue_limit(
    store: StateStore, config: ProviderConfig, *, api: BatchApi | None = None
) -> QueueLimit | None:
    """How many prompt tokens of an account and model may wait at the provider; None if nothing is known of a limit.

    Args:
        store: Where refusals are remembered.
        config: The provider's settings. Without ``api`` they say which account it is, which needs the key that they name, or
            the environment.
        api: The provider, which may know its account better.
    """
    budget = budget_of(config) if api is None else api.enqueue_budget()
    if budget is not None and budget.limit:
        return QueueLimit(budget.key, budget.limit)
    return store.get_queue_limit(key=queue_key(config, api=api))


def queue_key(config: ProviderConfig, *, api: BatchApi | None = None) -> str:
    """Names what shares a queue: the kind of provider, the account at its server, and the model."""
    budget = budget_of(config) if api is None else api.enqueue_budget()
    if budget is not None:
        return budget.key
    return budget_key(config, account_of(config) if api is None else api.key_fingerprint())
