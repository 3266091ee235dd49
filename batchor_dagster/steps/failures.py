"""How a step ends when a person has to do something: with the message of the error, and without retries."""

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
    """Errors that a person has to mend end the step with their message, and are not retried."""
    try:
        yield
    except RunPausedError as error:
        raise dg.Failure(f"{error}, or with {ACTION_TAG}=resume", allow_retries=False) from error
    except (RunConfigMismatchError, SourceMismatchError) as error:
        # what start() advises is not to be had here: a partition has no other run id
        told = str(error)
        if isinstance(error, RunItemsMismatchError):
            told = f"Batch run {error.run_id}: {error.difference}."
        raise dg.Failure(
            f"{told} Its rows are not all read yet, so it can neither go on with another job nor be superseded: "
            f"cancel it with {ACTION_TAG}=cancel, then materialize again.",
            allow_retries=False,
        ) from error
    except (InvalidInputError, RunNotFoundError) as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    except BatchorError as error:
        raise dg.Failure(str(error)) from error
