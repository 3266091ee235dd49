"""Changes to the specs of a component's assets from its YAML, as in Dagster's own integrations."""

from typing import Any, Self

import dagster as dg
from pydantic import Field, PrivateAttr

from batchor_dagster.translator import BatchTranslatorData


class Translation(dg.Model):
    """Attributes of the assets. Templates are filled for each asset: ``{{ spec }}`` and ``{{ data }}`` are its own."""

    key: str | None = Field(
        default=None, description="Instead of the asset key, with slashes; submission and results need two."
    )
    key_prefix: str | list[str] | None = Field(default=None, description="Put before the asset key.")
    group_name: str | None = None
    description: str | None = None
    metadata: str | dict[str, Any] | None = Field(default=None, description="Added to what is there.")
    tags: str | dict[str, str | int | float | bool] | None = Field(
        default=None, description="Added to those that are there."
    )
    kinds: str | list[str] | None = None
    owners: str | list[str] | None = None
    code_version: str | int | float | None = None

    _context: dg.ResolutionContext | None = PrivateAttr(default=None)

    def within(self, context: dg.ResolutionContext) -> Self:
        """The same with the names that templates may use."""
        made = self.model_copy()
        made._context = context
        return made

    def applied(self, spec: dg.AssetSpec, data: BatchTranslatorData) -> dg.AssetSpec:
        """The spec with these attributes."""
        context = self._context or dg.ResolutionContext.default()
        scope = context.with_scope(spec=spec, data=data)
        given: dict[str, Any] = dict(scope.resolve_value(self.model_dump(exclude_none=True)))
        key, prefix = given.pop("key", spec.key), given.pop("key_prefix", [])
        key = key if isinstance(key, dg.AssetKey) else dg.AssetKey.from_user_string(str(key))
        added = {name: given.pop(name) for name in ("metadata", "tags") if name in given}
        if "tags" in added:
            added["tags"] = {name: str(value) for name, value in added["tags"].items()}
        if "kinds" in given:
            given["kinds"] = set(given["kinds"])
        if "code_version" in given:
            given["code_version"] = str(given["code_version"])
        return spec.replace_attributes(key=key.with_prefix(prefix), **given).merge_attributes(**added)
