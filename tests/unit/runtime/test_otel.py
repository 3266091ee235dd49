"""What a run tells OpenTelemetry, by the SDK's exporters in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from batchor_core.core.exceptions import ProviderError
from batchor_core.core.models import RetryPolicy, RunEvent
from batchor_core.otel import Telemetry
from tests.support.world import RUN, World, by_item, text_job


class Told:
    """An observer, and what came of it."""

    def __init__(self) -> None:
        self.exporter, self.reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracers, self.meters = TracerProvider(), MeterProvider([self.reader])
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.events: list[RunEvent] = []
        self.telemetry = Telemetry(
            observer=self.events.append, tracer_provider=self.tracers, meter_provider=self.meters
        )

    def spans(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name == name]

    def points(self) -> dict[str, dict[str, Any]]:
        """Values by metric and by their last label; of histograms, the number of values."""
        found: dict[str, dict[str, Any]] = {}
        data = self.reader.get_metrics_data()
        assert data is not None
        for metric in data.resource_metrics[0].scope_metrics[0].metrics:
            for point in metric.data.data_points:
                value = getattr(point, "value", None) or getattr(point, "count", None)
                label = str(list((point.attributes or {}).values())[-1])
                found.setdefault(metric.name, {})[label] = value
        return found


@pytest.fixture
def told() -> Iterator[Told]:
    told = Told()
    yield told
    told.tracers.shutdown()
    told.meters.shutdown()


def test_a_run_is_a_span_with_its_batches_below(world: World, told: Told) -> None:
    world.start(text_job(5, per_batch=2), observer=told.telemetry).wait()
    [run] = told.spans("batchor.run")
    batches = told.spans("batchor.batch")
    assert run.attributes == {
        "batchor.run_id": RUN,
        "batchor.completed": 5,
        "batchor.failed": 0,
        "batchor.status": "completed",
    }
    assert [event.name for event in run.events] == ["run_created"]
    assert run.context is not None
    assert [batch.parent.span_id for batch in batches if batch.parent] == [run.context.span_id] * 3
    assert {batch.attributes["batchor.batch_id"] for batch in batches if batch.attributes} == {
        *world.batch_ids()
    }
    assert [event.event_type for event in told.events][-1] == "run_finished"


def test_rows_batches_retries_and_waits_are_counted(world: World, told: Told) -> None:
    gone = ProviderError("no route", error_class="connection", not_performed=True)
    world.provider.fail("upload_input_file", gone, times=2)
    world.provider.answer = by_item({1: ""})
    run = world.start(text_job(3, retry=RetryPolicy(max_attempts=1)), observer=told.telemetry)
    run.wait()
    points = told.points()
    assert points["batchor.rows"] == {"read": 3, "completed": 2, "failed": 1}
    assert points["batchor.batches.sent"] == {"fake": 1}
    assert points["batchor.batches"] == {"completed": 1}
    assert points["batchor.batch.duration"] == {"completed": 1}
    assert points["batchor.failures"] == {"connection": 2}
    assert points["batchor.wait"] == {"connection": 2}
    assert points["batchor.runs"] == {"completed_with_failures": 1}


def test_tokens_that_the_provider_states_are_counted(told: Told) -> None:
    usage = {"input_tokens": 12, "output_tokens": 3}
    counts = {"completed": 1, "failed": 0, "retrying": 0}
    data: dict[str, Any] = {"provider_batch_id": "b", "status": "failed", "usage": usage, **counts}
    told.telemetry(RunEvent("batch_terminal_failure", "r", "fake", data))
    assert told.points()["batchor.tokens"] == {"input_tokens": 12, "output_tokens": 3}
    [batch] = told.spans("batchor.batch")
    assert not batch.status.is_ok
    assert batch.attributes is not None
    assert batch.attributes["batchor.input_tokens"] == 12


def test_spans_of_a_run_that_goes_on_end_with_the_observer(world: World, told: Told) -> None:
    with told.telemetry:
        world.start(text_job(2), observer=told.telemetry)
        assert told.spans("batchor.run") == []
    assert len(told.spans("batchor.run")) == len(told.spans("batchor.batch")) == 1
