"""fsspec's errors about a URL that it can't open, as the engine's errors with advice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from batchor_core.core.exceptions import InvalidInputError


@contextmanager
def url_errors(about: str) -> Iterator[None]:
    """Translates errors of a block that imports fsspec and gets the file system of a URL.

    Args:
        about: How the error's text begins; names the URL.

    Raises:
        ImportError: fsspec or its package for the protocol is missing; says what to install.
        InvalidInputError: fsspec does not know the protocol.
    """
    try:
        yield
    except ImportError as error:
        raise ImportError(
            f"{about}: {error}. Install batchor-core[object-store] and fsspec's package for the protocol: s3fs for s3://, "
            "gcsfs for gs://, adlfs for az://, aiohttp for https://"
        ) from error
    except ValueError as error:
        import fsspec  # an extra, which is there if it was asked

        known = ", ".join(sorted(fsspec.available_protocols()))
        raise InvalidInputError(f"{about}: {error}. Known protocols: {known}") from error
