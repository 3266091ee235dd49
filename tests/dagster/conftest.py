"""A real Dagster instance, a real store in a folder, and the local server as the provider."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import dagster as dg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from pydantic import BaseModel

from batchor_core import BatchItem, BatchJob, OpenAIProviderConfig
from batchor_core.testing.openai_server import OpenAIServer
from batchor_dagster import BatchAsset, BatchorResource, batch_asset

SECRET = "sk-test-5ecret-1234567890"
TOPICS = dg.StaticPartitionsDefinition(["birds", "fish"])


class Fact(BaseModel):
    """What the jobs of these tests ask for."""

    statement: str
    kind: Literal["true", "false"]
    sources: list[str]


@pytest.fixture(scope="session", autouse=True)
def _read_migrations_once() -> Iterator[None]:
    """An instance marks its databases with Dagster's newest revision, for which it reads ninety files each time."""
    read = ScriptDirectory.from_config
    known: dict[str | None, ScriptDirectory] = {}

    def read_once(config: Config) -> ScriptDirectory:
        place = config.get_main_option("script_location")
        if place not in known:
            known[place] = read(config)
        return known[place]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScriptDirectory, "from_config", read_once)
        yield


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def resource(tmp_path: Path, openai_server: OpenAIServer, monkeypatch: pytest.MonkeyPatch) -> BatchorResource:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    return BatchorResource(
        root=str(tmp_path / "batchor"),
        api_key=dg.EnvVar("OPENAI_API_KEY"),
        base_url=openai_server.base_url,
        poll_interval_sec=0.01,
    )


def with_setting(resource: BatchorResource, **setting: Any) -> BatchorResource:
    """The same with another setting."""
    key = dg.EnvVar("OPENAI_API_KEY")
    return BatchorResource(
        root=resource.root, api_key=key, base_url=resource.base_url, poll_interval_sec=0.01, **setting
    )


@pytest.fixture
def priced_resource(resource: BatchorResource, tmp_path: Path) -> BatchorResource:
    """The resource with a dollar for a million tokens of any kind."""
    prices = tmp_path / "prices.toml"
    prices.write_text('["openai/gpt-4.1-mini"]\ninput_tokens = 1\noutput_tokens = 1\n', encoding="utf-8")
    return with_setting(resource, prices=str(prices))


def job_of(topic: str | None, *, rows: int = 3, model: str = "gpt-4.1-mini") -> BatchJob[Any, Any]:
    return BatchJob(
        items=[
            BatchItem(f"{topic or 'all'}-{index}", f"fact {index} about {topic}") for index in range(rows)
        ],
        build_prompt=lambda item: str(item.payload),
        provider_config=OpenAIProviderConfig(model=model),
    )


@pytest.fixture
def make_asset() -> Callable[..., BatchAsset]:
    """Makes a batch asset named facts; ``rows`` and ``model`` shape its job, the rest goes to the decorator."""

    def make(*, rows: int = 3, model: str = "gpt-4.1-mini", **settings: Any) -> BatchAsset:
        settings = {"name": "facts", "partitions_def": TOPICS, "output": Fact, **settings}

        @batch_asset(**settings)
        def facts(context: dg.AssetExecutionContext) -> BatchJob[Any, Any]:
            """Facts about a topic."""
            topic = context.partition_key if context.has_partition_key else None
            return job_of(topic, rows=rows, model=model)

        return facts

    return make
