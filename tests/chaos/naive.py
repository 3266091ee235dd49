"""What most scripts do: the calls in their documented order, with the SDK as it comes. A negative control.

It also passes what only such a script does: the store's documented methods that the engine itself has better ones for. Killed
at those, it has to lose nothing either.

It keeps its state in our store, by the store's documented methods, so the only thing that is missing is the protocol: a row
that says what is about to be sent, one POST, and a look at the provider's list before anything is sent again.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from typing import Any

import orjson
from openai import APIError, OpenAI

from batchor_core.artifacts.local import LocalArtifactStore
from batchor_core.core.boundaries import Boundary, at
from batchor_core.core.custom_ids import CustomIds
from batchor_core.core.models import ItemFailure
from batchor_core.runtime.config import persisted_config
from batchor_core.runtime.runner import BatchRunner
from batchor_core.storage.state import (
    CompletedItemRecord,
    IngestCheckpoint,
    MaterializedItem,
    PreparedSubmission,
    RequestArtifactPointer,
)
from tests.chaos.driver import CHUNK, PAUSE_SEC, job, open_store
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
        self.client = OpenAI(api_key="sk-chaos", base_url=place.provider_url)  # retries by itself, twice

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
            runner = BatchRunner(storage=self.store, artifact_store=self.artifacts)
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
            lines = [_line(ids[item.item_id], item.prompt) for item in claimed]
            self._keep(f"requests/{generation}.jsonl", list(ids), lines)
            with at(Boundary.UPLOAD_FILE):
                file = self.client.files.create(file=("naive.jsonl", b"".join(lines)), purpose="batch")
            with at(Boundary.CREATE_BATCH):
                batch = self.client.batches.create(
                    input_file_id=file.id, endpoint="/v1/responses", completion_window="24h"
                )
            self.store.register_batch(
                run_id=RUN_ID,
                local_batch_id=batch.id,
                provider_batch_id=batch.id,
                status=batch.status,
                custom_ids=list(ids.values()),
            )
            self.store.mark_items_submitted(
                run_id=RUN_ID,
                provider_batch_id=batch.id,
                submissions=[PreparedSubmission(item_id, custom_id, 1) for item_id, custom_id in ids.items()],
            )

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
                batch = self.client.batches.retrieve(active.provider_batch_id)
            except APIError:
                continue
            self.store.update_batch_status(run_id=RUN_ID, provider_batch_id=batch.id, status=batch.status)
            if batch.status not in ("completed", "expired"):
                continue
            if batch.output_file_id:
                content = self.client.files.content(batch.output_file_id).content
                rows = [orjson.loads(line) for line in content.splitlines()]
                self.store.mark_items_completed(
                    run_id=RUN_ID,
                    completions=[CompletedItemRecord(row["custom_id"], _text(row)) for row in rows],
                )
            if batch.status == "expired":
                self.store.reset_batch_items_to_pending(
                    run_id=RUN_ID, provider_batch_id=batch.id, error=EXPIRED
                )


def _line(custom_id: str, prompt: str) -> bytes:
    body = {"model": "gpt-4.1-mini", "input": prompt}
    return (
        orjson.dumps({"custom_id": custom_id, "method": "POST", "url": "/v1/responses", "body": body}) + b"\n"
    )


def _text(row: dict[str, Any]) -> str:
    return str(row["response"]["body"]["output"][-1]["content"][0]["text"])
