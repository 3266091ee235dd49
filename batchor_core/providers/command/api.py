"""Batches as folders, each with a process of its own that runs the command.

A batch exists from the moment that its prepared file has its final name: that rename is the create. A process that died
with its batch unfinished, or with the machine, is started again by the next poll. That costs nothing, and answers are there
once and whole, since the command writes them under another name.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from batchor_core.core.answers import Answer
from batchor_core.core.exceptions import InvalidInputError, ProviderError, ProviderErrorKind
from batchor_core.core.prompts import PromptFeature, PromptParts
from batchor_core.core.types import BatchRequestLine, JSONObject
from batchor_core.providers.api import (
    DAY_SEC,
    BatchApi,
    BatchFailure,
    BatchLimits,
    BatchState,
    FoundBy,
    ResultFile,
    WantedOutput,
)
from batchor_core.providers.command import runner
from batchor_core.providers.command.config import CommandProviderConfig
from batchor_core.providers.openai.answers import read_body, read_calls, read_record
from batchor_core.providers.openai.counts import is_error_line
from batchor_core.providers.openai.endpoints import endpoint_of
from batchor_core.providers.openai.plain_lines import read_plain_line
from batchor_core.providers.openai.requests import RequestLines
from batchor_core.providers.openai.tokens import TokenCounter

_PREPARED, _TAGS = "prepared.jsonl", "tags.json"
_SHOWN_LOG = 2_000


class CommandApi(BatchApi):
    """Runs batches by the command of a config.

    Args:
        config: Command, model, folder.

    Raises:
        InvalidInputError: The system is Windows, which has not the locks that this needs.
    """

    def __init__(self, config: CommandProviderConfig) -> None:
        if sys.platform == "win32":
            raise InvalidInputError(
                f"a provider that runs a command needs a POSIX system, and this is {sys.platform}"
            )
        endpoint = endpoint_of(config.endpoint)
        self._config = config
        self._folder = Path(config.folder).expanduser().absolute()
        self._lines = RequestLines(config.requests)
        self._tokens = TokenCounter(config.model, has_turns=endpoint.has_turns)
        self.limits = BatchLimits(
            max_tags=16,
            found_by=FoundBy.TAGS,
            can_fence=True,
            can_cancel=True,
            lifetime_sec=30 * DAY_SEC,
            outputs=endpoint.outputs,
            prompts=endpoint.prompts - {PromptFeature.MODEL},
        )

    # requests and answers, as OpenAI has them

    def request_line(
        self, *, custom_id: str, prompt: PromptParts, output: WantedOutput | None
    ) -> BatchRequestLine:
        """A line for the config's endpoint."""
        return self._lines.build(custom_id, prompt, output)

    def estimate_tokens(self, lines: Sequence[BatchRequestLine], *, chars_per_token: int) -> list[int]:
        """By the tokenizer of OpenAI's models, or by characters."""
        return self._tokens.count(lines, chars_per_token=chars_per_token)

    def read(self, record: JSONObject) -> Answer:
        """An answer in OpenAI's format."""
        return read_record(record)

    def read_line(self, line: bytes) -> Answer | None:
        """The usual answer."""
        return read_plain_line(line)

    def read_body(self, record: JSONObject) -> Answer:
        """The whole body."""
        return read_body(record)

    def read_calls(self, record: JSONObject) -> Answer:
        """The calls in it."""
        return read_calls(record)

    def is_failure(self, record: JSONObject, answer: Answer) -> bool:
        """By the line's status."""
        return answer.failure is not None and is_error_line(record)

    # batches

    def prepare(self, request_file: Path) -> str:
        """Copy the file into a folder of its own, under the file's name."""
        batch = self._folder / request_file.stem
        batch.mkdir(parents=True, exist_ok=True)
        unfinished = batch / f"{_PREPARED}.part"
        shutil.copyfile(request_file, unfinished)
        unfinished.replace(batch / _PREPARED)
        return batch.name

    def discard(self, handle: str) -> None:
        """Remove a folder of which no batch came."""
        batch = self._folder / handle
        if not (batch / runner.INPUT).exists():
            shutil.rmtree(batch, ignore_errors=True)

    def find_prepared(self, file_name: str) -> list[str]:
        """The folder of this file, if it is there."""
        name = Path(file_name).stem
        return [name] if (self._folder / name / _PREPARED).exists() else []

    def create(
        self, request_file: Path | None, *, handle: str | None, tags: Mapping[str, str] | None
    ) -> BatchState:
        """Make a batch of a prepared file, and start its process."""
        self._check_command()
        batch = self._folder / (handle or "")
        try:
            runner.write(batch / _TAGS, dict(tags or {}))
            (batch / _PREPARED).rename(batch / runner.INPUT)
        except FileNotFoundError:
            raise ProviderError(
                f"the request file in {batch} is gone",
                kind=ProviderErrorKind.NOT_FOUND,
                error_class="request_file_gone",
                not_performed=True,
            ) from None
        return self.poll(batch.name)

    def fence(self, handle: str) -> None:
        """Take the prepared file away, without which there is no create."""
        (self._folder / handle / _PREPARED).unlink(missing_ok=True)

    def list_batches(self) -> Iterator[list[BatchState]]:
        """All batches of the folder, newest first."""
        found = [self._state(path.parent) for path in self._folder.glob(f"*/{runner.INPUT}")]
        yield sorted(found, key=lambda state: -(state.created_at or 0.0))

    def poll(self, batch_id: str) -> BatchState:
        """The state of a batch. If nobody runs it, it is started again."""
        batch = self._folder / batch_id
        if not (batch / runner.INPUT).exists():
            raise ProviderError(
                f"there is no batch {batch_id} in {self._folder}",
                kind=ProviderErrorKind.NOT_FOUND,
                error_class="batch_not_found",
            )
        state = self._state(batch)
        if not state.has_ended and (lock := runner.take(batch / "lock")) is not None:
            (batch / runner.PID).unlink(
                missing_ok=True
            )  # of one that died; somebody else may have its number by now
            lock.close()
            self._start(batch)
        return state

    def cancel(self, batch_id: str) -> BatchState:
        """End the command of a batch."""
        batch = self._folder / batch_id
        (batch / runner.CANCEL).touch()
        if (lock := runner.take(batch / "lock")) is not None:
            lock.close()  # nobody runs it: the process that poll() starts ends it
        else:
            with suppress(OSError, ValueError):
                os.kill(int((batch / runner.PID).read_text()), signal.SIGTERM)
        return self.poll(batch_id)

    def fetch(self, file: ResultFile, path: Path) -> None:
        """Copy a file of answers."""
        unfinished = path.with_name(path.name + ".part")
        shutil.copyfile(file.ref, unfinished)
        unfinished.replace(path)

    def _state(self, batch: Path) -> BatchState:
        tags: dict[str, str] = json.loads((batch / _TAGS).read_text(encoding="utf-8"))
        status, failure = "in_progress", None
        results: tuple[ResultFile, ...] = ()
        ended = _read(batch / runner.ENDED)
        if ended is not None:
            output = batch / runner.OUTPUT
            results = (ResultFile(str(output)),) if output.exists() else ()
            if ended["cancelled"]:
                status = "cancelled"
            elif ended["code"] == 0 and results:
                status = "completed"
            else:
                status, results, failure = "failed", (), self._failure(batch, ended["code"])
        created_at = (batch / _TAGS).stat().st_mtime
        return BatchState(
            batch.name, status, results, created_at=created_at, handle=batch.name, tags=tags, failure=failure
        )

    def _failure(self, batch: Path, code: int) -> BatchFailure:
        log = batch / runner.LOG
        said = log.read_text(encoding="utf-8", errors="replace")[-_SHOWN_LOG:].strip() if log.exists() else ""
        how = f"exit code {code}" if code else "no output file"
        return BatchFailure(
            ProviderErrorKind.BAD_REQUEST,
            "command_failed",
            f"the command ended with {how}, see {log}: {said}",
        )

    def _start(self, batch: Path) -> None:
        self._check_command()
        places = {
            "{input}": str(batch / runner.INPUT),
            "{model}": self._config.model,
        }
        command = [_filled(word, places) for word in self._config.command]
        subprocess.run(
            [sys.executable, runner.__file__, str(batch), *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )

    def _check_command(self) -> None:
        if not self._config.command:
            raise InvalidInputError(
                "the command is not stored with a run: start the job again to go on, with its CommandProviderConfig"
            )


def _filled(word: str, places: Mapping[str, str]) -> str:
    for name, place in places.items():
        word = word.replace(name, place)
    return word


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
