"""The example's dagster.yaml is one that this Dagster takes, on a real Postgres."""

from __future__ import annotations

import shutil
from pathlib import Path

import dagster as dg
import psycopg
import pytest
from psycopg import sql

from tests.postgres_server import postgres_dsn, postgres_schema

EXAMPLE = Path(__file__).parents[2] / "examples" / "deploy"


@pytest.mark.postgres
def test_an_instance_opens_with_the_settings_of_the_example(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(EXAMPLE / "dagster.yaml", tmp_path)
    with postgres_schema() as schema:
        dsn = postgres_dsn()
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
        in_schema = f"{dsn}{'&' if '?' in dsn else '?'}options=-csearch_path%3D{schema}"
        monkeypatch.setenv("DAGSTER_POSTGRES_URL", in_schema)
        _open(tmp_path)


def _open(home: Path) -> None:
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert instance.get_runs_count() == 0
        assert "dagster_postgres" in type(instance.run_storage).__module__
        assert instance.get_settings("sensors") == {
            "use_threads": True,
            "num_workers": 8,
            "num_submit_workers": 4,
        }
        assert instance.run_monitoring_enabled
        assert instance.run_retries_enabled
        queue = instance.get_concurrency_config().run_queue_config
        assert queue is not None
        assert queue.max_concurrent_runs == 20
