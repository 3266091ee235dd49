"""What most scripts do: the calls in their documented order, each sent again if it fails. A negative control.

It also passes what only such a script does: the store's documented methods that the engine itself has better ones for. Killed
at those, it has to lose nothing either.

It keeps its state in our store, by the store's documented methods, so the only thing that is missing is the protocol: a row
that says what is about to be sent, one POST, and a look at the provider's list before anything is sent again.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import orjson

from batchor_core.artifacts.local import LocalArtifactStore
from batchor_core.core.boundaries import Boundary, at
from batchor_core.core.custom_ids import CustomIds
from batchor_core.core.exceptions import ProviderError
from batchor_core.core.models import ItemFailure, PromptParts
from batchor_core.providers.api import BatchState
from batchor_core.providers.eight_methods import as_batch_api
from batchor_core.runtime.runner import BatchRunner
from batchor_core.runtime.stored_job import persisted_config
from batchor_core.storage.state import (
    CompletedItemRecord,
    IngestCheckpoint,
    MaterializedItem,
    PreparedSubmission,
    RequestArtifactPointer,
)
from tests.chaos.driver import CHUNK, PAUSE_SEC, job, open_store, provider_config
from tests.chaos.profile import profile
from tests.chaos.scenario import PER_BATCH, RUN_ID, Life, Place, Scenario

EXPIRED = ItemFailure(
    "batch_terminal_expired", "the batch expired before this row was answered", retryable=True
)


class NaiveDriver:
    """Claim, upload, create, register, mark as submitted; poll; mark as ended, then store the results."""

    def __init__(self, place: Place, life: Life) -> None:
        self.place, self.life = place, life
        self.store = open_store(place)
        self.artifacts = LocalArtifactStore(place.folder / "artifacts")
        self.profile = profile(place.provider)
        self.api = as_batch_api(self.profile.api(provider_config(place, life.scenario)))

    def drive(self) -> dict[str, Any]:
        """Until the run is finished and exported, or the deadline has passed."""
        gives_up_at = time.monotonic() + self.life.deadline_sec
        end = "finished"
        self._start()
        while self.store.get_run_summary(run_id=RUN_ID).status == "running":
            if time.monotonic() >= gives_up_at:
                end = "stuck"
                break
            self._submit()
            self._poll()
            time.sleep(PAUSE_SEC)
        else:
            runner = BatchRunner(
                storage=self.store,
                artifact_store=self.artifacts,
                provider_registry=self.profile.registry(),
            )
            runner.get_run(RUN_ID).export_artifacts(self.place.folder / "export")
            runner.close()
        self.store.close()
        return {"end": end, "events": [], "shown": []}

    def _start(self) -> None:
        scenario = self.life.scenario
        if self.store.has_run(run_id=RUN_ID):
            self.store.requeue_local_items(run_id=RUN_ID)
        else:
            self.store.create_run(run_id=RUN_ID, config=persisted_config(job(self.place, scenario)), items=[])
        if self.store.get_ingest_checkpoint(run_id=RUN_ID) is None:
            self.store.set_ingest_checkpoint(run_id=RUN_ID, checkpoint=IngestCheckpoint("chaos", "rows", "1"))
        self._read(scenario)

    def _read(self, scenario: Scenario) -> None:
        items = [
            MaterializedItem(item_id, index, {}, {}, prompt=text, system_prompt=None)
            for index, (item_id, text) in enumerate(scenario.texts().items())
        ]
        checkpoint = self.store.get_ingest_checkpoint(run_id=RUN_ID)
        assert checkpoint is not None
        for start in range(checkpoint.next_item_index, len(items), CHUNK):
            end = start + CHUNK
            self.store.append_items(run_id=RUN_ID, items=items[start:end])
            self.store.update_ingest_checkpoint(
                run_id=RUN_ID, next_item_index=end, ingestion_complete=end >= len(items)
            )

    def _submit(self) -> None:
        # one more than a batch takes, to see whether more is to come; it is given back
        while claimed := self.store.claim_items_for_submission(
            run_id=RUN_ID, max_attempts=4, limit=PER_BATCH + 1
        ):
            if surplus := [item.item_id for item in claimed[PER_BATCH:]]:
                self.store.release_items_to_pending(run_id=RUN_ID, item_ids=surplus)
            claimed = claimed[:PER_BATCH]
            generation = len(self.store.get_batches(run_id=RUN_ID))
            ids = {
                item.item_id: CustomIds(RUN_ID).of(
                    item.item_id, int(item.item_id.partition("-")[2]), generation
                )
                for item in claimed
            }
            lines = [self._line(ids[item.item_id], item.prompt) for item in claimed]
            self._keep(f"requests/{generation}.jsonl", list(ids), lines)
            batch = self._create(lines)
            self.store.register_batch(
                run_id=RUN_ID,
                local_batch_id=batch.batch_id,
                provider_batch_id=batch.batch_id,
                status=batch.status,
                custom_ids=list(ids.values()),
            )
            self.store.mark_items_submitted(
                run_id=RUN_ID,
                provider_batch_id=batch.batch_id,
                submissions=[PreparedSubmission(item_id, custom_id, 1) for item_id, custom_id in ids.items()],
            )

    def _line(self, custom_id: str, prompt: str) -> bytes:
        line = self.api.request_line(custom_id=custom_id, prompt=PromptParts(prompt), output=None)
        return orjson.dumps(line) + b"\n"

    def _create(self, lines: Sequence[bytes]) -> BatchState:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "naive.jsonl"
            path.write_bytes(b"".join(lines))
            with at(Boundary.UPLOAD_FILE):
                handle = _again(lambda: self.api.prepare(path))
            with at(Boundary.CREATE_BATCH):
                return _again(lambda: self.api.create(None if handle else path, handle=handle, tags=None))

    def _keep(self, key: str, item_ids: Sequence[str], lines: Sequence[bytes]) -> None:
        self.artifacts.write_text(key, b"".join(lines).decode())
        pointers = [
            RequestArtifactPointer(item_id, key, number, hashlib.sha256(line).hexdigest())
            for number, (item_id, line) in enumerate(zip(item_ids, lines, strict=True), 1)
        ]
        self.store.record_request_artifacts(run_id=RUN_ID, pointers=pointers)

    def _poll(self) -> None:
        for active in self.store.get_active_batches(run_id=RUN_ID):
            try:
                batch = self.api.poll(active.provider_batch_id)
            except ProviderError:
                continue
            self.store.update_batch_status(
                run_id=RUN_ID, provider_batch_id=batch.batch_id, status=batch.status
            )
            if batch.status not in ("completed", "expired"):
                continue
            answers = [self.api.read(orjson.loads(line)) for line in self._lines(batch)]
            self.store.mark_items_completed(
                run_id=RUN_ID,
                completions=[
                    CompletedItemRecord(answer.custom_id, answer.text)
                    for answer in answers
                    if answer.failure is None and answer.text is not None
                ],
            )
            if batch.status == "expired":
                self.store.reset_batch_items_to_pending(
                    run_id=RUN_ID, provider_batch_id=batch.batch_id, error=EXPIRED
                )

    def _lines(self, batch: BatchState) -> list[bytes]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "results.jsonl"
            lines: list[bytes] = []
            for file in batch.results:
                self.api.fetch(file, path)
                lines += path.read_bytes().splitlines()
        return lines


T = TypeVar("T")


def _again(call: Callable[[], T]) -> T:
    """As most SDKs do it: three times, whatever came of the first two."""
    for _ in range(2):
        try:
            return call()
        except ProviderError:
            time.sleep(PAUSE_SEC)
    return call()
