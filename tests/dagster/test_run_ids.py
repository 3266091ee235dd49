"""Names derived from assets and partitions are safe, stable and never shared."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchor_core.core.validation import check_artifact_key, check_run_id
from batchor_core.tables.safe_names import partition_name
from batchor_dagster.run_ids import MAX_RUN_ID, MAX_SEGMENT, batch_run_id, safe_path_segment

Name = Callable[[str], str]

KEYS = st.lists(st.text(alphabet="aB1_-. /é|", min_size=1, max_size=12), min_size=1, max_size=3)
PARTITIONS = st.none() | st.text(alphabet="aB1_-.:/|é\n", max_size=40)
NAMES = st.tuples(KEYS, PARTITIONS | st.sampled_from(["g2", "g10"]), st.sampled_from([1, 2, 10, 9999]))


@pytest.mark.parametrize(
    ("asset_key", "partition", "run_id"),
    [
        (["reviews"], None, "reviews"),
        (["reviews"], "2026-01-01", "reviews--2026-01-01"),
        (["shop", "reviews"], "en-US", "shop.reviews--en-US"),
        (["shop", "my-reviews"], "v1.2", "shop.my-reviews--v1.2"),
    ],
)
def test_readable_keys_are_kept(asset_key: list[str], partition: str | None, run_id: str) -> None:
    assert batch_run_id(asset_key, partition) == run_id


@pytest.mark.parametrize(
    ("asset_key", "partition", "pattern"),
    [
        (["reviews"], "2026-01-01-00:00", r"reviews--2026_01_01_00_00--[0-9a-f]{16}"),
        (["reviews"], "2026-01-01|de", r"reviews--2026_01_01_de--[0-9a-f]{16}"),
        (["reviews"], "", r"reviews--_--[0-9a-f]{16}"),
        (["reviews"], "g2", r"reviews--g2--[0-9a-f]{16}"),
        (["re views"], None, r"re_views--_--[0-9a-f]{16}"),
        (["a" * 100], "b" * 100, r"a{18}--b{18}--[0-9a-f]{16}"),
    ],
)
def test_other_keys_stay_recognisable_and_get_a_digest(
    asset_key: list[str], partition: str | None, pattern: str
) -> None:
    assert re.fullmatch(pattern, batch_run_id(asset_key, partition))


def test_names_do_not_change_from_release_to_release() -> None:
    assert batch_run_id(["reviews"], "2026-01-01|de") == "reviews--2026_01_01_de--29aa15e30c408581"
    assert safe_path_segment("a/b") == "a_b--1693b0cfc4dae187"
    assert partition_name(["reviews"], "2026-01-01|de") == "2026-01-01--de"
    assert partition_name(["reviews"], "a/b") == "a_b--b3cd6beebfac3799"


def test_look_alikes_get_different_names() -> None:
    look_alikes = [
        (["a", "b"], None),
        (["a.b"], None),
        (["a_b"], None),
        (["a"], "b"),
        (["a--b"], None),
        (["a"], None),
        (["a"], ""),
        (["a", "b"], "c"),
        (["a"], "b--c"),
        (["a--b"], "c"),
        (["a", "b--c"], None),
        (["a-"], "b"),
        (["a"], "-b"),
    ]
    assert len({batch_run_id(key, partition) for key, partition in look_alikes}) == len(look_alikes)


def test_a_digest_form_given_as_a_key_is_not_taken_for_the_name_it_imitates() -> None:
    imitated = batch_run_id(["a"], "b c")
    asset, partition, digest = imitated.split("--")
    assert batch_run_id([asset], f"{partition}--{digest}") != imitated
    segment = safe_path_segment("b c")
    assert safe_path_segment(segment) != segment


def test_a_revision_is_read_off_the_run_id() -> None:
    assert batch_run_id(["reviews"], "2026-01-01", revision=2) == "reviews--2026-01-01--g2"
    assert batch_run_id(["reviews"], revision=3) == "reviews--g3"
    assert batch_run_id(["reviews"], generation=3) == "reviews--g3"


@pytest.mark.parametrize("revision", [0, -1, 10_000])
def test_a_revision_counts_from_one(revision: int) -> None:
    with pytest.raises(ValueError, match="from 1 to 9999"):
        batch_run_id(["reviews"], revision=revision)


@given(st.lists(NAMES, min_size=2, max_size=2, unique_by=repr))
def test_different_partitions_never_share_a_run(names: list[tuple[list[str], str | None, int]]) -> None:
    first, second = (batch_run_id(key, partition, revision=revision) for key, partition, revision in names)
    assert first != second


@given(NAMES)
def test_run_ids_are_legal_for_the_engine(name: tuple[list[str], str | None, int]) -> None:
    key, partition, revision = name
    run_id = batch_run_id(key, partition, revision=revision)
    assert check_run_id(run_id) == run_id
    assert len(run_id) <= MAX_RUN_ID
    assert re.fullmatch(r"[A-Za-z0-9_.-]+", run_id)
    assert batch_run_id(key, partition, revision=revision) == run_id


def name_of_a_partition(key: str) -> str:
    return partition_name(["reviews"], key)


NAMING = pytest.mark.parametrize("name", [safe_path_segment, name_of_a_partition])


@NAMING
@given(st.lists(st.text(max_size=200) | st.text("ab-_|", max_size=5), min_size=2, max_size=2, unique=True))
def test_different_partition_keys_never_share_a_path_segment(name: Name, keys: list[str]) -> None:
    segments = [name(key) for key in keys]
    assert segments[0] != segments[1]
    for segment in segments:
        assert check_artifact_key(segment) == (segment,)
        assert len(segment) <= MAX_SEGMENT


@NAMING
@given(st.lists(st.text(alphabet="aAbB_.-1|", max_size=4), min_size=2, max_size=2, unique=True))
def test_no_two_segments_differ_in_case_alone(name: Name, keys: list[str]) -> None:
    first, second = (name(key).casefold() for key in keys)
    assert first != second


@NAMING
@given(st.one_of(st.text(max_size=130), st.text(alphabet="_.aA-|", max_size=5)))
def test_no_reader_of_folders_skips_a_segment(name: Name, key: str) -> None:
    segment = name(key)
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", segment)
    assert segment[-1].isalnum() or segment[-1] == "_"


@pytest.mark.parametrize(
    ("key", "pattern"),
    [
        ("2026-01-01", "2026-01-01"),
        ("de", "de"),
        ("de_at.v2", "de_at.v2"),
        ("東京", "key--{}"),
        (".", "key--{}"),
        ("_", "key--{}"),
        ("_all", "all--{}"),
        (".hidden", "hidden--{}"),
        ("DE", "DE--{}"),
        ("con", "con--{}"),
        ("nul.2026", "nul_2026--{}"),
        ("COM1", "COM1--{}"),
        ("lpt9", "lpt9--{}"),
        ("com", "com"),
        ("console", "console"),
        ("dot.", "dot--{}"),
        ("space ", "space--{}"),
        ("a=b", "a_b--{}"),
        ("2026-01-01|de", "2026_01_01_de--{}"),
    ],
)
def test_only_names_that_every_reader_takes_stay_as_they_are(key: str, pattern: str) -> None:
    assert re.fullmatch(pattern.format("[0-9a-f]{16}").replace(".v", r"\.v"), safe_path_segment(key))


def test_both_normal_forms_of_a_key_have_a_file_of_their_own() -> None:
    composed, decomposed = (unicodedata.normalize(form, "Zürich") for form in ("NFC", "NFD"))
    segments = {safe_path_segment(composed), safe_path_segment(decomposed)}
    assert len(segments) == 2
    assert all(segment.isascii() for segment in segments)


@pytest.mark.parametrize("key", ["..", ".", "", "a/../b", "C:\\x", "nul\x00", "\ud800"])
def test_dangerous_partition_keys_become_plain_segments(key: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_]+--[0-9a-f]{16}", safe_path_segment(key))


@pytest.mark.parametrize(
    ("key", "pattern"),
    [
        ("2026-01-01|de", "2026-01-01--de"),
        ("a.v1|b_2", "a.v1--b_2"),
        ("con|de", "con--de"),
        ("de|con", "de--con"),
        ("nul.1|de", "nul_1_de--{}"),  # Windows takes nul.1--de for a device
        ("2026-01-01|DE", "2026_01_01_DE--{}"),
        ("2026-01-01|", "2026_01_01--{}"),
        ("de|0123456789abcdef", "de_0123456789abcdef--{}"),
        ("a" * 80 + "|" + "b" * 80, "a{{80}}_b{{21}}--{}"),
    ],
)
def test_a_key_of_several_dimensions_is_readable_if_its_parts_are(key: str, pattern: str) -> None:
    assert re.fullmatch(pattern.format("[0-9a-f]{16}"), partition_name(["reviews"], key))


@pytest.mark.parametrize("key", ["2026-01-01-00:00", "a/b", "Zürich", "", "2026-01-01|d e"])
def test_file_and_run_of_a_partition_have_one_digest(key: str) -> None:
    asset = ["shop", "reviews"]
    assert partition_name(asset, key)[-16:] == batch_run_id(asset, key)[-16:]
    assert partition_name(["other"], key)[-16:] != batch_run_id(asset, key)[-16:]
