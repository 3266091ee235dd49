"""Five rows at a real API: ``LIVE=1 python -m batchor_core.testing.live anthropic``.

Checks what no documentation states and the engine has to assume: how soon a new batch can be looked up, how soon the list shows it,
that its results name every row, and whether a batch can be made of a file that was deleted. It makes one batch, and says what that costs before it does anything.
"""
# ruff: noqa: T201 - printing is what a command does

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from batchor_core.core.answers import Answer, parse_line
from batchor_core.core.exceptions import BatchorError, ProviderError, ProviderErrorKind
from batchor_core.core.models import PromptParts, ProviderConfig
from batchor_core.providers.api import BatchApi, BatchState
from batchor_core.providers.eight_methods import as_batch_api
from batchor_core.providers.registry import build_default_provider_registry

__all__ = ["main"]

ROWS = 5
GRACE_SEC = 120.0
"""What the engine allows a list: ``EngineSettings.grace_sec``."""
GIVE_UP_SEC = 3_600.0


@dataclass(frozen=True)
class Trial:
    """What is sent to a provider.

    Attributes:
        config: Settings, as JSON, of the provider's config.
        cost: What it costs at most, for people.
    """

    config: dict[str, object]
    cost: str


TRIALS = {
    "anthropic": Trial(
        {"model": "claude-haiku-4-5", "max_output_tokens": 16},
        "about 200 tokens in and at most 80 out: less than a tenth of a cent at the batch price",
    ),
    "gemini": Trial(
        {"model": "gemini-2.5-flash-lite", "max_output_tokens": 16},
        "about 200 tokens in and at most 80 out: less than a tenth of a cent at the batch price; the same again if a batch can be "
        "made of a deleted file, which is tried",
    ),
    "openai": Trial(
        {"model": "gpt-4.1-nano", "max_output_tokens": 16},
        "about 200 tokens in and at most 80 out: less than a tenth of a cent at the batch price",
    ),
}


def main(arguments: Sequence[str] | None = None, *, pause: Callable[[float], None] = time.sleep) -> int:
    """Try a provider; return 0 if all was as the engine assumes, 1 if something was not, 2 if nothing was tried."""
    parser = argparse.ArgumentParser(prog="python -m batchor_core.testing.live", description=__doc__)
    parser.add_argument("provider", choices=sorted(TRIALS))
    provider = parser.parse_args(arguments).provider
    trial = TRIALS[provider]
    registry = build_default_provider_registry()
    config: ProviderConfig = registry.load_config({"provider_kind": provider, "config": dict(trial.config)})
    print(
        f"{provider}: one batch of {ROWS} rows to {trial.config['model']} at {config.server_url() or 'its own server'}"
    )
    print(f"cost: {trial.cost}")
    if os.environ.get("LIVE", "") in ("", "0"):
        print("nothing was sent. With LIVE=1 it is, and your account pays.", file=sys.stderr)
        return 2
    try:
        api = as_batch_api(registry.create(config))
        try:
            return _Check(api, pause).run()
        finally:
            api.close()
    except BatchorError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


