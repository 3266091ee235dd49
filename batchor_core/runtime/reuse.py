"""Reuse in a run: in which scope a job shares answers, and on which terms its driver takes them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from batchor_core.core.exceptions import InvalidInputError, StructuredOutputError
from batchor_core.core.models import BatchJob
from batchor_core.core.outputs import ModelOutput, OutputSpec
from batchor_core.core.reuse import Reuse, reuse_key, varies
from batchor_core.core.structured import parse_structured_output
from batchor_core.core.tools import ToolOutput
from batchor_core.core.types import JSONObject
from batchor_core.runtime.drive import Drive, JobInHand
from batchor_core.runtime.engine import log
from batchor_core.storage.session import Candidate, ReuseTerms
from batchor_core.storage.state import StateStore


def reuse_of(job: BatchJob[Any, Any], extras: JSONObject, *, account: str | None = None) -> Reuse | None:
    """What is stored of a job's reuse; None if it is off. ``account`` counts if the job's config knows none.

    Raises:
        InvalidInputError: The extras don't name the asset or partition whose answers are meant.
    """
    if job.reuse == "off":
        return None
    config = job.provider_config
    named = getattr(config, "reuse_account", None)
    account = (config.account_fingerprint() or account) if named is None else f"account {named}"
    key = reuse_key(
        job.reuse,
        extras,
        asked_of=(str(config.provider_kind), config.server_url(), account),
        output=job.output_spec.to_payload(),
        salt=job.salt,
    )
    max_age_sec = None if job.max_age is None else job.max_age.total_seconds()
    return Reuse(job.reuse, key, max_age_sec, job.reuse_varying)


def check_reused(store: StateStore, reuse: Reuse | None) -> None:
    """Refuse a job that reuses answers in a store that can't.

    Raises:
        InvalidInputError: It can't.
    """
    if reuse is not None and not store.supports_reuse:
        raise InvalidInputError(
            f"{type(store).__name__} can't reuse answers: give the job reuse='off', or use a built-in store"
        )


def reuse_terms(drive: JobInHand) -> ReuseTerms | None:
    """The terms of a driver's run; None if it reuses nothing."""
    reuse = drive.config.reuse
    if reuse is None:
        return None
    return ReuseTerms(reuse.max_age_sec, _acceptance(drive.output))


def _acceptance(output: OutputSpec) -> Callable[[str], bool] | None:
    """Checks a stored answer with the model as it is now: its code may have changed since the answer was stored."""
    parse: Callable[[str], object]
    if isinstance(output, ToolOutput) and output.models:
        parse = output.called
    elif isinstance(output, ModelOutput) and output.model is not None:
        parse = functools.partial(parse_structured_output, model=output.model)
    else:
        return None

    def accepts(text: str) -> bool:
        try:
            parse(text)
        except StructuredOutputError as error:
            if not error.may_pass:
                raise  # the validator itself is broken: nothing should be paid for before it is corrected
            return False
        return True

    return accepts


def has_address(drive: JobInHand) -> Callable[[Any], bool]:
    """Says of a request, without its custom_id, whether it is found by its content address."""
    reuse = drive.config.reuse
    keeps_addresses = drive.settings.content_addresses or reuse is not None
    if reuse is None or reuse.varying:
        return lambda request: keeps_addresses

    def is_fixed(request: Any) -> bool:
        if is_varying := varies(request):
            _warn_of_varying(drive.run_id)
        return not is_varying

    return is_fixed


@functools.lru_cache(maxsize=1_000)  # once for each run
def _warn_of_varying(run_id: str) -> None:
    """Log once why rows of a run are not reused."""
    log.warning(
        "run %s: requests with a temperature above 0 or an n above 1 get other answers each time, so they are neither reused nor "
        "deduplicated; give the job reuse_varying=True if any answer will do, or temperature=0",
        run_id,
    )


def without_equal(drive: Drive, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
    """The rows that have to be sent; the others follow equal ones from here on, and have their answers where those have come."""
    terms = reuse_terms(drive)
    aside = set() if terms is None else drive.session.set_aside([one.item_index for one in candidates], terms)
    if not aside:
        return candidates
    follow(drive)
    return [candidate for candidate in candidates if candidate.item_index not in aside]


def follow(drive: Drive) -> None:
    """Give the items that wait for equal ones their answers, where those have come."""
    terms = reuse_terms(drive)
    if terms is None:
        return
    followed = drive.session.follow(terms)
    if followed.completed or followed.failed or followed.released:
        drive.emit(
            "items_followed",
            completed=followed.completed,
            failed=followed.failed,
            released=followed.released,
        )
