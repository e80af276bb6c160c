"""Tables and explains within the rules that JupyterLab has for a cell's output, in a real browser.

With VEXACT_SCREENSHOTS the folder that it names gets the pictures, for a person to look at.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from playwright.sync_api import Page, sync_playwright

import vexact
from parts import skip_without
from reference import vectors
from test_ui import browser_path

# The rules for a cell's output that concern tables and lists of terms.
RULES = """
    .cell { font: 14px/1.6 system-ui; padding: 16px; width: 900px; }
    .cell table { border-spacing: 0; table-layout: fixed; margin-left: auto; margin-right: auto; margin-bottom: 1em; color: inherit; }
    .cell td, .cell th, .cell tr { vertical-align: middle; padding: 0.5em; white-space: normal; max-width: none; }
    :not(.markdown).cell td, :not(.markdown).cell th, :not(.markdown).cell tr { text-align: right; }
    .cell tbody tr:nth-child(even) { background: rgb(250, 0, 0); }
    .cell ul:not(.inline) { padding-left: 2em; list-style: disc; margin-bottom: 1em; }
    .cell dl dt, .cell dl dd { float: left; }
    .cell dl dt { clear: left; width: 20%; font-weight: bold; }
    .cell dl dd { width: 80%; padding-left: 1em; }
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with sync_playwright() as playwright:
        path = browser_path() or playwright.chromium.executable_path
        if not Path(path).exists():
            skip_without("browser", "expected chromium, google-chrome or a path in VEXACT_CHROMIUM, got none")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(params=["light", "dark"])
def cell(request: pytest.FixtureRequest, browser) -> Iterator[object]:
    """A function that shows a fragment in a cell, and takes a picture."""
    page = browser.new_page(viewport={"width": 960, "height": 900}, color_scheme=request.param)
    colours = {"light": "background: white; color: #111", "dark": "background: #111; color: #ddd"}[request.param]

    def show(fragment: str, name: str) -> Page:
        page.set_content(f"<style>{RULES} body {{ margin: 0; {colours} }}</style><div class='cell'>{fragment}</div>")
        if folder := os.environ.get("VEXACT_SCREENSHOTS"):
            page.screenshot(path=str(Path(folder) / f"{name}-{request.param}.png"), full_page=True)
        return page

    yield show
    page.close()


def style(page: Page, selector: str, name: str) -> list[str]:
    return page.eval_on_selector_all(selector, f"found => found.map(one => getComputedStyle(one)[{name!r}])")


@pytest.fixture
def frames() -> vexact.Session:
    session = vexact.Session()
    table = pa.table({
        "id": range(4),
        "title": ["Ants", "Bees", None, "A long title that goes on for a while, and on"],
        "embedding": vectors(np.array([[0.1, 0.2], [1, 0], [0, 1], [1, 1]], dtype=np.float32)),
        **{f"column_{i}": [float(i)] * 4 for i in range(20)},
    })  # fmt: skip
    session.create_temp_view("docs", session.create_dataframe_from_arrow(table))
    return session


def test_text_stands_to_the_left_and_wide_tables_scroll(cell, frames: vexact.Session) -> None:
    page = cell(frames.sql("SELECT * FROM docs")._repr_html_(), "table")
    aligned = style(page, "tbody tr:nth-child(2) td", "textAlign")
    assert aligned[0] == "right" and aligned[1] == "left", aligned[:3]
    assert set(style(page, "tbody tr", "backgroundColor")) == {"rgba(0, 0, 0, 0)"}
    sizes = page.eval_on_selector("div.vexact-rows", "one => [one.scrollWidth, one.clientWidth, document.body.scrollWidth]")
    assert sizes[0] > sizes[1] and sizes[2] <= 960, sizes


def test_labels_of_an_explain_do_not_cover_values(cell, frames: vexact.Session) -> None:
    explain = frames.explain_vector_search("docs", "embedding", [1, 0], filter="id < 3")
    page = cell(explain._repr_html_(), "explain")
    assert set(style(page, "dl dt, dl dd", "float")) == {"none"}
    boxes = page.eval_on_selector_all(
        "dl > div",
        """found => found.map(pair => [...pair.children].map(one => one.getBoundingClientRect()).map(box => [box.top, box.bottom]))""",
    )
    assert boxes and all(value[0] >= label[1] - 0.5 for label, value in boxes), boxes
    assert set(style(page, "ul.vexact-tree", "listStyleType")) == {"none"}
