"""Type-checks what users copy: the Python of README.md and docs, and the examples. Part of ``make check``.

``mypy --strict`` as a user has it: without this project's settings and without Pydantic's plugin. The blocks of a page are one
program, in their order; ``<!-- python: new program -->`` before a block begins another one, and ``<!-- python: given NAME: TYPE -->``
says what a fragment takes for granted, on the line before its block. Modules that the pages import of a user's own project are in
``modules``. Nothing is passed over.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
MODULES = Path(__file__).with_name("modules")
EXAMPLES = ROOT / "examples"
SETTINGS = """[mypy]
strict = True

[mypy-pyarrow.*]
ignore_missing_imports = True

[mypy-pandas.*]
ignore_missing_imports = True
"""  # those two ship no types, whatever we do

_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)")
_NOTE = re.compile(r"^ *<!-- python: (?P<note>.+?) -->$")
_GIVEN = re.compile(r"given (?P<names>.+)")


@dataclass
class Program:
    """The blocks of a page that belong together, each on the lines it has in the page.

    Attributes:
        page: The page.
        lines: As many as the page has, those that are no Python empty.
    """

    page: Path
    lines: list[str] = field(default_factory=list)
    is_empty: bool = True

    @property
    def text(self) -> str:
        return "\n".join(self.lines) + "\n"


def pages() -> list[Path]:
    """README.md and all of docs."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]


def programs(page: Path, text: str) -> list[Program]:
    """The programs of a page.

    Raises:
        ValueError: A note or a fence is not understood.
    """
    found = [Program(page)]
    fence: str | None = None
    language = ""
    for number, line in enumerate(text.split("\n"), 1):
        taken = ""
        note, opening = _NOTE.match(line), _FENCE.match(line)
        if fence is not None and line.strip() == "```":
            fence = None
        elif fence is not None:
            taken = line.removeprefix(fence) if language == "python" else ""
        elif opening:
            fence, language = opening["indent"], opening["language"]
            if language.startswith("py") and language != "python":
                raise ValueError(
                    f"{page.name}:{number}: a block of Python is fenced as python, not as {language}"
                )
        elif note and note["note"] == "new program":
            found.append(Program(page, [""] * (number - 1)))
        elif note:
            taken = _given(note["note"], f"{page.name}:{number}")
        found[-1].lines.append(taken)
        found[-1].is_empty &= not taken
    return [program for program in found if not program.is_empty]


def _given(note: str, where: str) -> str:
    """The names that a fragment takes for granted, as declarations on one line; ``import`` statements are taken as they are."""
    given = _GIVEN.fullmatch(note)
    if given is None:
        raise ValueError(f"{where}: {note!r} is neither 'new program' nor 'given NAME: TYPE'")
    return given["names"]


def written(found: Iterable[Program], folder: Path) -> Iterator[tuple[Path, Program]]:
    """Write programs as modules."""
    for number, program in enumerate(found):
        path = folder / f"page_{number:02}.py"
        path.write_text(program.text, encoding="utf-8")
        yield path, program


def examples() -> tuple[list[Path], list[Path]]:
    """Those that are modules of ``examples``, and the scripts, which import what lies beside them."""
    modules, scripts = [EXAMPLES / "dagster_project"], list[Path]()
    for path in sorted(EXAMPLES.glob("*.py")):
        is_script = "import _arguments" in path.read_text(encoding="utf-8")
        (scripts if is_script or path.name == "_arguments.py" else modules).append(path)
    return modules, scripts


def check(found: Iterable[Program], files: Iterable[Path] = (), *, path: Path = MODULES) -> list[str]:
    """What mypy finds wrong in programs, by their pages' lines, and in files; ``path`` is where they import from."""
    with tempfile.TemporaryDirectory(prefix="snippets-") as temporary:
        folder = Path(temporary)
        (folder / "mypy.ini").write_text(SETTINGS, encoding="utf-8")
        modules = dict(written(found, folder))
        command: list[str | Path] = [
            *(sys.executable, "-m", "mypy", "--config-file", folder / "mypy.ini", "--no-error-summary"),
            *("--cache-dir", ROOT / ".mypy_cache" / "snippets", "--explicit-package-bases"),
            *modules,
            *files,
        ]
        environment = os.environ | {"MYPYPATH": f"{path}:{ROOT}"}
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
        said = done.stdout
        for module, program in modules.items():
            shown = program.page.relative_to(ROOT) if program.page.is_relative_to(ROOT) else program.page
            said = said.replace(str(module), str(shown))
        if done.returncode not in (0, 1) or done.stderr:
            raise RuntimeError(f"mypy itself failed: {said}{done.stderr}")
        return [line for line in said.split("\n") if line]


def main() -> None:
    found = [program for page in pages() for program in programs(page, page.read_text(encoding="utf-8"))]
    modules, scripts = examples()
    wrong = check(found, modules) + check([], scripts, path=EXAMPLES)
    print("\n".join(wrong), end="\n" if wrong else "")
    if wrong:
        sys.exit(1)
    print(
        f"{len(found)} programs of {len({program.page for program in found})} pages and the examples: no type errors"
    )


if __name__ == "__main__":
    main()
