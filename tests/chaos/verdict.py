"""What a round did to the run: the provider's books, the store and the export, held against each other.

The provider's books say what was paid, the store and the export what was got for it. Nothing here trusts the engine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from batchor_core.core.custom_ids import parse, unmarked
from tests.chaos.rows import of_one_reading
from tests.chaos.scenario import Scenario, Source


@dataclass(frozen=True)
class Facts:
    """What was found after a round.

    Attributes:
        items: The store's terminal rows: item_id, status, sequence, text, error_class.
        total_items: How many items the store says the run has.
        exported: Rows of the exported results.
        manifest_ok: Whether the bundle is whole: each file there, of the size and SHA-256 that the manifest gives.
        is_finished: Whether the run ended.
        open_work: Batches and submissions that the store still counts as under way.
        executions: The provider's: custom_id and outcome of each row that it executed.
        batches: The provider's: each batch's local id, by provider id.
        posts: POSTs that asked for a batch and got through to the server, but for those that it has refused with 400: a
            submission whose input file is not ready yet is certainly refused, and tried again.
        sent_submissions: Submissions that the store says were sent.
        input_files: Input files that are still at the provider.
        unfinished_files: Temporary files here, and artifacts that are still there though all were pruned.
        shown: Errors that drivers got to see.
        is_intact: Whether the database says of itself that it is whole.
    """

    items: Sequence[Mapping[str, Any]]
    total_items: int
    exported: Sequence[Mapping[str, Any]]
    manifest_ok: bool
    is_finished: bool
    open_work: int
    executions: Sequence[tuple[str, str]]
    batches: Mapping[str, str]
    posts: int
    sent_submissions: int
    input_files: Sequence[str] = ()
    unfinished_files: Sequence[str] = ()
    shown: Sequence[str] = ()
    is_intact: bool = True


@dataclass(frozen=True)
class Verdict:
    """What is wrong; nothing, if all is 0.

    Attributes:
        lost: Items without a terminal result, or without a row in the export.
        doubled: Items with more than one result, or with another item's.
        paid_twice: Executions of a row beyond the first answer.
        doubled_batches: Batches beyond the first for one submission, or POSTs beyond one for each.
        stuck: 1 if the last driver did not come to its end in time, or left work open.
        broken: Sequences with gaps, a bundle that is not whole, an error of another kind.
        locked: How often a driver was shown "database is locked".
        left: Files that stayed at the provider or here, though nothing prevented their removal.
        orphans: Files that stayed where the scenario says why they may. They cost nothing, and are not wrong.
        held: Rounds in which a submission in doubt was left on hold, and settled afterwards. Where a create can't be fenced
            that is as it must be.
        over_caps: Caps that were exceeded by more than rows in flight explain, or of which something stays reserved.
        excess: The largest excess over a cap that rows in flight explain, in picodollars.
    """

    lost: int = 0
    doubled: int = 0
    paid_twice: int = 0
    doubled_batches: int = 0
    stuck: int = 0
    broken: int = 0
    locked: int = 0
    left: int = 0
    orphans: int = 0
    held: int = 0
    over_caps: int = 0
    excess: int = field(default=0, compare=False)
    why: Sequence[str] = field(default=(), compare=False)

    @property
    def is_good(self) -> bool:
        """Nothing was lost, doubled, paid twice, stuck or left behind."""
        return not any(getattr(self, name) for name in FIGURES if name not in ("orphans", "held"))

    def __add__(self, other: Verdict) -> Verdict:
        sums = {name: getattr(self, name) + getattr(other, name) for name in FIGURES}
        return Verdict(**sums, excess=max(self.excess, other.excess), why=[*self.why, *other.why])


FIGURES = tuple(entry.name for entry in fields(Verdict) if entry.name not in ("excess", "why"))


def judge(facts: Facts, scenario: Scenario) -> Verdict:
    """Hold the books against the store and the export."""
    texts: Mapping[str, str] = scenario.texts()
    if scenario.source is not Source.MEMORY:
        first = next((item["text"] for item in facts.items if item["status"] == "completed"), "")
        texts = of_one_reading(texts, first)
    why: list[str] = []

    def count(what: str, found: Sequence[Any]) -> int:
        if found:
            why.append(f"{what}: {list(found)[:5]}")
        return len(found)

    results = Counter(item["item_id"] for item in facts.items)
    exported = Counter(row["item_id"] for row in facts.exported)
    wrong = [item["item_id"] for item in facts.items if not _is_right(item, texts, scenario)]
    lost = [name for name in texts if name not in results]
    lost += [name for name in texts if name in results and name not in exported]
    lost += [
        item["item_id"]
        for item in facts.items
        if item["status"] == "failed_permanent" and item["item_id"] in wrong
    ]
    doubled = [name for name, times in (results | exported).items() if times > 1 or name not in texts]
    doubled += [
        item["item_id"] for item in facts.items if item["status"] == "completed" and item["item_id"] in wrong
    ]

    answered = Counter(row_of(custom_id) for custom_id, outcome in facts.executions if outcome == "answer")
    paid_twice = (
        [] if scenario.paid_again else [index for index, times in answered.items() for _ in range(times - 1)]
    )
    local_ids = Counter(facts.batches.values())
    again = [local_id for local_id, times in local_ids.items() for _ in range(times - 1)]
    if not again and not scenario.forgets and facts.posts > facts.sent_submissions:
        again = [f"{facts.posts} POSTs for {facts.sent_submissions} submissions"]

    sequences = [item["sequence"] for item in facts.items]
    has_gaps = sequences != list(range(1, len(sequences) + 1))
    broken = [f"sequences {sequences}"] if has_gaps and not scenario.retries_failed else []
    if facts.is_finished and not facts.manifest_ok:
        broken.append("the bundle is not whole")
    if not facts.is_intact:
        broken.append("the database is corrupt")
    if facts.total_items not in (0, len(texts)):
        broken.append(f"{facts.total_items} items of {len(texts)}")
    stuck = [] if facts.is_finished else ["the run did not end"]
    if facts.is_finished and facts.open_work:
        stuck.append(f"{facts.open_work} batches or submissions still open")
    locked = [text for text in facts.shown if "locked" in text]
    broken += [
        text
        for text in facts.shown
        if "locked" not in text and not any(part in text for part in scenario.tolerates)
    ]
    files = [*facts.input_files, *facts.unfinished_files]
    return Verdict(
        lost=count("lost", lost),
        doubled=count("doubled or wrong", doubled),
        paid_twice=count("paid twice", paid_twice),
        doubled_batches=count("doubled batches", again),
        stuck=count("stuck", stuck),
        broken=count("broken", broken),
        locked=count("locked", locked),
        left=0 if scenario.leaves else count("left behind", files),
        orphans=count("orphans", files) if scenario.leaves else 0,
        why=why,
    )


def row_of(sent_as: str) -> str:
    """What all attempts of an item have in common, of a custom_id as the provider has it."""
    parts = unmarked(sent_as)
    attempt = parse(sent_as if parts is None else parts[0])
    return sent_as if attempt is None else str(attempt.item_index)


def _is_right(item: Mapping[str, Any], texts: Mapping[str, str], scenario: Scenario) -> bool:
    if item["status"] == "completed":
        return bool(item["text"] == texts.get(item["item_id"]))
    return scenario.may_fail(item["item_id"], item["error_class"] or "")
