"""What a job may say about the size of its batches, about attempts and about the files that are kept."""

from __future__ import annotations

from dataclasses import dataclass

from batchor_core.core import arguments
from batchor_core.core.types import JSONObject


@dataclass(frozen=True, slots=True)
class ChunkPolicy:
    """Limits of one provider batch; a batch is filled until the first of them is reached.

    Attributes:
        max_requests: Lines per input file. OpenAI takes 50,000.
        max_file_bytes: Bytes per input file, 150 MiB by default. OpenAI takes 200 MB.
        chars_per_token: Divisor for estimating tokens if tiktoken has no encoding available.
    """

    max_requests: int = 50_000
    max_file_bytes: int = 150 * 1024 * 1024
    chars_per_token: int = 4

    def __post_init__(self) -> None:
        for name in ("max_requests", "max_file_bytes", "chars_per_token"):
            arguments.check_whole_number(f"ChunkPolicy.{name}", getattr(self, name), least=1)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often an item is tried, and how long to wait after failures of the provider.

    Attributes:
        max_attempts: Answered attempts per item, the successful one included.
        base_backoff_sec: First wait; doubles with each failure in a row.
        max_backoff_sec: The longest wait.
        repair: How many attempts of an item may be asked with the reason why the answer before did not fit the job's model:
            the request is sent with that answer and the validation errors behind it. They are among ``max_attempts``.
            0, the default, sends the same request each time.
    """

    max_attempts: int = 3
    base_backoff_sec: float = 1.0
    max_backoff_sec: float = 300.0
    repair: int = 0

    def __post_init__(self) -> None:
        arguments.check_whole_number("RetryPolicy.max_attempts", self.max_attempts, least=1)
        arguments.check_seconds("RetryPolicy.base_backoff_sec", self.base_backoff_sec)
        arguments.check_seconds("RetryPolicy.max_backoff_sec", self.max_backoff_sec)
        arguments.check_whole_number("RetryPolicy.repair", self.repair, least=0)


@dataclass(frozen=True, slots=True)
class ArtifactPolicy:
    """Which of the provider's files are kept.

    Attributes:
        persist_raw_output_artifacts: Keep output and error files unchanged. If False, each raw response is kept
            compressed in the control database instead.
    """

    persist_raw_output_artifacts: bool = True

    def __post_init__(self) -> None:
        arguments.check_bool("ArtifactPolicy.persist_raw_output_artifacts", self.persist_raw_output_artifacts)

    def to_payload(self) -> JSONObject:
        """The policy as JSON."""
        return {"persist_raw_output_artifacts": self.persist_raw_output_artifacts}

    @classmethod
    def from_payload(cls, payload: JSONObject) -> ArtifactPolicy:
        """Read what :meth:`to_payload` wrote.

        Raises:
            TypeError: If ``persist_raw_output_artifacts`` is not a bool.
        """
        value = payload.get("persist_raw_output_artifacts", True)
        if not isinstance(value, bool):
            raise TypeError(f"persist_raw_output_artifacts must be a bool, not {type(value).__name__}")
        return cls(persist_raw_output_artifacts=value)
