"""What ``make check`` takes from the pages, and that it finds what is wrong there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.snippets.__main__ import check, examples, pages, programs

PAGE = Path("page.md")

FRAGMENTS = """\
# A page

```python
count: int = 1
```

Text, and `code`.

```sh
rm -rf everything
```

<!-- python: given name: str -->
```python
print(name, count)
```

- In a list:

  ```python
  if count:
      print("more")
  ```

<!-- python: new program -->
```python
count: str = "one"
```
"""


def test_the_blocks_of_a_page_are_one_program_on_their_own_lines() -> None:
    first, second = programs(PAGE, FRAGMENTS)
    assert [(n, line) for n, line in enumerate(first.lines, 1) if line] == [
        (4, "count: int = 1"),
        (13, "name: str"),
        (15, "print(name, count)"),
        (21, "if count:"),
        (22, '    print("more")'),
    ]
    assert [(n, line) for n, line in enumerate(second.lines, 1) if line] == [(27, 'count: str = "one"')]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- python: skip -->\n```python\n1 + ''\n```", "page.md:1.*'skip'"),
        ("```py\n1 + ''\n```", "page.md:1.*not as py"),
        ("text\n```pycon\n>>> 1 + ''\n```", "page.md:2.*not as pycon"),
    ],
)
def test_no_block_is_passed_over(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        programs(PAGE, text)


def test_every_block_of_python_in_every_page_is_taken() -> None:
    for page in pages():
        text = page.read_text(encoding="utf-8")
        blocks = re.findall(r"^ *```python\n(.*?)^ *```$", text, flags=re.DOTALL | re.MULTILINE)
        taken = "\n".join(line for program in programs(page, text) for line in program.lines if line)
        lines = [line.strip() for block in blocks for line in block.split("\n") if line.strip()]
        assert set(lines) <= {line.strip() for line in taken.split("\n")}, page.name


def test_every_example_is_checked() -> None:
    modules, scripts = examples()
    names = {path.stem for path in (*modules, *scripts)}
    assert {
        "dagster_project",
        "demo",
        "ui",
        "text",
        "structured",
        "parquet_in_out",
        "custom_provider",
    } <= names


WRONG = """\
# Wrong

```python
import batchor_core as batchor

job = batchor.BatchJob(items=[], build_prompt=lambda item: 5, provider_config=batchor.FakeConfig())
```
"""


def test_what_is_wrong_in_a_page_is_told_by_its_line() -> None:
    wrong = "\n".join(check(programs(PAGE, WRONG)))
    assert re.search(r'page\.md:6: error: .*"int".*"PromptParts \| str"', wrong), wrong
    assert re.search(r"page\.md:6: error: .*FakeConfig", wrong), wrong


NATURAL = """\
```python
from collections.abc import Iterator
from typing import Any

import batchor_core as batchor
from pydantic import BaseModel


class Review(BaseModel):
    mood: str


labels: dict[str, str] = {"team": "a"}


def where(row: dict[str, Any]) -> dict[str, int]:
    return {"n": int(row["n"])}


def rows() -> Iterator[batchor.BatchItem[tuple[str, int]]]:
    yield batchor.BatchItem("1", ("good", 5), labels)


def ask(item: batchor.BatchItem[tuple[str, int]]) -> str:
    return item.payload[0]


config = batchor.OpenAIProviderConfig(model="gpt-5-mini")
of_rows = batchor.BatchJob(items=rows(), build_prompt=ask, provider_config=config, structured_output=Review)
of_text = batchor.BatchJob(items=list(rows()), build_prompt=ask, provider_config=config)
of_a_file = batchor.BatchJob(
    items=batchor.JsonlItemSource(
        "rows.jsonl",
        item_id_from_row=lambda row: row["id"],
        payload_from_row=lambda row: (row["text"], row["stars"]),
        metadata_from_row=where,
    ),
    build_prompt=lambda item: batchor.PromptParts(item.payload[0], system_prompt=f"{item.payload[1]} stars"),
    provider_config=config,
)
several = batchor.CompositeItemSource(
    [
        batchor.CsvItemSource(name, item_id_from_row=lambda row: row["id"], payload_from_row=lambda row: row)
        for name in ("a.csv", "b.csv")
    ]
)
jobs: list[batchor.BatchJob] = [of_rows, of_text, of_a_file]
registry = batchor.ProviderRegistry()
registry.register(
    kind="openai",
    factory=batchor.OpenAIBatchProvider,
    loader=lambda payload: batchor.OpenAIProviderConfig(**payload),
)
with batchor.BatchRunner(storage=batchor.SQLiteStorage(path="a.sqlite3"), provider_registry=registry) as runner:
    for result in runner.run_and_wait(of_rows).iter_results():
        if result.output is not None:
            print(result.output.mood, result.metadata["batchor_lineage"]["source_path"])
        if result.error is not None:
            print(result.error.error_class)
    for page in runner.get_run("1").iter_record_pages():
        print([record.output_text for record in page])
```
"""


def test_what_a_user_naturally_writes_has_no_type_errors() -> None:
    assert check(programs(PAGE, NATURAL)) == []


def test_a_prompt_for_other_payloads_than_the_items_have_is_a_type_error() -> None:
    page = NATURAL.replace("BatchItem[tuple[str, int]]) -> str", "BatchItem[int]) -> str")
    assert any("BatchItem[int]" in line for line in check(programs(PAGE, page)))
