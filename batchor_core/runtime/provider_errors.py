"""What a provider raised, as an error of ours; a mistake in its code is told from trouble at the vendor."""

from __future__ import annotations

import logging
import traceback

from batchor_core.core.exceptions import MissingCredentialsError, ProviderError

log = logging.getLogger("batchor_core")

_MISTAKES = (AttributeError, ImportError, NameError, NotImplementedError, TypeError)


class ProviderCodeError(ProviderError):
    """The provider's code is broken: trying again can't help before somebody has fixed it.

    For everything that may cost money it is an error like any other, since the request may have been sent before.
    """


def as_provider_error(error: Exception) -> ProviderError:
    """Any exception of a provider as one of ours; a provider that does not translate is taken for unreliable, not broken.

    Only what Python raises for mistakes in code is a :class:`ProviderCodeError`, which says where it was raised.

    Raises:
        MissingCredentialsError: There is no key, so nothing was sent and there is nothing to try again: the caller of the
            engine has to handle it.
    """
    if isinstance(error, MissingCredentialsError):
        raise error
    if isinstance(error, ProviderError):
        return error
    name, said = type(error).__name__, f"{type(error).__name__}: {error}"
    if not isinstance(error, _MISTAKES):
        return ProviderError(said, error_class=name)
    log.error("a provider's code has failed", exc_info=error)
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].filename}, line {frames[-1].lineno}, in {frames[-1].name})" if frames else ""
    return ProviderCodeError(f"{said}{where}", error_class=name)


def advice(error: ProviderCodeError) -> str:
    """Why a run is paused at it."""
    return f"the provider's code failed with {error}. Fix it, start a new process and resume the run"
