"""Why an item failed."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from batchor_core.core.types import JSONObject, JSONValue


@dataclass(frozen=True, slots=True)
class ItemFailure:
    """Why an item failed.

    Attributes:
        error_class: Short name to group by, such as ``provider_item_error``.
        message: For people.
        retryable: Whether another attempt could have helped.
        raw_error: The provider's or parser's own details.
    """

    error_class: str
    message: str
    retryable: bool
    raw_error: JSONValue | None = None

    def to_payload(self) -> JSONObject:
        """The failure as JSON."""
        return asdict(self)

    @classmethod
    def from_payload(cls, payload: JSONObject) -> ItemFailure:
        """Read what :meth:`to_payload` wrote."""
        return cls(
            error_class=str(payload.get("error_class", "")),
            message=str(payload.get("message", "")),
            retryable=bool(payload.get("retryable", False)),
            raw_error=payload.get("raw_error"),
        )
