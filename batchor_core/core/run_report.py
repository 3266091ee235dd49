"""The report of a run: what it brought, what it cost, how long its batches took and why rows failed; as Markdown or JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import assert_never

from batchor_core.core.error_counts import ErrorCount
from batchor_core.core.markdown import plain, table
from batchor_core.core.models import RunSummary
from batchor_core.core.pricing import Cost, Unpriced
from batchor_core.core.turnaround import BatchTime, histogram, turnaround
from batchor_core.core.types import JSONObject
from batchor_core.core.usage import TOKEN_KINDS
from batchor_core.core.words import counted, dollars, duration, moment, usd_text

SHOWN_ERRORS = 10
SHOWN_BATCHES = 20
_MESSAGE_CHARS = 200
_BAR_CHARS = 20


@dataclass(frozen=True, slots=True)
class RunReport:
    """What can be said about a run.

    Attributes:
        summary: Its state; the cost includes attempts that were tried again.
        errors: Why rows failed, by error class, the most frequent first.
        batches: Its batches, oldest first, as far as the store keeps them.
        model: The provider's model, if the provider has models.
        provider: Where its batches went: the name that the provider is registered under.
        links: More places to look, as pairs of title and URL.
        cache_warning: What the prompt cache has cost more than it has saved, in words; empty if it has not.
    """

    summary: RunSummary
    errors: Mapping[str, ErrorCount]
    batches: Sequence[BatchTime]
    model: str | None = None
    links: Sequence[tuple[str, str]] = field(default=())
    provider: str | None = None
    cache_warning: str = ""

    @property
    def turnaround_p50_sec(self) -> float | None:
        """Seconds from the creation of their batch within which half of the rows were back; None if no batch has ended."""
        return turnaround(self.batches, 0.5)

    @property
    def turnaround_p95_sec(self) -> float | None:
        """The same for 95 % of the rows."""
        return turnaround(self.batches, 0.95)

    def to_payload(self) -> JSONObject:
        """As JSON. Times are seconds; the cost is in US dollars, null if there is no figure, and ``cost_note`` says what it leaves out."""
        usd, note = _cost(self.summary.cost)
        return {
            "run_id": self.summary.run_id,
            "status": self.summary.status.value,
            "provider": self.provider,
            "model": self.model,
            "rows": self.summary.total_items,
            "completed": self.summary.completed_items,
            "failed": self.summary.failed_items,
            "usage": asdict(self.summary.usage),
            "cost_usd": usd,
            "cost_note": note,
            "reused": self.summary.reused_items,
            "deduplicated": self.summary.deduplicated_items,
            "saved_usd": dollars(self.summary.usd_saved),
            "cache_hit_rate": self.summary.cache_hit_rate,
            "cache_warning": self.cache_warning or None,
            "queue_limit": self.summary.queue_limit,
            "repairs": self.summary.repairs,
            "repaired": self.summary.repaired_items,
            "turnaround_p50_sec": self.turnaround_p50_sec,
            "turnaround_p95_sec": self.turnaround_p95_sec,
            "turnaround": [asdict(each) for each in histogram(self.batches)],
            "errors": {name: asdict(error) for name, error in self.errors.items()},
            "batches": [asdict(batch) for batch in self.batches],
        }

    def markdown(self) -> str:
        """As Markdown with tables. Texts of rows and providers are escaped and cut."""
        sections = [
            f"## {plain(self.summary.run_id, 200)}",
            _table_of_facts(self),
            *_turnaround(self.batches),
            *_errors(self.errors),
            *_batches(self.batches),
        ]
        if self.links:
            sections.append("\n".join(f"- [{plain(title)}]({url})" for title, url in self.links))
        return "\n\n".join(sections) + "\n"


def _table_of_facts(report: RunReport) -> str:
    summary = report.summary
    facts = [
        ("State", summary.status.value.replace("_", " ")),
        ("Rows", f"{summary.total_items:,}" + ("" if summary.ingestion_complete else " so far")),
        ("Completed", f"{summary.completed_items:,}"),
        ("Failed", _failed(summary)),
        *_tokens(summary),
        *_cache(report),
        ("Cost", _cost_in_words(summary.cost)),
        *_saved(summary),
        *_repaired(summary),
        *([("Queue limit", f"{summary.queue_limit:,} tokens in flight")] if summary.queue_limit else []),
    ]
    if report.provider:
        facts.append(("Provider", plain(report.provider)))
    if report.model:
        facts.append(("Model", plain(report.model)))
    if summary.created_at:
        facts.append(("Created", moment(summary.created_at)))
    if (ends := [batch.ended_at for batch in report.batches if batch.ended_at is not None]) and (
        len(ends) == len(report.batches)
    ):
        facts.append(("Last batch ended", moment(max(ends))))
    return table(("", ""), facts)


def _failed(summary: RunSummary) -> str:
    ended = summary.completed_items + summary.failed_items
    share = f" ({100 * summary.failed_items / ended:.1f} %)" if summary.failed_items else ""
    return f"{summary.failed_items:,}{share}"


def _tokens(summary: RunSummary) -> Iterator[tuple[str, str]]:
    for kind in TOKEN_KINDS:
        count = getattr(summary.usage, kind)
        if count or kind in ("input_tokens", "output_tokens"):
            yield kind.replace("_", " ").capitalize(), f"{count:,}"


def _cache(report: RunReport) -> Iterator[tuple[str, str]]:
    usage = report.summary.usage
    if usage.cached_tokens or usage.cache_write_tokens:
        rate = f"{report.summary.cache_hit_rate or 0:.1%} of the input tokens"
        yield "Prompt cache hits", "; ".join(filter(None, [rate, plain(report.cache_warning, 400)]))


def _saved(summary: RunSummary) -> Iterator[tuple[str, str]]:
    if summary.reused_items:
        yield "Reused from other runs", f"{summary.reused_items:,}"
    if summary.deduplicated_items:
        yield "Equal rows, sent once", f"{summary.deduplicated_items:,}"
    if summary.usd_saved:
        yield "Saved", usd_text(summary.usd_saved)


def _repaired(summary: RunSummary) -> Iterator[tuple[str, str]]:
    if summary.repairs:
        yield "Asked again with the reason", f"{summary.repairs:,}, {summary.repaired_items:,} then completed"


def _cost(cost: Cost | Unpriced) -> tuple[float | None, str | None]:
    match cost:
        case Unpriced(reason):
            return None, reason
        case Cost(usd, missing):
            return dollars(usd), f"at least; not included: {'; '.join(missing)}" if missing else None
        case _:
            assert_never(cost)


def _cost_in_words(cost: Cost | Unpriced) -> str:
    _, note = _cost(cost)
    if isinstance(cost, Unpriced):
        return plain(f"unknown: {note}", _MESSAGE_CHARS)
    return usd_text(cost.usd) + (plain(f", {note}", _MESSAGE_CHARS) if note else "")


def _turnaround(batches: Sequence[BatchTime]) -> Iterator[str]:
    bins = histogram(batches)
    half, most = turnaround(batches, 0.5), turnaround(batches, 0.95)
    if half is None or most is None:
        return
    largest = max(each.batches for each in bins)
    yield "### Turnaround"
    yield f"Half of the rows were back within {duration(half)}, 95 % within {duration(most)}."
    yield table(
        ("From creation to end", "Batches", "Rows", ""),
        ((each.label, f"{each.batches:,}", f"{each.rows:,}", _bar(each.batches, largest)) for each in bins),
    )


def _bar(part: int, largest: int) -> str:
    """At least one block for anything above 0."""
    return "█" * -(-part * _BAR_CHARS // largest)


def _errors(errors: Mapping[str, ErrorCount]) -> Iterator[str]:
    if not errors:
        return
    yield "### Why rows failed"
    yield table(
        ("Error", "Rows", "Example", "Message"),
        (
            (plain(name), f"{error.rows:,}", plain(error.item_id), plain(error.message, _MESSAGE_CHARS))
            for name, error in list(errors.items())[:SHOWN_ERRORS]
        ),
    )
    if len(errors) > SHOWN_ERRORS:
        yield f"and {counted(len(errors) - SHOWN_ERRORS, 'other error')}"


def _batches(batches: Sequence[BatchTime]) -> Iterator[str]:
    if not batches:
        return
    yield "### Batches"
    yield table(
        ("Batch", "State", "Rows", "Created (UTC)", "Turnaround"),
        (
            (
                plain(batch.batch_id) if batch.url is None else f"[{plain(batch.batch_id)}]({batch.url})",
                plain(batch.status.replace("_", " ")),
                f"{batch.rows:,}",
                f"{datetime.fromtimestamp(batch.created_at, UTC):%Y-%m-%d %H:%M}",
                "" if batch.seconds is None else duration(batch.seconds),
            )
            for batch in batches[:SHOWN_BATCHES]
        ),
    )
    if len(batches) > SHOWN_BATCHES:
        yield f"and {len(batches) - SHOWN_BATCHES:,} more"
