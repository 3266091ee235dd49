"""Every transaction, artifact operation and call of a provider has a name at which the crash tests can kill."""

from __future__ import annotations

import ast
import inspect
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from batchor_core.artifacts.at_boundaries import ArtifactsAtBoundaries
from batchor_core.artifacts.base import ArtifactStore
from batchor_core.core import boundaries
from batchor_core.core.boundaries import Boundary, When
from batchor_core.core.enums import RunLifecycleStatus
from batchor_core.core.exceptions import ProviderError
from batchor_core.providers.api import BatchApi
from batchor_core.providers.at_boundaries import ApiAtBoundaries
from batchor_core.runtime import collect
from batchor_core.runtime.engine import RunProvider
from batchor_core.testing.fake_config import FakeProviderConfig
from batchor_core.testing.fake_provider import FakeProvider
from batchor_core.testing.kill import Kill
from tests.support.world import World, text_job

PACKAGE = Path(boundaries.__file__).parents[1]

# the wrappers of transactions, which take the boundary's name first; nothing else may begin one
TRANSACTIONS = ("write", "_write", "_run", "_locked", "_change_submission")
BEGINNERS = {"begin", "begin_nested", "connect", "raw_connection", "begin_twophase"}
HOME_OF_BEGIN = "storage/sql_engine.py"

READING_ARTIFACTS = {"read_text", "stage_local_copy", "exists", "read_ranges"}
PURE_API = {
    *(
        "request_line",
        "custom_id_of",
        "estimate_tokens",
        "unbilled_tokens",
        "read",
        "read_line",
        "continued_line",
        "with_cache_key",
        "read_body",
        "read_calls",
        "read_files",
        "is_failure",
    ),
    *("key_fingerprint", "earlier_fingerprints", "enqueue_budget", "clock_offset", "close"),
}


def complaints(source: str, name: str) -> list[str]:
    """What passes no named boundary in a module of ``storage`` or ``runtime``."""
    found = []
    tree = ast.parse(source)
    inside = {id(node) for block in _named_blocks(tree) for node in ast.walk(block)}
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        if not isinstance(call.func, ast.Attribute):
            continue
        method, where = call.func.attr, f"{name}:{call.lineno}"
        if method in BEGINNERS and name != HOME_OF_BEGIN:
            found.append(f"{where} begins a transaction by itself")
        if (
            method in TRANSACTIONS
            and _is_store(call.func.value)
            and not (call.args and _is_name(call.args[0]))
        ):
            found.append(f"{where} has a transaction without a name")
        if method == "rename" and name.startswith("runtime/") and id(call) not in inside:
            found.append(f"{where} renames a file outside of a boundary")
    return found


def _named_blocks(tree: ast.AST) -> Iterator[ast.With]:
    for node in ast.walk(tree):
        if isinstance(node, ast.With):
            calls = [item.context_expr for item in node.items if isinstance(item.context_expr, ast.Call)]
            if any(isinstance(call.func, ast.Name) and call.func.id == "at" for call in calls):
                yield node


def _is_store(value: ast.expr) -> bool:
    """``self`` or a database: files have a ``write`` as well."""
    if isinstance(value, ast.Name):
        return value.id in ("self", "database")
    return isinstance(value, ast.Attribute) and value.attr in ("database", "_database")


def _is_name(argument: ast.expr) -> bool:
    is_member = (
        isinstance(argument, ast.Attribute)
        and isinstance(argument.value, ast.Name)
        and argument.value.id == "Boundary"
    )
    return is_member or (isinstance(argument, ast.Name) and argument.id == "name")


def modules() -> list[Path]:
    return [
        path
        for folder in ("storage", "runtime", "artifacts", "providers", "tables")
        for path in sorted((PACKAGE / folder).rglob("*.py"))
        if "versions" not in path.parts
    ]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_passes_unnamed(path: Path) -> None:
    assert complaints(path.read_text(), str(path.relative_to(PACKAGE))) == []


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("with self._run() as run: pass", "transaction without a name"),
        ("with self._locked(run_id) as run: pass", "transaction without a name"),
        ("with self.database.write() as connection: pass", "transaction without a name"),
        ("with self._database.write('claim') as connection: pass", "transaction without a name"),
        ("with self.engine.begin() as connection: pass", "begins a transaction by itself"),
        ("connection = self.engine.connect()", "begins a transaction by itself"),
        ("bundle.rename(old)", "renames a file outside"),
    ],
)
def test_the_check_sees_what_is_unnamed(source: str, complaint: str) -> None:
    (found,) = complaints(source, "runtime/new.py")
    assert complaint in found


@pytest.mark.parametrize(
    "source",
    [
        "with self._run(Boundary.CLAIM) as run: pass",
        "with self._database.write(name) as connection: pass",
        "with at(Boundary.PLACE_BUNDLE):\n    building.rename(bundle)",
        "file.write(block)",
    ],
)
def test_the_check_lets_named_things_pass(source: str) -> None:
    assert complaints(source, "runtime/new.py") == []


