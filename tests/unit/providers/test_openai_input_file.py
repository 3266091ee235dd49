"""Which errors say that an input file is only not ready yet."""

from __future__ import annotations

from typing import Any

import pytest

from batchor_core.core.exceptions import FILE_NOT_READY, ProviderErrorKind
from batchor_core.core.retry import FILE_PATIENCE_SEC, file_wait
from batchor_core.providers.openai.batch_failure import judge_failed_batch
from batchor_core.providers.openai.input_file import is_file_not_ready

TOO_EARLY = [
    ("Cannot find file file-abc, or project proj_1 does not have access to it.", "file_id"),
    ("cannot find file file-abc", ""),
    ("No such File object: file-abc", ""),
    ("input file not found", ""),
    ("Input file 'file-abc' could not be found.", "input_file_id"),
    ("The file file-abc does not exist.", ""),
    ("File file-abc doesn't exist", ""),
    ("File with id file-abc was not found", ""),
    ("The input file is not processed.", ""),
    ("The input file has not been processed yet", ""),
    ("File 'file-abc' is not in a processed state. Please wait.", ""),
    ("The file is not in the 'processed' state", ""),
    ("file is still being processed", ""),
    ("The file is currently processing", ""),
    ("The input file file-abc has status pending", ""),
    ("File file-abc is in 'pending' state", ""),
    ("Input file must be in the processed state before a batch is created", ""),
    ("The file is not ready", ""),
    ("not found", "input_file_id"),
    ("The file isn't processed yet.", ""),
    ("The file isn\N{RIGHT SINGLE QUOTATION MARK}t ready", ""),
    ("Input file file-x hasn't been processed", ""),
    ("Unable to download input file", ""),
    ("Error while retrieving input file", ""),
    ("File import in progress", ""),
    ("Waiting for the input file to finish uploading", ""),
    ("file-abc: file upload incomplete", ""),
    ("File processing incomplete", ""),
    ("Waiting for file processing", ""),
    ("Input file processing is in progress", ""),
    ("Referenced file unavailable", ""),
    ("Input file is locked", ""),
]

OTHERWISE = [
    ("Invalid file format for Batch API. Must be .jsonl", ""),
    ("File is too large.", ""),
    ("The file has expired and was not found", ""),
    ("The file was deleted, file not found", ""),
    ("Invalid purpose: file file-abc is not available for batch, purpose must be batch", "input_file_id"),
    ("The model `gpt-9` does not exist or you do not have access to it.", "model"),
    ("Invalid value: 'v1'. Supported values are: '/v1/responses'.", "endpoint"),
    ("The project does not exist", ""),
    ("no", ""),
    ("", ""),
    ("Unsupported file extension", "file_id"),
    ("The file contains invalid JSON on line 3, key 'url' not found", ""),
    ("line 1 of the file: model gpt-9 does not exist", ""),
    ("The deployment named in the input file does not exist", ""),
    ("Input file references a vector store that does not exist", ""),
    ("Duplicate custom_id found in input file; custom_id must be completed", ""),
    ("The organization does not have access to the files API", ""),
    ("This project does not have access to batch file processing", ""),
]


@pytest.mark.parametrize(("message", "param"), TOO_EARLY)
def test_a_file_that_is_not_there_or_not_processed_yet_passes(message: str, param: str) -> None:
    assert is_file_not_ready(code="invalid_request_error", param=param, message=message)


@pytest.mark.parametrize(("message", "param"), OTHERWISE)
def test_other_refusals_are_not_taken_for_it(message: str, param: str) -> None:
    assert not is_file_not_ready(code="", param=param, message=message)


@pytest.mark.parametrize("message", [message for message, _ in TOO_EARLY])
def test_a_batch_that_failed_for_want_of_its_file_is_judged_alike(message: str) -> None:
    error: dict[str, Any] = {"code": "invalid_request", "line": None, "param": "file_id", "message": message}
    verdict = judge_failed_batch({"data": [error]})
    assert (verdict.kind, verdict.error_class) == (ProviderErrorKind.NOT_READY, FILE_NOT_READY)
    assert verdict.message == message
    assert verdict.bad_lines == {}


def test_a_row_that_names_a_missing_file_is_that_rows_trouble() -> None:
    error = {
        "code": "invalid_request",
        "line": 3,
        "param": "body.input[0].file_id",
        "message": "File file-abc not found",
    }
    verdict = judge_failed_batch({"data": [error]})
    assert verdict.kind is ProviderErrorKind.RETRY
    assert verdict.bad_lines == {3: "File file-abc not found"}


@pytest.mark.parametrize(
    ("age", "retry_after", "wait"),
    [(0, 0, 5), (5, 0, 5), (10, 0, 10), (40, 0, 40), (500, 0, 60), (0, 30, 30), (0, 1e9, FILE_PATIENCE_SEC)],
)
def test_a_file_is_waited_for_about_as_long_as_it_has_been_there(
    age: float, retry_after: float, wait: float
) -> None:
    assert file_wait(age, retry_after=retry_after) == wait
