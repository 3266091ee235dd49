"""custom_ids as they are sent to a provider whose batches carry no tags.

There, nothing but its rows can say whose a batch is. So each custom_id is sent behind the mark of its submission, and a single
result line names the submission that it belongs to.
"""

from __future__ import annotations

_RUN_MARK = 8
_OWN_MARK = 12
_MARK = _RUN_MARK + _OWN_MARK


def mark_of(local_batch_id: str) -> str:
    """The mark of a submission: that of its run, and enough of its own name."""
    _, run_mark, own = local_batch_id.split("-", 2)
    return f"{run_mark}{own[:_OWN_MARK]}"


def name_of(mark: str) -> str:
    """A submission's name with this mark, for one that the store has forgotten: :func:`mark_of` gives the mark back."""
    return f"batch-{mark[:_RUN_MARK]}-{mark[_RUN_MARK:]}"


def on_the_wire(custom_id: str, *, mark: str) -> str:
    """The id under which a row is sent."""
    return f"{mark}-{custom_id}"


def split(wire_id: str) -> tuple[str, str] | None:
    """Mark and custom_id of a row that was sent with a mark; None for anybody else's."""
    mark, dash, custom_id = wire_id.partition("-")
    is_mark = dash and len(mark) == _MARK and set(mark) <= set("0123456789abcdef")
    return (mark, custom_id) if is_mark else None
