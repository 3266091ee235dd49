"""Every error that the engine raises on purpose, from :class:`BatchorError` down; what each means is in docs/reference/errors.md."""
# ruff: noqa: F403, F405 - each name is checked to be there

from batchor_core.core.exceptions import *

# in the order in which a newcomer meets them
__all__ = [  # noqa: RUF022
    "BatchorError",
    "InvalidInputError",
    "SourceRowError",
    "DuplicateItemError",
    "SourceMismatchError",
    "RunConfigMismatchError",
    "RunItemsMismatchError",
    "StructuredOutputSchemaError",
    "MissingCredentialsError",
    "StructuredOutputError",
    "ModelResolutionError",
    "RunNotFoundError",
    "RunNotFinishedError",
    "RunPausedError",
    "RunStateError",
    "RunIngestionSourceRequiredError",
    "QuarantinedBatchError",
    "StorageError",
    "DatabaseVersionError",
    "LeaseLostError",
    "ProviderError",
    "ProviderErrorKind",
]
