"""Runs the code of a page of documentation as a reader would: block after block, in one folder, with one set of names.

| a block of | is |
|---|---|
| `python` | run; `await` may stand at the top, as in `python -m asyncio` |
| `sql` | statements, run by the page's `session`; a parameter `$name` is the page's variable of that name |
| `console` | commands after `$ `, each with what it prints; `vexact` is this checkout's, `$VEXACT_HOME` within the folder |
| `bash` | a script, which must succeed |
| `rust` | an excerpt of a file in `examples/` or `tests/integration/`, which the Rust tests compile and run |
| `text`, `output`, `json` | what the block right before it prints; if that fails, its last line is the error |

`...` in an output stands for anything. Lines of `bash` and `console` that begin with `make`, `cargo`, `pip`, `uv` or `git` are not run (they
build), but a target of `make` must be there. A block whose first line says `notest: REASON` after the language is not run either (a
diagram, what needs a server), and a Python one must still be Python. Any other block is an error.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import io
import os
import re
import subprocess
import sys
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
OUTPUTS = ("text", "output", "json")
BUILDS = ("make", "cargo", "pip", "uv", "git")
EXCERPTS = ("examples/*.rs", "tests/integration/*.rs", "tests/integration/**/*.rs")


class PageError(AssertionError):
    """A page that does not do what it says; the message begins with its name and line."""


@dataclass
class Block:
    page: str
    line: int
    """Of the first line of code, from 1."""
    language: str
    reason: str | None
    """Why it is not run."""
    text: str
    output: str | None = None

    def wrong(self, problem: str) -> PageError:
        return PageError(f"{self.page}:{self.line}: {problem}")


def blocks(text: str, page: str) -> list[Block]:
    """The code blocks of a page, each with its output."""
    found: list[Block] = []
    before: Block | None = None
    for token in MarkdownIt().parse(text):
        if token.type != "fence":
            before = None if token.level == 0 else before
            continue
        language, _, note = token.info.strip().partition(" ")
        block = Block(page, token.map[0] + 2, language, None, token.content)
        if language in OUTPUTS and not note:
            if before is None or before.output is not None or before.reason is not None:
                raise block.wrong(f"{language}: expected a block that is run right before it")
            before.output = token.content
            continue
        if note:
            key, _, reason = note.partition(":")
            if key != "notest" or not reason.strip():
                raise block.wrong(f"expected 'notest: REASON' after {language!r}, got {note!r}")
            block.reason = reason.strip()
        elif language not in RUNNERS:
            raise block.wrong(f"expected one of {', '.join((*RUNNERS, *OUTPUTS))}, or 'notest: REASON', got {language!r}")
        found.append(block)
        before = block
    return found


def run(text: str, page: str, folder: Path) -> Counter[str]:
    """Runs a page in a folder; how many blocks of each kind ran, those that are not run as `notest`."""
    ran: Counter[str] = Counter()
    with Reader(folder) as reader:
        for block in blocks(text, page):
            if block.reason is None:
                RUNNERS[block.language](reader, block)
            elif block.language == "python":
                reader.compile(block)
            ran[block.language if block.reason is None else "notest"] += 1
    return ran


class Reader:
    """Somebody at a page: where they are, and the names that they have defined."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: dict[str, Any] = {"__name__": "__main__"}
        self.loop = asyncio.new_event_loop()

    def __enter__(self) -> Reader:
        self.came_from = Path.cwd()
        os.chdir(self.folder)
        return self

    def __exit__(self, *_: object) -> None:
        os.chdir(self.came_from)
        self.loop.close()

    def compile(self, block: Block) -> Any:
        # Empty lines in front, so that tracebacks have the page's line numbers.
        source = "\n" * (block.line - 1) + block.text
        try:
            return compile(source, block.page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        except SyntaxError as error:
            raise block.wrong(f"no Python: {error}") from None

    def python(self, block: Block) -> None:
        code = self.compile(block)

        def call() -> None:
            pending = eval(code, self.names)
            if asyncio.iscoroutine(pending):
                self.loop.run_until_complete(pending)

        self.compare(block, call)

    def sql(self, block: Block) -> None:
        session = self.names.get("session")
        if session is None:
            raise block.wrong("sql: expected a variable 'session' on the page, got none")

        def call() -> None:
            for statement in statements(block.text):
                names = set(re.findall(r"\$([a-z_]+)", statement))
                if missing := names - self.names.keys():
                    raise block.wrong(f"sql: expected variables {sorted(missing)} on the page")
                frame = session.sql(statement, {name: self.names[name] for name in names} or None)
                if len(frame.schema):
                    frame.show()

        self.compare(block, call)

    def compare(self, block: Block, call: Any) -> None:
        printed, failed = io.StringIO(), None
        with contextlib.redirect_stdout(printed):
            try:
                call()
            except PageError:
                raise
            except Exception as error:
                failed = error
                printed.write("".join(traceback.format_exception_only(error)))
        if failed is not None and (block.output is None or not matches(block.output, printed.getvalue())):
            told = "".join(traceback.format_exception(failed))
            raise block.wrong(f"{block.language} failed:\n{printed.getvalue()}\n{told}") from None
        check(block, block.output, printed.getvalue())

    def shell(self, command: str) -> tuple[int, str]:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        done = subprocess.run(
            ["bash", "-ec", command],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8", timeout=300,
            env={**os.environ, "PATH": path, "VEXACT_HOME": str(self.folder / "home")},
        )  # fmt: skip
        return done.returncode, done.stdout

    def bash(self, block: Block) -> None:
        lines = [line for line in block.text.splitlines() if not is_build(block, line)]
        code, printed = self.shell("\n".join(lines))
        if code != 0:
            raise block.wrong(f"bash: exit code {code}:\n{printed}")
        check(block, block.output, printed)

    def console(self, block: Block) -> None:
        for command, expected in commands(block):
            if not is_build(block, command):
                # A failing command is shown with what it prints: that is compared.
                check(block, expected, self.shell(command)[1], f"$ {command}\n")

    def rust(self, block: Block) -> None:
        wanted = dedented(block.text)
        for pattern in EXCERPTS:
            if any(wanted in dedented(path.read_text(encoding="utf-8")) for path in ROOT.glob(pattern)):
                return
        raise block.wrong(f"rust: expected an excerpt of a file of {', '.join(EXCERPTS)}")


RUNNERS = {
    "python": Reader.python,
    "sql": Reader.sql,
    "console": Reader.console,
    "bash": Reader.bash,
    "rust": Reader.rust,
}


def matches(expected: str, got: str) -> bool:
    """Whether the expected text, in which `...` is anything, is what came; the space at the ends of lines aside."""

    def lines(text: str) -> str:
        return "\n".join(line.rstrip() for line in text.strip("\n").splitlines())

    pattern = ".*?".join(re.escape(part) for part in lines(expected).split("..."))
    return re.fullmatch(pattern, lines(got), re.DOTALL) is not None


def check(block: Block, expected: str | None, got: str, what: str = "") -> None:
    if expected is not None and not matches(expected, got):
        raise block.wrong(f"expected the output\n{what}{expected}\ngot\n{got}")


def statements(text: str) -> Iterator[str]:
    """SQL statements, each ended by a semicolon at the end of a line; comments between them are none."""
    for part in re.split(r";[ \t]*(?:--[^\n]*)?(?:\n|$)", text):
        if re.sub(r"--[^\n]*", "", part).strip():
            yield part


def commands(block: Block) -> Iterator[tuple[str, str]]:
    """The commands of a console block with their output."""
    first, *rest = re.split(r"^\$ ", block.text, flags=re.MULTILINE)
    if first.strip() or not rest:
        raise block.wrong("console: expected lines that begin with '$ '")
    for part in rest:
        lines = part.splitlines()
        count = 1 + next((i for i, line in enumerate(lines) if not line.endswith("\\")), len(lines) - 1)
        yield "\n".join(lines[:count]), "\n".join(lines[count:])


def is_build(block: Block, line: str) -> bool:
    word, *arguments = line.split() or [""]
    if word == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        target = arguments[0] if arguments else ""
        if not re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE):
            raise block.wrong(f"make: no target {target!r}")
    return word in BUILDS


def dedented(text: str) -> str:
    """Without what an excerpt need not keep: indentation, empty lines, the space before remarks."""
    lines = (re.sub(r"\s+//", " //", line).strip() for line in text.splitlines())
    return "\n".join(line for line in lines if line) + "\n"
