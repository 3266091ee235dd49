"""A new member of an enum is noticed wherever enums are told apart; groups of members leave none out."""

from __future__ import annotations

import pytest

from batchor_core import OpenAIEndpoint, OpenAIProviderConfig, PromptParts
from batchor_core.core import lifecycle
from batchor_core.core.enums import ItemStatus, SubmissionState
from batchor_core.core.exceptions import ProviderErrorKind
from batchor_core.providers.openai.requests import RequestLines
from batchor_core.testing.local_server.records import OPEN, BatchStatus


def test_every_item_status_is_claimable_in_flight_or_terminal() -> None:
    groups = (*lifecycle.CLAIMABLE, *lifecycle.IN_FLIGHT, *lifecycle.TERMINAL)
    assert sorted(groups) == sorted(ItemStatus)


def test_every_submission_state_is_open_registered_or_dropped() -> None:
    assert sorted(
        (*lifecycle.OPEN_SUBMISSIONS, SubmissionState.REGISTERED, SubmissionState.DROPPED)
    ) == sorted(SubmissionState)
    assert sorted((*lifecycle.UNSENT, *lifecycle.MAYBE_SENT)) == sorted(lifecycle.OPEN_SUBMISSIONS)


def test_every_batch_status_of_the_server_is_open_or_final() -> None:
    final = [status for status in BatchStatus if lifecycle.is_terminal_batch(status)]
    assert sorted((*OPEN, *final)) == sorted(BatchStatus)


@pytest.mark.parametrize("kind", ProviderErrorKind)
def test_only_credentials_and_quota_block_the_account(kind: ProviderErrorKind) -> None:
    assert kind.blocks_the_account is (kind in ("credentials", "quota"))


def test_an_endpoint_that_nobody_builds_for_gets_no_chat_body() -> None:
    config = OpenAIProviderConfig(model="gpt-5-mini")
    object.__setattr__(config, "endpoint", "/v1/videos")
    with pytest.raises(AssertionError, match="videos"):
        RequestLines(config)


@pytest.mark.parametrize("endpoint", OpenAIEndpoint)
def test_every_endpoint_has_a_body(endpoint: OpenAIEndpoint) -> None:
    length = 9 if endpoint is OpenAIEndpoint.COMPLETIONS else None
    lines = RequestLines(OpenAIProviderConfig(model="any", endpoint=endpoint, max_output_tokens=length))
    assert lines.build("a", PromptParts("hello"), None)["url"] == endpoint
