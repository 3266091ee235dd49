"""A reader who types what a page shows, in the page's order, in an empty folder with an empty home."""

from __future__ import annotations

import contextlib
import importlib
import io
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.testing import CliRunner

from batchor_core import BatchItem, BatchJob, BatchRunner, OpenAIProviderConfig, Run, SQLiteStorage
from batchor_core.cli.app import app
from batchor_core.testing.openai_server import OpenAIServer

ROOT = Path(__file__).parents[2]
SHELLS = ("sh", "console")
ENDLESS = (
    "batchor serve",
    "batchor watch",
    "dagster dev",
    "dg dev",
    "python -m batchor_core.testing.openai_server",
    "LIVE=1 python -m batchor_core.testing.live",
)
"""Commands that run until Ctrl-C; the reader's own server stands in for them."""
SHOWN = ("", "csv", "jinja", "mermaid", "text")  # files to save, and what programs print
_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)$")
_APART: dict[str, Any] = {"mix_stderr": False} if "mix_stderr" in signature(CliRunner).parameters else {}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        language: The word after the fence.
        line: The first line of its code, counted from 1.
        code: The code without the page's indentation.
        begins: Whether a note before it begins a new program.
    """

    language: str
    line: int
    code: str
    begins: bool = False


def blocks(text: str) -> Iterator[Block]:
    """The blocks of a page, in its order."""
    opened: tuple[str, str, int] | None = None
    code: list[str] = []
    begins = False
    for number, line in enumerate(text.split("\n"), 1):
        fence = _FENCE.match(line)
        if opened is not None and line.strip() == "```":
            language, _, first = opened
            yield Block(language, first, "".join(code), begins)
            opened, code, begins = None, [], False
        elif opened is not None:
            code.append(line.removeprefix(opened[1]) + "\n")
        elif fence:
            opened = (fence["language"], fence["indent"], number + 1)
        elif line.strip() == "<!-- python: new program -->":
            begins = True


def commands(block: Block) -> Iterator[str]:
    """The commands of a block of a shell. A console's other lines are what it prints."""
    for line in block.code.replace("\\\n", "").split("\n"):
        if block.language == "console" and not line.startswith("$ "):
            continue
        command = line.removeprefix("$ ").strip()
        if command and not command.startswith("#"):
            yield command


@dataclass
class Reader:
    """Types one page.

    Attributes:
        page: The page, from the repository's root.
        folder: The working directory, which is the home too.
        server: Answers in OpenAI's place.
        untyped: Parts of the blocks and commands to leave out.
        typed: What was typed so far: code, or a command.
        left: What was left out, and blocks of other languages that nobody has taken as :meth:`code`.
        here: Variables of the environment whose values on the page name servers that are not here.
        programs: What each of the page's programs has defined.
        printed: What the page's Python has printed.
    """

    page: str
    folder: Path
    server: OpenAIServer
    patch: pytest.MonkeyPatch
    untyped: tuple[str, ...] = ()
    typed: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    here: dict[str, str] = field(default_factory=dict)
    programs: list[dict[str, Any]] = field(default_factory=list)
    printed: str = ""
    _runners: set[BatchRunner] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.here = {"OPENAI_BASE_URL": self.server.base_url}
        self.patch.chdir(self.folder)
        self.patch.syspath_prepend(str(self.folder))
        self.patch.setenv("HOME", str(self.folder))
        self.patch.setenv("OPENAI_API_KEY", "any")
        self.patch.setenv("OPENAI_BASE_URL", self.server.base_url)

    @property
    def names(self) -> dict[str, Any]:
        """What the last program has defined."""
        return self.programs[-1]

    @property
    def blocks(self) -> list[Block]:
        return list(blocks((ROOT / self.page).read_text(encoding="utf-8")))

    def code(self, language: str) -> list[str]:
        """The blocks of a language that is no program; the caller uses them."""
        found = [block.code for block in self.blocks if block.language == language]
        self.typed += found
        return found

    def read(self, **given: object) -> None:
        """Type the page; ``given`` are names that it takes for granted."""
        self._begin(given)
        try:
            for block in self.blocks:
                if block.language in SHELLS:
                    for command in commands(block):
                        self._type(command)
                elif block.language == "python":
                    if block.begins:
                        self._begin(given)
                    self._execute(block)
                elif block.language not in SHOWN and block.code not in self.typed:
                    self.left.append(block.code)
        finally:
            self.close()

    def leave(self) -> None:
        """Close what is open, and forget the modules of the folder."""
        self.close()
        for name, module in list(sys.modules.items()):
            if Path(getattr(module, "__file__", None) or "/").is_relative_to(self.folder):
                del sys.modules[name]

    def close(self) -> None:
        """Close the runners that the program has left open."""
        while self._runners:
            runner = self._runners.pop()
            runner.close()
            runner.storage.close()

    def _begin(self, given: dict[str, Any]) -> None:
        self.close()
        module = ModuleType("page")
        self.patch.setitem(sys.modules, "page", module)  # where a class of the page is imported from
        self.programs.append(module.__dict__)
        self.names.update(given)

    def _execute(self, block: Block) -> None:
        if any(part in block.code for part in self.untyped):
            self.left.append(block.code)
            return
        self.typed.append(block.code)
        code = "\n" * (block.line - 1) + block.code  # a traceback shows the page's lines
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(compile(code, str(ROOT / self.page), "exec", dont_inherit=True), self.names)
        self.printed += out.getvalue()
        self._runners |= {value for value in self.names.values() if isinstance(value, BatchRunner)}

    def _type(self, command: str) -> None:
        program, *arguments = shlex.split(command, comments=True)
        if program == "pip" or command.startswith(ENDLESS):
            return  # test_install_lines types the former
        if any(part in command for part in self.untyped):
            self.left.append(command)
            return
        self.typed.append(command)
        if program == "export":
            for name, _, value in (argument.partition("=") for argument in arguments):
                self.patch.setenv(name, self.here.get(name, value))
            return
        assert program == "batchor", f"the reader can't type {command}"
        plain = {"NO_COLOR": "1", "TERM": "dumb"}
        done = CliRunner(**_APART).invoke(app, arguments, input="y\n", env=plain)
        assert done.exit_code == 0, f"{command}: {done.output}{done.exception!r}"

    # --- what pages take for granted ---------------------------------------------------------------------------------

    def save(self, name: str, content: str, *, encoding: str = "utf-8") -> None:
        """Save a file in the folder; Python in it can be imported."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding=encoding)
        importlib.invalidate_caches()

    def ran(self, run_id: str, *, path: str | None = None, finished: bool = True, **job: Any) -> None:
        """Have run a job of two rows.

        Args:
            run_id: The run's id.
            path: The database; the default one if left out.
            finished: Whether to wait for it.
            job: Fields of the job besides its rows, prompt and config.
        """
        settings: dict[str, Any] = {
            "items": [BatchItem("a", "It pours well."), BatchItem("b", "It leaks.")],
            "build_prompt": lambda item: f"Judge this: {item.payload}",
            "provider_config": OpenAIProviderConfig(model="gpt-5-mini", poll_interval_sec=0.0),
        }
        with BatchRunner(storage=SQLiteStorage(path=path) if path else None) as runner:
            run: Run[Any] = runner.start(BatchJob(**(settings | job)), run_id=run_id)
            if finished:
                run.wait()