class _Check:
    """One trial."""

    def __init__(self, api: BatchApi, pause: Callable[[float], None]) -> None:
        self._api = api
        self._pause = pause
        self._bad = 0

    def run(self) -> int:
        with tempfile.TemporaryDirectory(prefix="batchor-live-") as folder:
            mark = uuid.uuid4().hex[:16]
            names = [f"live-{number}_{mark}" for number in range(ROWS)]
            batch = self._created(Path(folder) / f"live-{mark}.jsonl", names)
            created = time.monotonic()
            print(f"created {batch.batch_id}")
            self._looked_up(batch.batch_id, created)
            self._listed(batch.batch_id, created)
            ended = self._ended(batch.batch_id, created)
            if ended is None:
                print(
                    f"no end after {GIVE_UP_SEC:.0f} s; the batch goes on, and is billed, without this script"
                )
                return 1
            self._results(ended, names, Path(folder))
            self._deleted(Path(folder) / f"deleted-{mark}.jsonl", names)
        print(
            "all as assumed" if not self._bad else f"{self._bad} findings differ from what the engine assumes"
        )
        return 1 if self._bad else 0

    def _created(self, path: Path, names: list[str]) -> BatchState:
        handle = self._prepared(path, names)
        return self._api.create(path if handle is None else None, handle=handle, tags=self._tags())

    def _tags(self) -> dict[str, str] | None:
        return {"batchor_live": "1"} if self._api.limits.max_tags else None

    def _deleted(self, path: Path, names: list[str]) -> None:
        """Whether deleting the file of a create prevents its batch; the engine holds rows where that is not certain."""
        handle = self._prepared(path, names)
        if handle is None:
            return
        self._api.discard(handle)
        try:
            batch = self._api.create(None, handle=handle, tags=self._tags())
        except ProviderError as error:
            self._say(error.not_performed, f"no batch is made of a deleted file: {error}")
        else:
            self._say(not self._api.limits.can_fence, f"a batch is made of a deleted file: {batch.batch_id}")
            if self._api.limits.can_cancel:
                self._api.cancel(batch.batch_id)

    def _prepared(self, path: Path, names: list[str]) -> str | None:
        with path.open("wb") as file:
            for number, name in enumerate(names):
                line = self._api.request_line(
                    custom_id=name,
                    prompt=PromptParts(f"Say the number {number} and nothing else."),
                    output=None,
                )
                file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
        return self._api.prepare(path)

    def _looked_up(self, batch_id: str, created: float) -> None:
        """Whether a batch is found by its id right after its creation; the engine holds a 404 for 10 minutes."""
        missed = 0
        while True:
            try:
                self._api.poll(batch_id)
            except ProviderError as error:
                if error.kind is not ProviderErrorKind.NOT_FOUND or time.monotonic() - created > 600:
                    raise
                missed += 1
                self._pause(1.0)
                continue
            waited = time.monotonic() - created
            self._say(
                True,
                f"found by its id after {waited:.1f} s" + (f", {missed} times 404 before" if missed else ""),
            )
            return

    def _listed(self, batch_id: str, created: float) -> None:
        """How long the list does not show a new batch; the engine's promise to pay once rests on less than the grace period."""
        while True:
            first = next(iter(self._api.list_batches()), [])
            waited = time.monotonic() - created
            if any(state.batch_id == batch_id for state in first):
                self._say(
                    waited < GRACE_SEC, f"in the list after {waited:.1f} s (assumed: {GRACE_SEC:.0f} s)"
                )
                return
            if waited > 2 * GRACE_SEC:
                self._say(False, f"not on the first page of the list after {waited:.0f} s")
                return
            self._pause(2.0)

    def _ended(self, batch_id: str, created: float) -> BatchState | None:
        print("waiting for its end; Ctrl-C leaves it running at the provider")
        while time.monotonic() - created < GIVE_UP_SEC:
            state = self._api.poll(batch_id)
            if state.has_ended:
                print(f"ended as {state.status} after {time.monotonic() - created:.0f} s")
                return state
            self._pause(10.0)
        return None

    def _results(self, state: BatchState, names: list[str], folder: Path) -> None:
        answers: list[Answer] = []
        for number, file in enumerate(state.results):
            path = folder / f"results-{number}"
            self._api.fetch(file, path)
            records = map(parse_line, path.read_bytes().splitlines())
            answers += [self._api.read(record) for record in records if record is not None]
        self._say(bool(state.results), f"{len(state.results)} result files at the first look after its end")
        self._say(
            {answer.custom_id for answer in answers} == set(names), f"{len(answers)} lines for {ROWS} rows"
        )
        good = [answer for answer in answers if answer.failure is None]
        self._say(len(good) == ROWS, f"{len(good)} good answers: {[answer.text for answer in good]}")
        for answer in answers:
            if answer.failure is not None:
                print(f"  {answer.custom_id}: {answer.failure.error_class}: {answer.failure.message}")
        used = [answer.usage for answer in answers if answer.usage is not None]
        tokens_in, tokens_out = sum(one.input_tokens for one in used), sum(one.output_tokens for one in used)
        print(f"billed: {tokens_in} tokens in, {tokens_out} out")

    def _say(self, is_good: bool, text: str) -> None:
        self._bad += not is_good
        print(f"{'ok ' if is_good else 'BAD'} {text}")


if __name__ == "__main__":
    sys.exit(main())
