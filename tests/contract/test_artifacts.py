"""Every artifact store: whole files or none, under checked keys."""

from __future__ import annotations

import os
import stat
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
from fsspec.registry import _registry
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchor_core.artifacts.base import TEMPORARY_PREFIX, ArtifactStore, check_key
from batchor_core.artifacts.local import LocalArtifactStore
from batchor_core.artifacts.object_store import ObjectStoreArtifactStore
from batchor_core.core.exceptions import InvalidInputError, StorageError


class TextStore(ArtifactStore):
    """What a user writes who reads the interface only: the five abstract methods, over a dict of bytes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kept: dict[str, bytes] = {}

    def write_text(self, key: str, content: str, *, encoding: str = "utf-8") -> None:
        check_key(key)
        self.kept[key] = content.encode(encoding)

    def read_text(self, key: str, *, encoding: str = "utf-8") -> str:
        return self._found(key).decode(encoding)

    def delete(self, key: str) -> bool:
        check_key(key)
        if any(other.startswith(f"{key}/") for other in self.kept):
            raise IsADirectoryError(key)
        return self.kept.pop(key, None) is not None

    @contextmanager
    def stage_local_copy(self, key: str) -> Iterator[Path]:
        path = self.folder / uuid.uuid4().hex / key.rpartition("/")[2]
        content = self._found(key)
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        yield path

    def export_to_directory(self, key: str, destination_root: str | Path) -> Path:
        path = Path(destination_root).absolute() / key
        content = self._found(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def _found(self, key: str) -> bytes:
        check_key(key)
        if any(other.startswith(f"{key}/") for other in self.kept):
            raise IsADirectoryError(key)
        if key not in self.kept:
            raise FileNotFoundError(key)
        return self.kept[key]


@pytest.fixture(params=["local", "object store: memory", "object store: file", "text only"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    match request.param:
        case "local":
            return LocalArtifactStore(tmp_path / "artifacts")
        case "object store: memory":
            return ObjectStoreArtifactStore(f"memory://bucket-{uuid.uuid4().hex}/prefix")
        case "object store: file":
            return ObjectStoreArtifactStore(f"file://{tmp_path}/artifacts")
        case _:
            return TextStore(tmp_path / "staged")


@pytest.fixture
def local(tmp_path: Path) -> LocalArtifactStore:
    return LocalArtifactStore(tmp_path / "artifacts")


def files_below(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def write_half(store: ArtifactStore, key: str, error: type[BaseException]) -> None:
    with store.open_writer(key) as file:
        file.write(b"half")
        raise error


class TestEveryStore:
    @pytest.mark.parametrize("text", ["", "one line", "a\r\nb\rc\nd\u2028e\x85f", "😀\x00", "x" * 3_000_000])
    def test_text_comes_back_as_it_was(self, store: ArtifactStore, text: str) -> None:
        store.write_text("run/requests/batch.jsonl", text)
        assert store.read_text("run/requests/batch.jsonl") == text

    def test_another_encoding_is_used_both_ways(self, store: ArtifactStore) -> None:
        store.write_text("a", "Zoë", encoding="utf-16")
        assert store.read_text("a", encoding="utf-16") == "Zoë"
        with pytest.raises(UnicodeEncodeError):
            store.write_text("a", "Zoë", encoding="ascii")
        assert store.read_text("a", encoding="utf-16") == "Zoë"

    def test_writing_again_replaces(self, store: ArtifactStore) -> None:
        store.write_text("a/b", "a long first text")
        store.write_text("a/b", "second")
        assert store.read_text("a/b") == "second"

    def test_what_is_not_there_is_said_to_be_missing(self, store: ArtifactStore, tmp_path: Path) -> None:
        store.write_text("a/file", "x")
        for key in ("absent", "a/absent", "b/absent"):
            assert store.exists(key) is False
            assert store.delete(key) is False
            for use in (
                lambda key=key: store.read_text(key),
                lambda key=key: store.export_to_directory(key, tmp_path / "out"),
                lambda key=key: list(store.read_ranges(key, [(0, 1)])),
                lambda key=key: store.stage_local_copy(key).__enter__(),
            ):
                with pytest.raises(FileNotFoundError):
                    use()

    def test_deleting_happens_once(self, store: ArtifactStore) -> None:
        store.write_text("a/b/c", "x")
        store.write_text("a/d", "y")
        assert store.delete("a/b/c") is True
        assert store.delete("a/b/c") is False
        assert not store.exists("a/b/c")
        assert store.read_text("a/d") == "y"

    def test_a_folder_is_no_artifact(self, store: ArtifactStore, tmp_path: Path) -> None:
        store.write_text("a/b", "x")
        assert store.exists("a") is False
        with pytest.raises(IsADirectoryError):
            store.delete("a")
        with pytest.raises(IsADirectoryError):
            store.read_text("a")
        with pytest.raises(IsADirectoryError):
            store.export_to_directory("a", tmp_path / "out")
        assert store.read_text("a/b") == "x"

    def test_a_staged_copy_has_the_content_and_the_base_name(self, store: ArtifactStore) -> None:
        store.write_text("run/batch_1.jsonl", "line\n")
        with store.stage_local_copy("run/batch_1.jsonl") as path:
            assert path.name == "batch_1.jsonl"
            assert path.read_bytes() == b"line\n"
            assert path.is_absolute()
        assert store.read_text("run/batch_1.jsonl") == "line\n"

    def test_an_export_mirrors_the_key(self, store: ArtifactStore, tmp_path: Path) -> None:
        store.write_text("run/requests/b.jsonl", "line\r\n")
        path = store.export_to_directory("run/requests/b.jsonl", tmp_path / "out")
        assert path == tmp_path / "out" / "run" / "requests" / "b.jsonl"
        assert path.read_bytes() == b"line\r\n"
        assert store.export_to_directory("run/requests/b.jsonl", str(tmp_path / "out")) == path

    def test_any_bytes_can_be_written_piece_by_piece(self, store: ArtifactStore) -> None:
        with store.open_writer("run/raw") as file:
            file.write(bytes(range(256)))
            file.write(b"\xff" * 1000)
        with store.stage_local_copy("run/raw") as path:
            assert path.read_bytes() == bytes(range(256)) + b"\xff" * 1000

    def test_a_writer_that_fails_leaves_nothing(self, store: ArtifactStore, tmp_path: Path) -> None:
        for error in (ZeroDivisionError, KeyboardInterrupt, GeneratorExit):
            with pytest.raises(error):
                write_half(store, "new/deep/key", error)
            assert not store.exists("new/deep/key")
        assert not any("new" in name or TEMPORARY_PREFIX in name for name in files_below(tmp_path))

    def test_a_writer_that_fails_leaves_what_was_there(self, store: ArtifactStore) -> None:
        store.write_text("a", "before")
        with pytest.raises(ZeroDivisionError):
            write_half(store, "a", ZeroDivisionError)
        assert store.read_text("a") == "before"

    def test_a_writers_artifact_appears_when_it_is_whole(self, store: ArtifactStore) -> None:
        with store.open_writer("a/b") as file:
            file.write(b"text")
            file.flush()
            assert not store.exists("a/b")
        assert store.read_text("a/b") == "text"

    def test_a_local_file_is_taken_over(self, store: ArtifactStore, tmp_path: Path) -> None:
        path = tmp_path / "download"
        path.write_bytes(b"\xff\xfe\r\n")
        store.put_file("run/output.jsonl", path)
        with store.stage_local_copy("run/output.jsonl") as staged:
            assert staged.read_bytes() == b"\xff\xfe\r\n"

    def test_ranges_come_in_the_given_order(self, store: ArtifactStore) -> None:
        store.write_text("a", "0123456789")
        assert list(store.read_ranges("a", [(7, 2), (0, 3), (3, 0), (0, 10)])) == [
            b"78",
            b"012",
            b"",
            b"0123456789",
        ]

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)
    @given(
        ranges=st.lists(st.tuples(st.integers(0, 60_000), st.integers(0, 20_000)), max_size=6),
        neighbours=st.lists(st.integers(0, 300), max_size=50),
    )
    def test_any_ranges_are_slices(
        self, store: ArtifactStore, ranges: list[tuple[int, int]], neighbours: list[int]
    ) -> None:
        content = bytes(number % 251 for number in range(80_000))
        with store.open_writer("a") as file:
            file.write(content)
        ends = list(accumulate(neighbours))
        ranges += [(end - length, length) for end, length in zip(ends, neighbours, strict=True)]
        assert list(store.read_ranges("a", ranges)) == [
            content[offset : offset + length] for offset, length in ranges
        ]

    def test_ranges_before_one_beyond_the_end_are_given_out(self, store: ArtifactStore) -> None:
        store.write_text("a", "0123456789")
        found = store.read_ranges("a", [(0, 3), (3, 3), (6, 5)])
        assert [next(found), next(found)] == [b"012", b"345"]
        with pytest.raises(StorageError):
            next(found)

    def test_a_range_beyond_the_end_is_an_error(self, store: ArtifactStore) -> None:
        store.write_text("a", "0123456789")
        with pytest.raises(StorageError, match=r"a ends before byte 11"):
            list(store.read_ranges("a", [(0, 3), (8, 3)]))

    def test_sweeping_leaves_whole_artifacts_alone(self, store: ArtifactStore) -> None:
        store.write_text("run/a", "x")
        for prefix in ("", "run", "run/", "absent"):
            store.sweep(prefix)
        assert store.read_text("run/a") == "x"


HOSTILE_KEYS = [
    *("", ".", "..", "/", "//", "/etc/passwd", "//etc/passwd", "../x", "../../etc/passwd", "a/..", "a/../b"),
    *(
        "a/../../b",
        "a/../../../etc/passwd",
        "./a",
        "a/.",
        "a/./b",
        "a//b",
        "a/",
        "/a",
        "a/b/",
        "..//",
        "a/b/../../..",
    ),
    *(
        "\\",
        "a\\b",
        "..\\x",
        "a/..\\..\\x",
        "\\\\server\\share",
        "C:",
        "C:\\x",
        "C:/x",
        "c:x",
        "file:///etc/passwd",
    ),
    *(
        "s3://bucket/key",
        "http://x/y",
        "a\x00b",
        "\x00",
        "a/\x00",
        "a\nb",
        "a\rb",
        "a\tb",
        "\x01",
        "a/\x1b[31m",
        "\x7f",
    ),
    *(
        "a/b\x1f",
        "a" * 256,
        "a/" + "b" * 256,
        "é" * 128,
        "a/" + "😀" * 64,
        "\ud800",
        "a/\udfff",
        "a/\udcff/b",
        "../" * 50,
    ),
    *(
        "a/" * 50,
        "/" * 50,
        "..",
        "a/.. ",
        "... /..",
        "..;/../x",
        "%2e%2e/../x",
        "~/../x",
        "a/..\x00/b",
        "....//..//x",
    ),
    *(TEMPORARY_PREFIX, TEMPORARY_PREFIX + "x", f"a/{TEMPORARY_PREFIX}1", f"{TEMPORARY_PREFIX}/a"),
    *(None, 3, b"a", ["a"], Path("a")),
]
HOSTILE_KEYS.remove("a/.. ")  # two dots and a space are an ordinary name on POSIX

METHODS: dict[str, Callable[[ArtifactStore, Any, Path], object]] = {
    "write_text": lambda store, key, out: store.write_text(key, "x"),
    "read_text": lambda store, key, out: store.read_text(key),
    "delete": lambda store, key, out: store.delete(key),
    "stage_local_copy": lambda store, key, out: store.stage_local_copy(key).__enter__(),
    "export_to_directory": lambda store, key, out: store.export_to_directory(key, out / "export"),
    "open_writer": lambda store, key, out: store.open_writer(key).__enter__(),
    "put_file": lambda store, key, out: store.put_file(key, out / "file"),
    "exists": lambda store, key, out: store.exists(key),
    "read_ranges": lambda store, key, out: list(store.read_ranges(key, [(0, 1)])),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["local", "memory"])
class TestHostileKeys:
    def test_there_are_enough_of_them(self, method: str, kind: str) -> None:
        assert len(HOSTILE_KEYS) >= 60

    def test_each_is_refused_and_touches_nothing(self, method: str, kind: str, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"x")
        made: ArtifactStore = (
            LocalArtifactStore(tmp_path / "inner" / "artifacts")
            if kind == "local"
            else ObjectStoreArtifactStore(f"memory://bucket-{uuid.uuid4().hex}")
        )
        before = files_below(tmp_path)
        for key in HOSTILE_KEYS:
            with pytest.raises(ValueError, match="artifact key"):
                METHODS[method](made, key, tmp_path)
        assert files_below(tmp_path) == before


@pytest.mark.parametrize(
    "key",
    [
        "a",
        "...",
        "a/.. ",
        "..a",
        "a..",
        "~",
        "-rf",
        " ",
        "a b/c",
        "é" * 127,
        "a" * 255,
        "a/b:c",
        "%2e%2e",
        "$HOME",
        "*",
    ],
)
def test_odd_but_harmless_keys_work(key: str, store: ArtifactStore, tmp_path: Path) -> None:
    store.write_text(key, "x")
    assert store.read_text(key) == "x"
    assert store.export_to_directory(key, tmp_path / "out").read_text() == "x"
    assert store.delete(key)


class TestLinks:
    """A link that somebody planted leads nowhere, wherever it is."""

    @pytest.fixture
    def outside(self, tmp_path: Path) -> Path:
        folder = tmp_path / "outside"
        folder.mkdir()
        (folder / "secret").write_text("secret")
        return folder

    @pytest.mark.parametrize("method", METHODS)
    def test_a_linked_parent_is_refused(
        self, method: str, local: LocalArtifactStore, outside: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "file").write_bytes(b"x")
        (local.root / "run").symlink_to(outside)
        for key in ("run/secret", "run/new", "run/deeper/new"):
            with pytest.raises(InvalidInputError, match="symbolic link"):
                METHODS[method](local, key, tmp_path)
        assert files_below(outside) == ["secret"]
        assert (outside / "secret").read_text() == "secret"

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("target", ["secret", "absent"])
    def test_a_linked_leaf_is_refused(
        self, method: str, target: str, local: LocalArtifactStore, outside: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "file").write_bytes(b"x")
        (local.root / "leaf").symlink_to(outside / target)
        with pytest.raises(InvalidInputError, match="symbolic link"):
            METHODS[method](local, "leaf", tmp_path)
        assert files_below(outside) == ["secret"]
        assert (outside / "secret").read_text() == "secret"

    @pytest.mark.parametrize("method", METHODS)
    def test_a_root_that_became_a_link_is_refused(
        self, method: str, local: LocalArtifactStore, outside: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "file").write_bytes(b"x")
        local.root.rmdir()
        local.root.symlink_to(outside)
        with pytest.raises(InvalidInputError, match="symbolic link"):
            METHODS[method](local, "secret", tmp_path)
        assert (outside / "secret").read_text() == "secret"

    def test_a_root_given_as_a_link_is_the_folder_it_leads_to(self, outside: Path, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(outside)
        assert LocalArtifactStore(tmp_path / "link").root == outside.resolve()

    def test_resolving_a_path_refuses_links(self, local: LocalArtifactStore, outside: Path) -> None:
        (local.root / "run").symlink_to(outside)
        (local.root / "leaf").symlink_to(outside / "secret")
        for key in ("run/secret", "leaf"):
            with pytest.raises(InvalidInputError, match="symbolic link"):
                local.resolve_path(key)

    def test_links_in_an_export_destination_are_refused(
        self, store: ArtifactStore, outside: Path, tmp_path: Path
    ) -> None:
        if isinstance(store, TextStore):  # its export is the test's own
            return
        out = tmp_path / "out"
        out.mkdir()
        (out / "run").symlink_to(outside)
        (out / "secret").symlink_to(outside / "secret")
        store.write_text("run/secret", "x")
        store.write_text("secret", "x")
        for key in ("run/secret", "secret"):
            with pytest.raises(InvalidInputError, match="symbolic link"):
                store.export_to_directory(key, out)
        assert (outside / "secret").read_text() == "secret"

    def test_a_link_is_not_taken_over(self, store: ArtifactStore, outside: Path, tmp_path: Path) -> None:
        if isinstance(store, TextStore):
            return
        (tmp_path / "link").symlink_to(outside / "secret")
        with pytest.raises((InvalidInputError, OSError)):
            store.put_file("a", tmp_path / "link")
        assert not store.exists("a")

    def test_sweeping_follows_no_link(self, local: LocalArtifactStore, outside: Path) -> None:
        (outside / f"{TEMPORARY_PREFIX}1").touch()
        (local.root / "run").symlink_to(outside)
        local.sweep("")
        assert f"{TEMPORARY_PREFIX}1" in files_below(outside)

    def test_a_pipe_is_no_artifact_and_hangs_nobody(self, local: LocalArtifactStore) -> None:
        os.mkfifo(local.root / "pipe")
        for use in (local.read_text, local.delete, lambda key: local.write_text(key, "x")):
            with pytest.raises(InvalidInputError, match="not a regular file"):
                use("pipe")
        assert local.exists("pipe") is False


class TestLocal:
    @pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o277])
    def test_modes_do_not_depend_on_the_umask(self, umask: int, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"x")
        (tmp_path / "file").chmod(0o666)
        before = os.umask(umask)
        try:
            local = LocalArtifactStore(tmp_path / "artifacts")
            local.write_text("a/b/text", "x")
            local.put_file("a/c/taken", tmp_path / "file")
            local.export_to_directory("a/b/text", tmp_path / "out")
        finally:
            os.umask(before)
        for root in (tmp_path / "artifacts", tmp_path / "out"):
            for path in (root, *root.rglob("*")):
                expected = 0o700 if path.is_dir() else 0o600
                assert stat.S_IMODE(path.stat().st_mode) == expected, path

    def test_the_root_is_absolute_and_its_user_expanded(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.chdir(tmp_path)
        assert LocalArtifactStore("~/here").root == (tmp_path / "here").resolve()
        assert LocalArtifactStore("there").root == (tmp_path / "there").resolve()
        assert LocalArtifactStore("there").resolve_path("a/b") == (tmp_path / "there" / "a" / "b").resolve()

    def test_a_root_that_is_a_file_is_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        for root in (tmp_path / "file", tmp_path / "file" / "below"):
            with pytest.raises(StorageError, match="can't be used as a folder"):
                LocalArtifactStore(root)

    def test_an_existing_root_keeps_its_mode(self, tmp_path: Path) -> None:
        (tmp_path / "shared").mkdir()
        (tmp_path / "shared").chmod(0o750)
        LocalArtifactStore(tmp_path / "shared")
        assert stat.S_IMODE((tmp_path / "shared").stat().st_mode) == 0o750

    def test_deleting_removes_folders_that_it_leaves_empty(self, local: LocalArtifactStore) -> None:
        local.write_text("a/b/c/d", "x")
        local.write_text("a/e", "x")
        local.delete("a/b/c/d")
        assert files_below(local.root) == ["a", "a/e"]
        local.delete("a/e")
        assert files_below(local.root) == []
        assert local.root.is_dir()

    def test_a_removed_root_is_made_again(self, local: LocalArtifactStore) -> None:
        local.root.rmdir()
        assert local.exists("a/b") is False
        assert local.delete("a/b") is False
        local.write_text("a/b", "x")
        assert local.read_text("a/b") == "x"
        assert stat.S_IMODE(local.root.stat().st_mode) == 0o700

    def test_nothing_can_be_below_an_artifact(self, local: LocalArtifactStore) -> None:
        local.write_text("a", "x")
        assert local.exists("a/b") is False
        with pytest.raises(FileNotFoundError):
            local.read_text("a/b")
        with pytest.raises(NotADirectoryError):
            local.write_text("a/b", "x")
        local.write_text("c/d", "x")
        with pytest.raises(IsADirectoryError):
            local.write_text("c", "x")
        assert files_below(local.root) == ["a", "c", "c/d"]

    def test_staging_copies_nothing(self, local: LocalArtifactStore) -> None:
        local.write_text("a/b", "x")
        with local.stage_local_copy("a/b") as path:
            assert path == local.resolve_path("a/b")

    def test_taking_over_renames_the_file(self, local: LocalArtifactStore, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.write_bytes(b"x")
        inode = path.stat().st_ino
        local.put_file("a/b", path)
        assert not path.exists()
        assert local.resolve_path("a/b").stat().st_ino == inode

    def test_a_file_with_a_second_name_is_copied(self, local: LocalArtifactStore, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.write_text("before")
        (tmp_path / "second").hardlink_to(path)
        local.put_file("a", path)
        (tmp_path / "second").write_text("changed")
        assert local.read_text("a") == "before"

    def test_another_file_system_means_a_copy(
        self, local: LocalArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rename = os.rename

        def across(source: Any, target: Any, **folders: Any) -> None:
            if "src_dir_fd" not in folders:
                raise OSError(18, "Invalid cross-device link")
            rename(source, target, **folders)

        monkeypatch.setattr(os, "rename", across)
        (tmp_path / "file").write_bytes(b"x")
        local.put_file("a/b", tmp_path / "file")
        assert local.read_text("a/b") == "x"

    def test_sweeping_removes_what_a_crash_left(self, local: LocalArtifactStore) -> None:
        local.write_text("run/requests/a", "x")
        local.write_text("other/b", "x")
        for folder in ("run", "run/requests", "other"):
            (local.root / folder / f"{TEMPORARY_PREFIX}0123").write_bytes(b"half")
        local.sweep("run")
        assert files_below(local.root) == [
            "other",
            f"other/{TEMPORARY_PREFIX}0123",
            "other/b",
            "run",
            "run/requests",
            "run/requests/a",
        ]
        local.sweep("")
        assert not any(TEMPORARY_PREFIX in name for name in files_below(local.root))

    def test_a_full_disk_leaves_the_old_artifact(
        self, local: LocalArtifactStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        local.write_text("a/b", "before")

        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", full)
            with pytest.raises(OSError, match="No space left"):
                local.write_text("a/b", "after")
        assert local.read_text("a/b") == "before"
        assert files_below(local.root) == ["a", "a/b"]

    def test_writers_and_deleters_of_one_folder_do_not_disturb_each_other(
        self, local: LocalArtifactStore
    ) -> None:
        failures: list[BaseException] = []

        def churn(name: str) -> None:
            try:
                for _ in range(60):
                    local.write_text(f"shared/deep/{name}", name)
                    assert local.read_text(f"shared/deep/{name}") == name
                    assert local.delete(f"shared/deep/{name}")
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=churn, args=(str(number),)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert files_below(local.root) == []

    def test_no_descriptor_is_left_open(self, local: LocalArtifactStore, tmp_path: Path) -> None:
        def use() -> None:
            local.write_text("a/b/c", "x")
            local.read_text("a/b/c")
            list(local.read_ranges("a/b/c", [(0, 1)]))
            local.export_to_directory("a/b/c", tmp_path / "out")
            local.exists("a/b/absent")
            local.delete("a/b/c")
            with pytest.raises(ValueError, match="artifact key"):
                local.delete("..")

        use()
        before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0  # noqa: PTH112, PTH208
        for _ in range(5):
            use()
        after = len(os.listdir("/proc/self/fd")) if before else 0  # noqa: PTH208
        assert after <= before


class TestObjectStore:
    def test_a_missing_package_names_the_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(__import__("sys").modules, "fsspec", None)
        with pytest.raises(ImportError, match=r"batchor-core\[object-store\]"):
            ObjectStoreArtifactStore("memory://bucket")

    def test_a_missing_protocol_package_names_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(__import__("sys").modules, "s3fs", None)
        monkeypatch.delitem(_registry, "s3", raising=False)  # there once a test has used it
        with pytest.raises(ImportError, match="s3fs for s3://"):
            ObjectStoreArtifactStore("s3://bucket/prefix")

    def test_an_unknown_protocol_lists_the_known_ones(self) -> None:
        with pytest.raises(InvalidInputError, match=r"Known protocols: .*memory"):
            ObjectStoreArtifactStore("nonsense://bucket")

    def test_secrets_are_not_shown(self) -> None:
        made = ObjectStoreArtifactStore("memory://bucket", secret="hidden-value")
        assert "hidden-value" not in repr(made)
        assert "hidden-value" not in str(vars(made).get("url"))

    def test_a_failed_upload_to_a_folder_leaves_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = ObjectStoreArtifactStore(f"file://{tmp_path}/artifacts")
        made.write_text("a", "before")

        def cut(path: str, data: bytes) -> None:
            Path(path).write_bytes(data[:2])
            raise ConnectionError

        monkeypatch.setattr(made._files, "pipe_file", cut)
        with pytest.raises(ConnectionError):
            made.write_text("a", "after")
        assert made.read_text("a") == "before"
        assert files_below(tmp_path / "artifacts") == ["a"]

    def test_sweeping_removes_unfinished_uploads(self, tmp_path: Path) -> None:
        made = ObjectStoreArtifactStore(f"file://{tmp_path}/artifacts")
        made.write_text("run/a", "x")
        (tmp_path / "artifacts" / "run" / f"{TEMPORARY_PREFIX}1").write_bytes(b"half")
        made.sweep("run")
        assert files_below(tmp_path / "artifacts") == ["run", "run/a"]

    def test_two_stores_of_one_url_see_each_other(self) -> None:
        url = f"memory://bucket-{uuid.uuid4().hex}/prefix"
        writer, reader = ObjectStoreArtifactStore(url), ObjectStoreArtifactStore(url + "/")
        assert not reader.exists("a/b")
        writer.write_text("a/b", "x")
        assert reader.read_text("a/b") == "x"
