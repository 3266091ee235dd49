"""Every error that the engine raises on purpose, from :class:`BatchorError` down; what each means is in docs/reference/errors.md."""

from batchor_core.core.exceptions import *  # noqa: F403
from batchor_core.core.exceptions import __all__ as __all__
