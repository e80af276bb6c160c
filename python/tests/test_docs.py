"""Every code block of the README and of docs/ runs and prints what the page shows (see pages.py for the rules), and links lead somewhere."""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from pages import ROOT, PageError, blocks, matches, run

PAGES = [ROOT / "README.md", ROOT / "examples/data/README.md", *sorted(ROOT.glob("docs/**/*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
KINDS = ("python", "sql", "console", "bash", "rust")


@pytest.mark.parametrize("name", NAMES)
def test_a_page_does_what_it_says(name: str, tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    text = (ROOT / name).read_text(encoding="utf-8")
    ran = run(text, name, tmp_path)
    assert ran.total() == len(blocks(text, name))


def test_blocks_of_every_kind_are_run(capsys: pytest.CaptureFixture[str]) -> None:
    found = Counter(
        block.language if block.reason is None else f"{block.language}, not run: {block.reason}"
        for page, name in zip(PAGES, NAMES)
        for block in blocks(page.read_text(encoding="utf-8"), name)
    )
    with capsys.disabled():
        print("\nblocks of the documentation:", "; ".join(f"{count} {kind}" for kind, count in sorted(found.items())))
    assert all(found[kind] > 0 for kind in KINDS), found
    assert found.total() - sum(found[kind] for kind in KINDS) < found.total() / 10, found


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    """To a file, to a heading in it, and where the link's text is `code`, to a file that has this text."""
    page = ROOT / name
    tokens = MarkdownIt().parse(page.read_text(encoding="utf-8"))
    for token in (child for inline in tokens for child in inline.children or []):
        target = token.attrGet("href")
        if token.type != "link_open" or not isinstance(target, str) or re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{name}: no file {target}"
        if anchor:
            assert anchor in anchors(file), f"{name}: no heading {target}"
    for text, target in re.findall(r"\[`([^`\]]+)`\]\(([^)#]+\.(?:rs|py|slt))\)", page.read_text(encoding="utf-8")):
        file = (page.parent / target).resolve()
        assert str(file).endswith(text) or text in file.read_text(encoding="utf-8"), f"{name}: {target} has no {text!r}"


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to headings."""
    tokens = MarkdownIt().parse(page.read_text(encoding="utf-8"))
    headings = [after.content for token, after in zip(tokens, tokens[1:]) if token.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def page(text: str) -> str:
    return textwrap.dedent(text)


GOOD = page(
    """
    ```python
    import vexact
    session = vexact.Session()
    session.create_temp_view("t", session.create_dataframe_from_arrow({"x": [1, 2, 3]}))
    least = 2
    async def double(x):
        return 2 * x
    print(await double(21))
    ```
    ```text
    42
    ```
    ```sql
    -- a comment; with a semicolon
    SELECT sum(x) AS s
    FROM t WHERE x >= $least;
    ```
    ```text
    +---+
    | s |
    +---+
    | 5 |
    +---+
    ```
    ```python
    raise ValueError(f"expected {least}, got 3")
    ```
    ```text
    ValueError: expected ..., got 3
    ```
    ```console
    $ echo one \\
      two
    one two
    $ make test
    ```
    ```bash
    vexact --version > version
    test -s version
    ```
    ```python notest: needs a server
    connect()
    ```
    """
)


def test_a_good_page_passes(tmp_path: Path) -> None:
    before = Path.cwd()
    assert run(GOOD, "good.md", tmp_path) == {"python": 2, "sql": 1, "console": 1, "bash": 1, "notest": 1}
    assert (tmp_path / "version").read_text().startswith("vexact ")
    assert Path.cwd() == before


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("print(await double(21))", "print(await double(2))"), r"bad.md:3: expected the output\n42\n\ngot\n4\n"),
        (("least = 2", "least = later"), r"bad.md:3: python failed:\nNameError.*bad.md\", line 6"),
        (("| 5 |", "| 6 |"), r"bad.md:15: expected the output"),
        (("FROM t WHERE", "FROM u WHERE"), r"bad.md:15: sql failed:\nvexact.errors.InvalidRequestError: .*table 'datafusion.public.u' not found"),
        (("$least", "$most"), r"bad.md:15: sql: expected variables \['most'\]"),
        (("session = ", "other = "), r"bad.md:3: python failed:\nNameError"),
        (("ValueError: expected ...", "ValueError: wanted ..."), r"python failed:\nValueError: expected 2, got 3"),
        (("one two\n", "one three\n"), r"expected the output\n\$ echo one"),
        (("make test", "make tea"), r"make: no target 'tea'"),
        (("test -s version", "test -s nothing"), r"bash: exit code 1"),
        (("connect()", "connect("), r"no Python"),
        (("notest: needs a server", "notest:"), r"expected 'notest: REASON'"),
        (("```bash", "```fish"), r"expected one of python, .* got 'fish'"),
        (("```bash", "```rust"), r"rust: expected an excerpt"),
        (("```bash", "words between\n\n```text"), r"text: expected a block that is run right before it"),
    ],
)
def test_a_bad_page_fails_at_its_line(change: tuple[str, str], problem: str, tmp_path: Path) -> None:
    bad = GOOD.replace(*change)
    assert bad != GOOD
    with pytest.raises(PageError) as failure:
        run(bad, "bad.md", tmp_path)
    assert re.search(problem, str(failure.value), re.DOTALL), str(failure.value)


def test_dots_stand_for_anything() -> None:
    assert matches("a ... c\n...\nz\n", "a b c\n1\n2\nz")
    assert not matches("a ... c", "a b")
    assert not matches("a", "a\nb")
