"""Runs as OpenTelemetry spans and metrics, made of the runner's events: ``pip install 'batchor-core[otel]'``.

The run is a span, and each of its batches one below it. Spans begin when this process first hears of a run or batch, and end
with it. Attributes of metrics have few values; what names a run or batch is an attribute of spans only.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.trace import Span, Status, StatusCode

from batchor_core.core.models import RunEvent

__all__ = ["Telemetry"]

NAME = "batchor_core"


@dataclass(slots=True)
class _OpenRun:
    span: Span
    batches: dict[str, tuple[Span, float]] = field(default_factory=dict)


class Telemetry:
    """An observer that tells OpenTelemetry what happens: ``BatchRunner(observer=Telemetry())``.

    Use it as a context manager, or call :meth:`close`, so that spans of runs that go on are exported too.

    Args:
        observer: Gets every event too.
        tracer_provider: By default the global one.
        meter_provider: By default the global one.
    """

    def __init__(
        self,
        *,
        observer: Callable[[RunEvent], None] | None = None,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
    ) -> None:
        self._observer = observer
        self._tracer = trace.get_tracer(NAME, tracer_provider=tracer_provider)
        meter = metrics.get_meter(NAME, meter_provider=meter_provider)
        self._runs_ended = meter.create_counter("batchor.runs", unit="{run}", description="Runs that ended")
        self._batches_sent = meter.create_counter(
            "batchor.batches.sent", unit="{batch}", description="Batches sent"
        )
        self._batches_ended = meter.create_counter(
            "batchor.batches", unit="{batch}", description="Batches that ended"
        )
        self._rows = meter.create_counter(
            "batchor.rows", unit="{row}", description="Rows, by what became of them"
        )
        self._tokens = meter.create_counter("batchor.tokens", unit="{token}", description="Tokens billed")
        self._failures = meter.create_counter(
            "batchor.failures", unit="{failure}", description="Requests that are tried again"
        )
        self._doubts = meter.create_counter(
            "batchor.submissions.unknown", unit="{submission}", description="Submissions of unknown outcome"
        )
        self._waits = meter.create_histogram("batchor.wait", unit="s", description="Waits before another try")
        self._turnaround = meter.create_histogram(
            "batchor.batch.duration",
            unit="s",
            description="From sending a batch until its results are stored",
        )
        self._lock = threading.Lock()
        self._open: dict[str, _OpenRun] = {}

    def __call__(self, event: RunEvent) -> None:
        """Take an event; called by the runner."""
        with self._lock:
            self._take(event, event.data, {"batchor.provider": str(event.provider_kind or "unknown")})
        if self._observer is not None:
            self._observer(event)

    def __enter__(self) -> Telemetry:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the spans of runs that go on, here or in another process."""
        with self._lock:
            for run_id in list(self._open):
                self._end_run(run_id)

    def _take(self, event: RunEvent, data: dict[str, Any], labels: dict[str, str]) -> None:
        match event.event_type:
            case "items_ingested":
                self._rows.add(data["count"], labels | {"batchor.outcome": "read"})
            case "batch_submitted" | "submission_recovered" if "provider_batch_id" in data:
                self._batches_sent.add(1, labels)
                self._batch(event, data["provider_batch_id"])
            case "batch_polled":
                self._batch(event, data["provider_batch_id"])
            case "batch_completed" | "batch_terminal_failure":
                self._end_batch(event, data, labels)
            case "batch_submit_retry":
                self._failed(event, "submit", data["backoff_sec"], labels)
            case "batch_poll_retry" if "retry_in_sec" in data:
                self._failed(event, "poll", data["retry_in_sec"], labels)
            case "submission_unknown":
                self._doubts.add(1, labels)
                self._note(event)
            case "run_finished":
                self._runs_ended.add(1, labels | {"batchor.status": data["status"]})
                self._run(event).span.set_attributes(
                    {"batchor.completed": data["completed"], "batchor.failed": data["failed"]}
                )
                self._end_run(event.run_id, status=data["status"])
            case _ if event.event_type.startswith(("run_", "submission_", "batch_", "orphan_")):
                self._note(event)
            case _:
                pass

    def _run(self, event: RunEvent) -> _OpenRun:
        run = self._open.get(event.run_id)
        if run is None:
            attributes = {"batchor.run_id": event.run_id}
            run = self._open[event.run_id] = _OpenRun(
                self._tracer.start_span("batchor.run", attributes=attributes)
            )
        return run

    def _batch(self, event: RunEvent, batch_id: str) -> tuple[Span, float]:
        run = self._run(event)
        if batch_id not in run.batches:
            span = self._tracer.start_span(
                "batchor.batch",
                context=trace.set_span_in_context(run.span),
                attributes={"batchor.run_id": event.run_id, "batchor.batch_id": batch_id},
            )
            run.batches[batch_id] = (span, time.monotonic())
        return run.batches[batch_id]

    def _end_batch(self, event: RunEvent, data: dict[str, Any], labels: dict[str, str]) -> None:
        span, began = self._batch(event, data["provider_batch_id"])
        del self._run(event).batches[data["provider_batch_id"]]
        labels = labels | {"batchor.status": data["status"]}
        self._batches_ended.add(1, labels)
        self._turnaround.record(time.monotonic() - began, labels)
        for outcome in ("completed", "failed", "retrying"):
            if data[outcome]:
                self._rows.add(data[outcome], labels | {"batchor.outcome": outcome})
            span.set_attribute(f"batchor.{outcome}", data[outcome])
        for kind, count in (data.get("usage") or {}).items():
            self._tokens.add(count, labels | {"batchor.token": kind})
            span.set_attribute(f"batchor.{kind}", count)
        _end(span, data["status"])

    def _failed(self, event: RunEvent, what: str, wait_sec: float, labels: dict[str, str]) -> None:
        labels = labels | {"batchor.request": what, "error.type": event.data["error_class"]}
        self._failures.add(1, labels)
        self._waits.record(wait_sec, labels)
        self._note(event)

    def _note(self, event: RunEvent) -> None:
        """The event on the span of the run."""
        plain = {name: value for name, value in event.data.items() if isinstance(value, str | int | float)}
        self._run(event).span.add_event(event.event_type, plain)

    def _end_run(self, run_id: str, *, status: str | None = None) -> None:
        run = self._open.pop(run_id)
        for span, _ in run.batches.values():
            span.end()
        _end(run.span, status)


def _end(span: Span, status: str | None) -> None:
    if status is not None:
        span.set_attribute("batchor.status", status)
        if status not in ("completed", "completed_with_failures"):
            span.set_status(Status(StatusCode.ERROR, status))
    span.end()
