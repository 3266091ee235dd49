"""Hosts that speak OpenAI's API with differences: what their profiles change, and runs against a server in their shape."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.request import Request as Forwarded
from urllib.request import urlopen

import pytest

from batchor_core import BatchJob, BatchRunner, MemoryStateStore, OpenAIEndpoint, OpenAIProviderConfig
from batchor_core.artifacts.local import LocalArtifactStore
from batchor_core.core.exceptions import InvalidInputError, MissingCredentialsError
from batchor_core.providers.eight_methods import EightMethodsApi
from batchor_core.providers.openai import OpenAIBatchProvider
from batchor_core.providers.openai.credentials import find_openai_api_key, resolve_openai_api_key
from batchor_core.testing.openai_server import OpenAIServer
from tests.support.world import ask, items

if TYPE_CHECKING:
    from tests.unit.providers.conftest import Reply, Request, ScriptedServer

CHAT = OpenAIEndpoint.CHAT_COMPLETIONS
URL = "https://host.example/v1"


def config(profile: str | None, **settings: Any) -> OpenAIProviderConfig:
    return OpenAIProviderConfig(**{"model": "m", "base_url": URL, "profile": profile, **settings})


class Shape:
    """Forwards to a real server, and words requests and answers as a host does."""

    def __init__(
        self,
        server: OpenAIServer,
        reply: type[Reply],
        *,
        purpose: str = "batch",
        wraps_create: bool = False,
        shouts: bool = False,
    ) -> None:
        self.server, self.reply, self.purpose = server, reply, purpose
        self.wraps_create, self.shouts = wraps_create, shouts

    def __call__(self, request: Request) -> Reply:
        path = request.path.removeprefix("/v1")
        if path.startswith("/files/file-empty"):
            return self.reply(body=b"" if path.endswith("/content") else {"id": "file-empty", "bytes": 0})
        if request.method == "POST" and path == "/files":
            assert f"\r\n\r\n{self.purpose}\r\n".encode() in request.body
        body = request.body.replace(f"\r\n\r\n{self.purpose}\r\n".encode(), b"\r\n\r\nbatch\r\n")
        path = path.replace(f"purpose={self.purpose}", "purpose=batch")
        kept = {
            name: request.headers[name]
            for name in ("authorization", "content-type")
            if name in request.headers
        }
        sent = Forwarded(self.server.base_url + path, body or None, kept, method=request.method)
        try:
            with urlopen(sent) as answer:
                status, content = answer.status, answer.read()
        except HTTPError as error:
            status, content = error.code, error.read()
        if "/batches" in path and status == 200:
            content = json.dumps(self._worded(json.loads(content), request.method)).encode()
        return self.reply(status=status, body=content)

    def _worded(self, answer: dict[str, Any], method: str) -> dict[str, Any]:
        for batch in answer.get("data", [answer]):
            batch["request_counts"] = None
            if batch["output_file_id"]:
                batch["error_file_id"] = batch["error_file_id"] or "file-empty"
            if self.shouts:
                batch["status"] = batch["status"].upper()
        return {"job": answer} if self.wraps_create and method == "POST" else answer


@pytest.mark.parametrize(
    ("profile", "habits"),
    [
        ("azure", {}),
        ("novita", {"shouts": True}),
        ("together", {"purpose": "batch-api", "wraps_create": True, "shouts": True}),
    ],
)
def test_a_run_at_a_host_ends(
    profile: str, habits: dict[str, Any], server: ScriptedServer, reply: type[Reply], tmp_path: Path
) -> None:
    with OpenAIServer(batch_seconds=0) as real:
        server.respond = Shape(real, reply, **habits)
        asked = config(profile, base_url=server.url, api_key="any", endpoint=CHAT, poll_interval_sec=0)
        job = BatchJob(items=items(3), build_prompt=ask, provider_config=asked)
        with BatchRunner(storage=MemoryStateStore(), artifact_store=LocalArtifactStore(tmp_path)) as runner:
            results = runner.run_and_wait(job, run_id="run").results()
        assert [result.error for result in results] == [None] * 3
        assert len(real.books.batches) == 1


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"profile": "azur"}, "profile 'azur' is not known; there are azure, groq"),
        ({"profile": ""}, "profile must not be empty"),
        ({"profile": "groq", "base_url": None}, "needs base_url: without it requests would go to OpenAI"),
        ({"profile": "azure", "base_url": None}, "RESOURCE.openai.azure.com"),
        (
            {"profile": "doubleword", "completion_window": "2h"},
            "takes completion_window '1h' or '24h', not '2h'",
        ),
        ({"profile": "groq"}, "has the endpoint '/v1/chat/completions', not '/v1/responses'"),
    ],
)
def test_settings_that_a_host_can_not_have_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        config(**settings)


def test_what_is_not_known_of_a_host_is_not_relied_on() -> None:
    def limits(profile: str | None) -> Any:
        return EightMethodsApi(OpenAIBatchProvider(config(profile, endpoint=CHAT))).limits

    assert (limits(None).can_fence, limits(None).max_bytes) == (True, None)
    assert (limits("together").can_fence, limits("together").max_bytes) == (False, 100_000_000)
    assert limits("novita").lifetime_sec == 2 * limits("deepinfra").lifetime_sec


def test_the_key_of_openai_is_not_sent_to_another_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    assert find_openai_api_key(config(None)) == "secret"
    with pytest.raises(
        MissingCredentialsError, match="no novita API key: set the environment variable NOVITA_API_KEY"
    ):
        resolve_openai_api_key(config("novita"))
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "other")
    assert resolve_openai_api_key(config("azure")) == "other"


def test_a_profile_is_stored_with_a_run() -> None:
    stored = config("azure").to_public_payload()
    assert OpenAIProviderConfig.from_payload(stored).profile == "azure"
    assert OpenAIProviderConfig.from_payload({"model": "m"}).profile is None
