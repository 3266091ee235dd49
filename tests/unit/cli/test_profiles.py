"""Defaults in batchor.toml or pyproject.toml: the nearest file counts, and what it can't mean is an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchor_core.cli.profiles import Profile, load_profile
from batchor_core.cli.stores import Stores
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.storage.sqlite import SQLiteStorage

OWN = """
db = "data/runs.sqlite3"
model = "gpt-5-mini"
options = { temperature = 0, seed = 1 }

[profiles.local]
base_url = "http://127.0.0.1:8099/v1"
options = { temperature = 1 }
"""


def test_without_a_file_nothing_is_set(tmp_path: Path) -> None:
    assert load_profile(folder=tmp_path) == Profile()
    with pytest.raises(InvalidInputError, match="no profile 'local'"):
        load_profile("local", folder=tmp_path)


def test_the_nearest_file_counts(tmp_path: Path) -> None:
    (tmp_path / "batchor.toml").write_text(OWN)
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    found = load_profile(folder=inner)
    assert (found.model, found.db) == ("gpt-5-mini", str(tmp_path / "data" / "runs.sqlite3"))
    (tmp_path / "a" / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    assert load_profile(folder=inner) == found, "a project without our table is passed over"
    (tmp_path / "a" / "pyproject.toml").write_text("[tool.batchor]\nmodel = 'gpt-5'\n")
    assert load_profile(folder=inner).model == "gpt-5"


def test_a_profile_overrides_the_files_own_defaults(tmp_path: Path) -> None:
    (tmp_path / "batchor.toml").write_text(OWN)
    found = load_profile("local", folder=tmp_path)
    assert (found.model, found.base_url) == ("gpt-5-mini", "http://127.0.0.1:8099/v1")
    assert found.options == {"temperature": 1, "seed": 1}


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        ("modle = 'x'", None, "unknown setting 'modle'; did you mean 'model'?"),
        ("api_key = 'sk-1'", None, "keys come from the environment alone"),
        ("[profiles.local]\nbase_ulr = 'x'", None, "profile 'local': unknown setting 'base_ulr'"),
        ("[profiles.a.profiles.b]", None, "unknown setting 'profiles': a profile can't hold others"),
        ("postgres = 'yes'", None, "postgres must be true or false"),
        ("model = 5", None, "model must be a string"),
        ("profiles = 1", None, "profiles must be tables"),
        ("model = ", None, "is not TOML"),
        ("[profiles.local]", "locl", "no profile 'locl'; did you mean 'local'?"),
    ],
)
def test_what_a_file_can_not_mean_is_an_error(tmp_path: Path, text: str, name: str | None, said: str) -> None:
    (tmp_path / "batchor.toml").write_text(text)
    with pytest.raises(InvalidInputError) as caught:
        load_profile(name, folder=tmp_path)
    assert said in str(caught.value)
    assert "sk-1" not in str(caught.value)


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "batchor.toml").write_text(OWN, encoding="utf-8-sig")  # as some editors on Windows save it
    assert load_profile(folder=tmp_path).model == "gpt-5-mini"


def test_a_store_that_is_named_counts_before_the_profiles(tmp_path: Path) -> None:
    profile = Profile(db=str(tmp_path / "theirs.sqlite3"), postgres=True)
    with Stores(db=tmp_path / "mine.sqlite3", profile=profile).store(create=True) as store:
        assert isinstance(store, SQLiteStorage)
        assert store.path == tmp_path / "mine.sqlite3"
