"""``dg scaffold defs batchor_dagster.BatchComponent``: a YAML file to edit, and rows to try it with."""

from __future__ import annotations

import json

import dagster as dg
from pydantic import BaseModel, Field

_ROWS = """id,text
1,"Arrived a day early, and the box was dry."
2,"The handle broke in the first week."
3,"Does what it says. Nothing more, nothing less."
"""

_YAML = """\
# To try it without a key: `python -m batchor_core.testing.openai_server` in a terminal of its own (the emulator extra), then
#   OPENAI_BASE_URL=http://127.0.0.1:8099/v1 OPENAI_API_KEY=any dg dev
# and materialize {name}_submission; the results follow by themselves.
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
      # package.module.Model works too; without it, answers are text
      output:
        sentiment: [positive, negative, mixed]
        summary: string
        topics: list[string]
{partitions}
  # Components with the same resource share it; the key is taken from OPENAI_API_KEY.
  # If Python code of this project has resources={{"batchor": BatchorResource(...)}}, remove `resource:` here, and the
  # component uses that one. Or keep it under another name, with `resource_key: reviews_store` and another root.
  resource:
    root: .batchor
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
