"""The reference names what there is: every public name and signature of Python, every command and option, setting and strategy key."""

from __future__ import annotations

import dataclasses
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import vexact
from pages import ROOT

REFERENCE = ROOT / "docs/reference"


def page(name: str) -> str:
    return (REFERENCE / name).read_text(encoding="utf-8")


def members(cls: type) -> Iterator[tuple[str, object]]:
    """The public methods and properties that a class defines."""
    for name, member in vars(cls).items():
        if not name.startswith("_") and (callable(member) or isinstance(member, property | classmethod | staticmethod)):
            yield name, member


def signature(function: object) -> str:
    """`(a, b=1)`: names and defaults."""
    plain = inspect.signature(getattr(function, "__func__", function))  # type: ignore[arg-type]
    shown = [p.replace(annotation=p.empty) for p in plain.parameters.values() if p.name not in ("self", "cls")]
    return str(plain.replace(parameters=shown, return_annotation=plain.empty))


def classes() -> list[type]:
    return [cls for name in vexact.__all__ if inspect.isclass(cls := getattr(vexact, name))]


@pytest.mark.parametrize("name", [name for name in vexact.__all__ if not name.startswith("__")])
def test_a_public_name_has_a_docstring_and_is_in_the_reference(name: str) -> None:
    public = getattr(vexact, name)
    own = public.__dict__.get("__doc__") if inspect.isclass(public) else public.__doc__
    # What dataclasses make up where there is none begins with the name.
    assert own and not own.startswith(f"{name}("), name
    assert re.search(rf"`(vexact\.)?{name}[`(]", page("python.md")), name


@pytest.mark.parametrize("cls", classes(), ids=lambda cls: cls.__name__)
def test_methods_have_docstrings_and_their_signatures_in_the_reference(cls: type) -> None:
    for name, member in members(cls):
        assert getattr(member, "__doc__", None), f"{cls.__name__}.{name} has no docstring"
        shown = name if isinstance(member, property) else f"{name}{signature(member)}"
        assert f"`{shown}`" in page("python.md"), f"{cls.__name__}: reference/python.md lacks `{shown}`"


def test_settings_of_engines_are_in_the_reference_with_their_defaults() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (\S+) \|", page("configuration.md"), re.MULTILINE))
    for field in dataclasses.fields(vexact.HtapConfig):
        default = f'"{field.default}"' if isinstance(field.default, str) else str(field.default)
        assert rows.get(field.name) == (default if isinstance(field.default, int) and field.default > 1 else f"`{default}`"), field.name
    opened = inspect.signature(vexact.open).parameters
    assert {name: p.default for name, p in opened.items()} == {f.name: f.default for f in dataclasses.fields(vexact.HtapConfig)}


def help_of(*command: str) -> str:
    done = subprocess.run([sys.executable, "-m", "vexact", *command, "--help"], capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout
    return done.stdout


def leaves(*command: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """The commands that do something, with their help."""
    text = help_of(*command)
    below = re.search(r"^Commands:\n((?:  .*\n|\n)+)", text, re.MULTILINE)
    names = re.findall(r"^  ([a-z][\w-]*) ", below.group(1), re.MULTILINE) if below else []
    if not names:
        yield command, text
    for name in names:
        if name != "help":
            yield from leaves(*command, name)


SHARED_OPTIONS = {"--help", "--format", "--db", "--storage-path", "--storage-mode", "--mode", "--log-limit"}
"""Of all commands, or of all of `vexact db`: told once, in front of them."""


def test_commands_and_their_options_are_in_the_reference() -> None:
    found = dict(leaves())
    assert len(found) >= 6
    for command, text in found.items():
        section = re.search(rf"^##+ `vexact {' '.join(command)}`.*?(?=^##|\Z)", page("cli.md"), re.MULTILINE | re.DOTALL)
        assert section, f"reference/cli.md lacks a heading `vexact {' '.join(command)}`"
        options = set(re.findall(r"^ +(?:-\w, )?(--[a-z][\w-]*)", text, re.MULTILINE)) - SHARED_OPTIONS
        for option in options:
            assert f"`{option}" in section.group(), f"reference/cli.md, `vexact {' '.join(command)}` lacks {option}"


def test_settings_and_strategy_keys_are_in_the_reference(docs: vexact.Session) -> None:
    sql = page("sql.md")
    settings = docs.sql("SELECT name FROM information_schema.df_settings WHERE name LIKE 'vexact.%'").to_rows()["rows"]
    assert len(settings) >= 3
    for (name,) in settings:
        assert f"`{name}`" in sql, name
    found = docs.explain_hybrid_search("docs", "vec", [1, 0, 0, 0], score_threshold=0.5, filter="id > 1").strategies()[0]
    batch = docs.explain_vector_search("docs", "vec", [[1, 0, 0, 0], [0, 1, 0, 0]]).strategies()[0]
    declined = docs.explain_sql("SELECT id FROM docs ORDER BY l2_distance(vec, '[1 0 0 0]')").strategies()[0]
    for key in {**found, **batch, **declined}:
        assert f"`{key}`" in sql, key


def test_reasons_to_decline_are_in_the_reference() -> None:
    source = (ROOT / "sql-udfs/src/rewrite/decline.rs").read_text(encoding="utf-8")
    reasons = re.findall(r'write!\(\s*f,\s*"([a-z-]+): ', source)
    assert len(reasons) >= 10
    for reason in reasons:
        assert f"| `{reason}` |" in page("sql.md"), reason


def test_every_page_is_reached_from_the_index() -> None:
    index = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    for path in sorted(Path(ROOT / "docs").glob("**/*.md")):
        name = path.relative_to(ROOT / "docs").as_posix()
        assert name == "index.md" or f"({name})" in index, f"docs/index.md lacks {name}"
