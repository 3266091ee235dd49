"""The batchor resource as a component's YAML describes it."""

import functools
import json
from typing import Any

import dagster as dg
from pydantic import Field

from batchor_dagster.providers import Provider
from batchor_dagster.resource import CAPS_DESCRIPTION, PRICES_DESCRIPTION, BatchorResource


class Resource(dg.Model, dg.Resolvable):
    """The batchor resource, for a project that does not define it elsewhere."""

    root: str = Field(default=".batchor", description="Folder for the database, artifacts and results.")
    storage: str = Field(default="sqlite", description="sqlite or postgres.")
    sqlite_path: str | None = Field(default=None, description="The SQLite file; <root>/batchor.sqlite3.")
    postgres_schema: str | None = Field(default=None, description="Database schema of the postgres store.")
    artifacts: str | None = Field(
        default=None, description="Folder or fsspec URL for request and output files."
    )
    parquet_base: str | None = Field(default=None, description="Folder or fsspec URL for result files.")
    base_url: str | None = Field(default=None, description="Another OpenAI-compatible server.")
    prices: str | None = Field(
        default=None,
        description=PRICES_DESCRIPTION,
    )
    caps: list[dict[str, Any]] | None = Field(
        default=None,
        description=CAPS_DESCRIPTION,
    )
    webserver_url: str | None = Field(default=None, description="Put before links to the Dagster UI.")
    providers: dict[str, dict[str, Any]] | None = Field(
        default=None,
        description="By kind: fields of the provider's config that no batch should hold. {env: NAME} reads a variable when "
        "the provider is needed.",
    )

    def made(self) -> BatchorResource:
        """OpenAI's key and the database's DSN come from the environment, so that the YAML contains no secrets.

        Components with the same settings get the same object, since only then can Dagster merge their definitions.
        """
        return _made(self.model_dump_json(exclude_none=True))


@functools.cache
def _made(settings_json: str) -> BatchorResource:
    settings = json.loads(settings_json)
    providers = {
        kind: Provider(settings={name: _from_yaml(value) for name, value in given.items()})
        for kind, given in settings.pop("providers", {}).items()
    }
    return BatchorResource(**settings, providers=providers or None)


def _from_yaml(value: Any) -> Any:
    """A setting as written in YAML: ``{env: NAME}`` is Dagster's notation for a variable."""
    if isinstance(value, dict) and value.keys() == {"env"}:
        return dg.EnvVar(str(value["env"]))
    return value
