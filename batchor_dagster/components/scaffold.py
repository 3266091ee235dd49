"""``dg scaffold defs batchor_dagster.BatchComponent``: a YAML file to edit, and rows to try it with."""

from __future__ import annotations

import json
import textwrap
from typing import Any

import dagster as dg
import yaml
from pydantic import BaseModel, Field

_ROWS = """id,text
1,"Arrived a day early, and the box was dry."
2,"The handle broke in the first week."
3,"Does what it says. Nothing more, nothing less."
"""

_YAML = """\
# To try it, run `batchor serve` in one terminal (pip install "batchor-core[cli,emulator]") and `dg dev` in another, then materialize
# {name}_submission. The results follow by themselves, within a minute or two.
type: {type_name}

attributes:
  batches:
    - name: {name}
      openai:
        model: {model}
      prompt: "Judge this review: {{text}}"
      source:
        path: {source}
        id_column: id
      # instead of fields: text, package.module.Model, or a JSON schema
      output:
        sentiment: [positive, negative, mixed]
        summary: string
        topics: list[string]
{partitions}{resource}"""

_RESOURCE = """\
  resource:
    root: .batchor
    # The server of `batchor serve`, which needs no key and bills nothing. For OpenAI, remove these two lines and set OPENAI_API_KEY.
    base_url: http://127.0.0.1:8099/v1
    providers: {openai: {api_key: local}}
    # If Python code of this project has resources={"batchor": BatchorResource(...)}, remove `resource:` here, and the component
    # uses that one. Or keep both, with `resource_key: reviews_store` beside `resource:` and another root.
"""


class BatchScaffoldParams(BaseModel):
    """Options of the command."""

    model: str = Field(default="gpt-5-mini", description="The provider's model.")
    source: str = Field(
        default="rows.csv",
        description="The file with the rows; one with three rows is made if it is not there. {partition} stands for the "
        "partition key.",
    )
    daily_from: str | None = Field(default=None, description="Daily partitions from this date on.")


class BatchScaffolder(dg.Scaffolder[BatchScaffoldParams]):
    """Writes ``defs.yaml``, and the rows if the source is a plain file name."""

    @classmethod
    def get_scaffold_params(cls) -> type[BatchScaffoldParams]:
        """Options of the command."""
        return BatchScaffoldParams

    def scaffold(self, request: dg.ScaffoldRequest[BatchScaffoldParams]) -> None:
        """Write the files.

        Raises:
            ValueError: Another format than YAML was asked for.
        """
        if request.scaffold_format != "yaml":
            raise ValueError("BatchComponent is scaffolded as YAML; for Python, use @batch_asset itself")
        params = request.params
        partitions = ""
        if params.daily_from:
            partitions = f"      partitions:\n        type: daily\n        start_date: {json.dumps(params.daily_from)}\n"
        text = _YAML.format(
            type_name=request.type_name,
            name=request.target_path.name.replace("-", "_"),
            model=json.dumps(params.model),  # a JSON string is a YAML string, whatever is in it
            source=json.dumps(params.source),
            partitions=partitions,
            resource=_resource(request),
        )
        (request.target_path / "defs.yaml").write_text(text, encoding="utf-8")
        rows = request.target_path / params.source
        if (
            rows.name == params.source
            and rows.suffix == ".csv"
            and "{" not in params.source
            and not rows.exists()
        ):
            rows.write_text(_ROWS, encoding="utf-8")


def _resource(request: dg.ScaffoldRequest[BatchScaffoldParams]) -> str:
    """The resource: that of a component which the project has already, so that they share it, or the local server."""
    folders = request.target_path.parents
    defs = next((folder for folder in folders if folder.name == "defs"), folders[0])
    others = [
        component["attributes"]
        for file in sorted(defs.rglob("defs.yaml"))
        if file.parent != request.target_path
        for component in yaml.safe_load_all(file.read_text(encoding="utf-8"))
        if isinstance(component, dict) and component.get("type") == request.type_name
    ]
    if not others:
        return _RESOURCE
    shared: dict[str, Any] = next((other for other in others if "resource" in other), {})
    given = {key: shared[key] for key in ("resource", "resource_key") if key in shared}
    if not given:
        return "  # without `resource:`, as in the project's other components: Python code defines it\n"
    written = yaml.safe_dump(given, sort_keys=False)
    return textwrap.indent(
        f"# the same as in the project's other components, which share it\n{written}", "  "
    )
