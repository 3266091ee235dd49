"""Requests that are answered with an error, whatever shape the vendor gives it."""

from __future__ import annotations

from collections.abc import Mapping


class ApiError(Exception):
    """A request that is answered with an error. Without a message it has the vendor's usual one."""

    def __init__(
        self,
        status: int,
        message: str | None = None,
        *,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.headers = dict(headers or {})


def bad_request(message: str, *, param: str | None = None, code: str | None = None) -> ApiError:
    """A 400."""
    return ApiError(400, message, param=param, code=code)


def no_such_file(file_id: str) -> ApiError:
    """The 404 of a file."""
    return ApiError(404, f"No such File object: {file_id}", param="id")


def no_such_batch(batch_id: str) -> ApiError:
    """The 404 of a batch."""
    return ApiError(404, f"No batch found with id '{batch_id}'.")


def cannot_find_file(file_id: str) -> str:
    """What the live service says when a batch names a file that it does not (yet) see."""
    return f"Cannot find file {file_id}, or project proj_local does not have access to it."