def test_every_name_is_passed_somewhere() -> None:
    integration = sorted(PACKAGE.with_name("batchor_dagster").rglob("*.py"))
    used = "\n".join(path.read_text() for path in [*modules(), *integration])
    assert [name for name in Boundary if f"Boundary.{name.name}" not in used] == []


def _public(kind: type) -> set[str]:
    return {name for name, member in vars(kind).items() if inspect.isfunction(member) and name[0] != "_"}


@pytest.mark.parametrize(
    ("wrapper", "wrapped", "harmless"),
    [
        (ArtifactsAtBoundaries, ArtifactStore, READING_ARTIFACTS),
        (ApiAtBoundaries, BatchApi, PURE_API),
    ],
)
def test_wrappers_name_every_operation_that_has_an_effect(
    wrapper: type, wrapped: type, harmless: set[str]
) -> None:
    assert _public(wrapper) == _public(wrapped)
    named = {name for name in _public(wrapper) if "Boundary." in inspect.getsource(getattr(wrapper, name))}
    assert named == _public(wrapped) - harmless


def test_a_run_has_its_provider_at_boundaries() -> None:
    assert isinstance(RunProvider(FakeProvider, FakeProviderConfig()).get(), ApiAtBoundaries)


@pytest.fixture
def passed() -> Iterator[list[tuple[Boundary, When]]]:
    """Every boundary that is passed, in order."""
    seen: list[tuple[Boundary, When]] = []
    boundaries.install(lambda name, when: seen.append((name, when)))
    yield seen
    boundaries.install(None)


def test_a_batch_is_created_between_its_sending_row_and_its_registration(
    tmp_path: Path, passed: list[tuple[Boundary, When]]
) -> None:
    world = World(tmp_path, kind="sqlite")
    world.start(text_job(3)).wait()
    world.close()
    order: list[tuple[Boundary, When]] = [
        (Boundary.CLAIM, "before"),
        (Boundary.CLAIM, "after"),
        (Boundary.WRITE_ARTIFACT, "before"),
        (Boundary.RENAME_FILE, "before"),
        (Boundary.RENAME_FILE, "after"),
        (Boundary.WRITE_ARTIFACT, "after"),
        (Boundary.UPLOAD_FILE, "before"),
        (Boundary.UPLOAD_FILE, "after"),
        (Boundary.MARK_UPLOADED, "after"),
        (Boundary.MARK_SENDING, "before"),
        (Boundary.MARK_SENDING, "after"),
        (Boundary.CREATE_BATCH, "before"),
        (Boundary.CREATE_BATCH, "after"),
        (Boundary.REGISTER, "before"),
        (Boundary.REGISTER, "after"),
        (Boundary.APPLY_OUTCOME, "before"),
        (Boundary.APPLY_OUTCOME, "after"),
    ]
    wanted = iter(passed)
    assert [step for step in order if step in wanted] == order
    assert passed.count((Boundary.CREATE_BATCH, "before")) == 1


def test_a_submissions_files_go_before_its_row(tmp_path: Path, passed: list[tuple[Boundary, When]]) -> None:
    world = World(tmp_path, kind="sqlite")
    world.provider.fail("create_batch", ProviderError("busy", status_code=429, not_performed=True))
    world.start(text_job(3)).wait()
    world.close()
    order: list[tuple[Boundary, When]] = [
        (Boundary.CREATE_BATCH, "after"),
        (Boundary.DELETE_ARTIFACT, "after"),
        (Boundary.DELETE_FILE, "after"),
        (Boundary.DROP, "before"),
        (Boundary.REGISTER, "after"),
        (Boundary.DELETE_FILE, "after"),
        (Boundary.APPLY_OUTCOME, "before"),
    ]
    wanted = iter(passed)
    assert [step for step in order if step in wanted] == order


