"""Ends a step with the error's message and without retries if a person has to do something."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from batchor_core.core.exceptions import (
    BatchorError,
    InvalidInputError,
    RunConfigMismatchError,
    RunItemsMismatchError,
    RunNotFoundError,
    RunPausedError,
    SourceMismatchError,
)
from batchor_dagster.control import ACTION_TAG


@contextmanager
def clear_failures() -> Iterator[None]:
    """Errors that a person has to fix end the step with their message and without retries."""
    try:
        yield
    except RunPausedError as error:
        raise dg.Failure(f"{error}, or with {ACTION_TAG}=resume", allow_retries=False) from error
    except (RunConfigMismatchError, SourceMismatchError) as error:
        # start() advises another run id, which a partition can't have
        told = str(error)
        if isinstance(error, RunItemsMismatchError):
            told = f"Batch run {error.run_id}: {error.difference}."
        raise dg.Failure(
            f"{told} Its rows have not all been read, so it can neither continue with a different job nor be replaced: "
            f"cancel it with {ACTION_TAG}=cancel, then materialize again.",
            allow_retries=False,
        ) from error
    except (InvalidInputError, RunNotFoundError) as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    except BatchorError as error:
        raise dg.Failure(str(error)) from error
