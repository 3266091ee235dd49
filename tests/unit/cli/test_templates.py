"""Prompts are templates in a sandbox: what is missing is an error, and nothing is random."""

from __future__ import annotations

from typing import Any

import pytest

from batchor_core.cli.templates import Prompts, RowTemplate
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.models import BatchItem

ROW = {"id": "a", "text": "Good <tea>", "tags": ["x", "ü"], "price": 1.5, "shop": None, "review text": "Fine"}


@pytest.mark.parametrize(
    ("template", "rendered"),
    [
        ("{{ text }}", "Good <tea>"),
        ("{{ row['review text'] }}", "Fine"),
        ("{{ tags }}", '["x", "ü"]'),
        ("{{ row.tags | tojson(indent=1) }}", '[\n "x",\n "ü"\n]'),
        ("{{ text | tojson }}", '"Good <tea>"'),
        ("{{ price }}{{ shop }}.", "1.5."),
        ("{% for tag in tags %}- {{ tag }}\n{% endfor %}", "- x\n- ü\n"),
        ("{% if shop is none %}no shop{% endif %}\n", "no shop"),
        ("{{ colour | default('grey') }}", "grey"),
    ],
)
def test_a_template_over_the_fields_of_a_row(template: str, rendered: str) -> None:
    assert RowTemplate(template, name="prompt.md").render(ROW, row_id="a") == rendered


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (
            "{{ txt }}",
            "prompt.md names 'txt', which row 'a' does not have; did you mean 'text'?; its columns are 'id'",
        ),
        ("{{ text.size.x }}", "row 'a'"),
        ("{{ text + 1 }}", "row 'a': TypeError"),
        ("{{ price / 0 }}", "ZeroDivisionError"),
        ("{{ text.__class__.__mro__ }}", "row 'a'"),
        ("{{ tags.append('y') }}", "row 'a'"),
        ("{% include 'other.md' %}", "row 'a'"),
    ],
)
def test_what_can_not_be_filled_in_names_the_row(template: str, said: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        RowTemplate(template, name="prompt.md").render(ROW, row_id="a")
    assert said in str(caught.value)


@pytest.mark.parametrize("template", ["{{ text", "one\n{% for %}", "{{ tags | random }}"])
def test_what_is_no_template_names_the_line(template: str) -> None:
    with pytest.raises(InvalidInputError, match=r"prompt\.md, line \d"):
        RowTemplate(template, name="prompt.md")


def test_an_empty_prompt_is_refused_and_an_empty_system_prompt_is_none() -> None:
    item: BatchItem[Any] = BatchItem("a", ROW)
    shop, text = RowTemplate("{{ shop }}", name="shop.md"), RowTemplate("{{ text }}", name="text.md")
    with pytest.raises(InvalidInputError, match=r"shop\.md is empty for row 'a'"):
        Prompts(shop)(item)
    parts = Prompts(text, shop)(item)
    assert (parts.prompt, parts.system_prompt) == ("Good <tea>", None)