@pytest.mark.parametrize("rows", [1, 2, 3, 4])
def test_a_run_never_ends_before_its_last_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, passed: list[tuple[Boundary, When]], rows: int
) -> None:
    monkeypatch.setattr(collect, "CHUNK", 2)
    world = World(tmp_path, kind="sqlite")
    seen: list[tuple[bool, int]] = []

    def look(name: Boundary, when: When) -> None:
        if (name, when) == (Boundary.APPLY_OUTCOME, "after"):
            summary = world.summary()
            seen.append((summary.status is RunLifecycleStatus.RUNNING, summary.active_batches))

    boundaries.install(look)
    world.start(text_job(rows)).wait()
    world.close()
    assert seen == [(True, 1)] * (len(seen) - 1) + [(False, 0)]
    assert len(seen) == -(-rows // 2)


def test_a_transaction_that_fails_never_gets_behind_its_boundary(
    tmp_path: Path, passed: list[tuple[Boundary, When]]
) -> None:
    world = World(tmp_path, kind="sqlite")
    passed.clear()
    with pytest.raises(Exception, match="no-such-run"):
        world.store.clear_request_artifact_pointers(run_id="no-such-run", artifact_paths=[])
    assert passed == []
    world.close()


@pytest.mark.parametrize(
    "spec", ["claim", "nowhere:before", "claim:during", "claim:before:1:2", "claim:after:x"]
)
def test_a_place_that_does_not_exist_is_refused(spec: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Kill(spec)


PASSING = (
    "boundary(Boundary.CLAIM, 'before'); boundary(Boundary.CLAIM, 'after')\n"
    "boundary(Boundary.CLAIM, 'before'); print('reached', flush=True)\n"
    "boundary(Boundary.CLAIM, 'after'); print('survived', flush=True)\n"
)


def _run(script: str, **environment: str) -> tuple[int, str]:
    ended = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Traceback" not in ended.stderr, ended.stderr
    return ended.returncode, ended.stdout


def test_an_installed_switch_kills_where_it_is_told_to() -> None:
    script = (
        "from batchor_core.core.boundaries import Boundary, boundary, install\n"
        "from batchor_core.testing.kill import Kill\n"
        "install(Kill('drop:before,claim:after:2'))\n" + PASSING
    )
    assert _run(script) == (-signal.SIGKILL, "reached\n")


EVERYWHERE = ",".join(f"{name}:{when}" for name in Boundary for when in ("before", "after"))

PRODUCTION = """
import importlib, sys
from pathlib import Path
import batchor_core
home = Path(batchor_core.__file__).parent
for path in sorted(home.rglob("*.py")):
    parts = path.relative_to(home.parent).with_suffix("").parts
    if not {"testing", "__main__", "__init__", "versions"} & set(parts):
        importlib.import_module(".".join(parts))
assert not [name for name in sys.modules if name.startswith("batchor_core.testing")]
from batchor_core import BatchItem, BatchJob, BatchRunner, OpenAIProviderConfig, SQLiteStorage
from batchor_core.core import boundaries
assert boundaries._faults is None
with BatchRunner(storage=SQLiteStorage(path=Path(sys.argv[1]) / "runs.sqlite3")) as runner:
    job = BatchJob(
        items=[BatchItem("one", "text")],
        build_prompt=lambda item: item.payload,
        provider_config=OpenAIProviderConfig(model="gpt-5-nano", api_key="k", base_url="http://127.0.0.1:9/v1"),
    )
    run = runner.start(job, run_id="run")
    run.cancel()
    print(run.refresh().total_items)
"""


@pytest.mark.parametrize("variable", ["BATCHOR_FAULTS", "BATCHOR_TEST_DEATHS", "BATCHOR_KILL"])
def test_no_variable_of_the_environment_can_kill_a_production_process(tmp_path: Path, variable: str) -> None:
    script = PRODUCTION.replace("sys.argv[1]", repr(str(tmp_path)))
    assert _run(script, **{variable: EVERYWHERE}) == (0, "1\n")


READ_FROM_THE_ENVIRONMENT = {
    # settings that users are told of; a new one belongs into the documentation, and a switch for tests nowhere
    "OPENAI_API_KEY",
    "OPENAI_BASE_URL",
    "OPENAI_ORG_ID",
    "OPENAI_PROJECT_ID",
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_BASE_URL",
    "name",  # of providers/gemini/credentials.py: GEMINI_API_KEY, GOOGLE_API_KEY and those of the server's URL
    "self.key_variable",  # of providers/openai/profiles.py: GROQ_API_KEY and its like
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "COLUMNS",  # how wide a terminal is, by POSIX
    "OVERRIDE",  # of storage/sqlite.py: BATCHOR_ALLOW_NETWORK_SQLITE
    "TRUSTED_HOSTS",  # of cli/trust.py: BATCHOR_TRUSTED_HOSTS
}


def _variables(source: str) -> set[str]:
    """What a module takes out of ``os.environ`` by a name; looking through all of it is no switch."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner, arguments = node.func.value, node.args
            reads = node.func.attr == "getenv" or (node.func.attr == "get" and _is_environ(owner))
        elif isinstance(node, ast.Subscript):
            reads, arguments = _is_environ(node.value), [node.slice]
        elif isinstance(node, ast.Compare):
            reads, arguments = _is_environ(node.comparators[0]), [node.left]
        else:
            continue
        if reads and arguments:
            name = arguments[0]
            found.add(str(name.value) if isinstance(name, ast.Constant) else ast.unparse(name))
    return found


def _is_environ(node: ast.expr) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "environ"


def test_production_code_reads_no_variable_but_the_documented_ones() -> None:
    packages = [PACKAGE, PACKAGE.with_name("batchor_dagster")]
    paths = [path for package in packages for path in package.rglob("*.py") if "testing" not in path.parts]
    read = {name for path in paths for name in _variables(path.read_text())}
    assert read == READ_FROM_THE_ENVIRONMENT


def test_the_look_for_variables_sees_each_way_of_reading_one() -> None:
    source = "os.environ['A']; os.environ.get('B'); os.getenv('C'); 'D' in os.environ; os.environ.get(NAME)"
    assert _variables(source) == {"A", "B", "C", "D", "NAME"}
