"""An explain has three sections; planned it says `unknown`, executed it says what happened."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import vexact
from reference import METRICS, awkward_rows, chunked, search, vectors

ALWAYS = {"mode", "metric", "dimension", "top_k", "candidate_rows", "filter_pushdown", "acceleration", "backend"}
HYBRID = {
    "input_rows",
    "selectivity",
    "column_filter_stage",
    "column_filter_execution",
    "score_threshold",
    "score_threshold_compare",
    "returned_rows",
}
Q = [1.0, 2.0, 3.0, 4.0]


def strategy(explain: vexact.Explain) -> dict[str, str]:
    """The strategy of the one search, its lines well formed."""
    lines = explain.strategy.split("\n")
    pairs = dict(line.split("=", 1) for line in lines)
    assert len(pairs) == len(lines)
    assert explain.strategies() == [pairs]
    return pairs


def test_an_explain_is_text_of_three_sections(docs: vexact.Session) -> None:
    explain = docs.explain_vector_search("docs", "vec", Q, filter="id > 2")
    assert isinstance(explain, str) and isinstance(explain, vexact.Explain)
    lines = explain.split("\n")
    assert [line for line in lines if not line.startswith(" ")] == ["logical", "physical", "strategy"]
    assert explain.index("logical\n") < explain.index("\nphysical\n") < explain.index("\nstrategy\n")
    for section in (explain.logical, explain.physical, explain.strategy):
        assert section and all(f"  {line}" in lines for line in section.split("\n"))
    assert "TableScan: docs" in explain.logical
    assert "VectorTopKExec" in explain.physical


@pytest.mark.parametrize("metric", METRICS)
def test_an_executed_search_counts_what_happened(session: vexact.Session, metric: str) -> None:
    rng = np.random.default_rng(1)
    rows, nulls = awkward_rows(rng, 500, 12, np.float32)
    part = rng.integers(4, size=500)
    table = chunked(rng, pa.table({"part": part, "vec": vectors(rows, nulls)}))
    session.create_temp_view("t", session.create_dataframe_from_arrow(table))
    query = rng.standard_normal(12)
    for filter, selection in ((None, np.ones(500, bool)), ("part = 3", part == 3), ("part = 9", part == 9)):
        found = strategy(session.explain_vector_search("t", "vec", query, 7, metric, filter=filter))
        comparable = search(metric, rows, query, 500, selection)
        assert ALWAYS <= found.keys()
        assert "unknown" not in found.values()
        assert (found["metric"], found["dimension"], found["top_k"]) == (metric, "12", "7")
        assert int(found["candidate_rows"]) == selection.sum()
        assert int(found["skipped_rows"]) == selection.sum() - len(comparable)
        assert found["filter_pushdown"] == ("false" if filter is None else "true")
        if filter is None:
            assert found["mode"] == "exact-scan"
            assert not HYBRID & found.keys()
        else:
            assert found["mode"] == "exact-scan-hybrid-search"
            assert HYBRID <= found.keys()
            assert found["input_rows"] == "500"
            assert float(found["selectivity"]) == pytest.approx(selection.mean(), abs=1e-6)
            assert found["column_filter_stage"] == "before-vector"
            assert int(found["returned_rows"]) == min(7, len(comparable))


def test_an_executed_batch_and_a_search_of_parquet_have_the_same_keys(docs: vexact.Session, tmp_path: Path) -> None:
    pq.write_table(docs.sql("SELECT * FROM docs").to_arrow(), tmp_path / "docs.parquet", row_group_size=3)
    docs.create_temp_view("file", docs.read_parquet(tmp_path / "docs.parquet"))
    for table, query in (("docs", [Q, Q]), ("file", Q)):
        found = strategy(docs.explain_vector_search(table, "vec", query, 2, "l2", filter="id >= 4", columns="id"))
        assert ALWAYS | HYBRID <= found.keys()
        # Of the file, the first row group is not read.
        rows = "10" if table == "docs" else "7"
        assert (found["candidate_rows"], found["input_rows"], found["dimension"]) == ("6", rows, "4")
        assert float(found["selectivity"]) == pytest.approx(6 / int(rows), rel=1e-5)


def test_an_explained_hybrid_search_says_its_threshold(docs: vexact.Session) -> None:
    near = strategy(docs.explain_hybrid_search("docs", "vec", [20, 21, 22, 23], 10, "l2", 8.0, filter="id <> 5"))
    assert ALWAYS | HYBRID <= near.keys()
    assert (near["mode"], near["candidate_rows"]) == ("exact-scan-hybrid-search", "9")
    assert (float(near["score_threshold"]), near["score_threshold_compare"]) == (8.0, "<=")
    assert near["returned_rows"] == "2"
    large = strategy(docs.explain_hybrid_search("docs", "vec", Q, 10, "dot", 100.0))
    assert (float(large["score_threshold"]), large["score_threshold_compare"]) == (100.0, ">=")
    assert large["returned_rows"] == str(docs.hybrid_search("docs", "vec", Q, 10, "dot", 100.0).count())
    without = strategy(docs.explain_hybrid_search("docs", "vec", Q, 3))
    assert (without["score_threshold"], without["returned_rows"]) == ("none", "3")


def test_an_explained_hybrid_search_says_whether_it_has_a_filter(docs: vexact.Session) -> None:
    keys = ("filter_pushdown", "column_filter_stage", "column_filter_execution", "input_rows", "candidate_rows")
    without = strategy(docs.explain_hybrid_search("docs", "vec", Q, 3))
    assert [without[key] for key in keys] == ["false", "none", "none", "10", "10"]
    found = strategy(docs.explain_hybrid_search("docs", "vec", Q, 3, filter="id < 4"))
    execution = "vectorized-predicate-to-selection-bitmap"
    assert [found[key] for key in keys] == ["true", "before-vector", execution, "10", "4"]


@pytest.mark.parametrize(
    "query",
    [
        "SELECT id FROM docs ORDER BY cosine_distance(vec, $1) LIMIT 3",
        "SELECT id FROM docs WHERE lang = 'en' ORDER BY cosine_distance(vec, $1) LIMIT 3",
        "SELECT id FROM vector_search('docs', 'vec', $1, 3)",
        "SELECT id FROM vector_search('docs', 'vec', $1, 3, 'cosine', 'id > 3')",
    ],
)
def test_a_planned_search_says_unknown_for_what_only_execution_can_tell(docs: vexact.Session, query: str) -> None:
    for explain in (docs.explain_sql(query, [Q]), docs.sql(query, [Q]).explain()):
        found = strategy(explain)
        assert ALWAYS <= found.keys()
        assert (found["metric"], found["dimension"], found["top_k"]) == ("cosine", "4", "3")
        assert found["skipped_rows"] == "unknown"
        assert found["acceleration"] == "flat-buffer+simd-topk"
        if found["mode"] == "exact-scan":
            assert found["candidate_rows"] == "10"
        else:
            assert (found["mode"], found["candidate_rows"]) == ("exact-scan-hybrid-search", "unknown")
            assert HYBRID <= found.keys() and found["returned_rows"] == "unknown"


def test_explain_in_sql_adds_the_strategy_as_a_third_row(docs: vexact.Session) -> None:
    query = "SELECT id FROM docs ORDER BY l2_distance(vec, '[1 2 3 4]') LIMIT 2"
    rows = docs.sql(f"EXPLAIN {query}").to_rows()["rows"]
    assert [kind for kind, _ in rows] == ["logical_plan", "physical_plan", "strategy_plan"]
    assert rows[2][1].strip() == docs.explain_sql(query).strategy


def test_explain_analyze_adds_what_happened(docs: vexact.Session) -> None:
    query = "EXPLAIN ANALYZE SELECT id FROM docs ORDER BY l2_distance(vec, '[1 2 3 4]') LIMIT 2"
    text = "\n".join(plan for _, plan in docs.sql(query).to_rows()["rows"])
    assert "VectorTopKExec" in text
    for word in ("rows_scanned", "pruned", "refined", "bytes_read", "_us"):
        assert word in text


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("SELECT id FROM docs ORDER BY cosine_distance(vec, $1)", "no-limit"),
        ("SELECT id FROM docs ORDER BY cosine_distance(vec, $1), id LIMIT 2", "second-sort-key"),
        ("SELECT id FROM docs ORDER BY cosine_distance(vec, $1) DESC LIMIT 2", "farthest-first"),
    ],
)
def test_an_order_by_distance_that_is_no_search_says_why(docs: vexact.Session, query: str, reason: str) -> None:
    found = strategy(docs.explain_sql(query, [Q]))
    assert found["rewrite"] == "declined"
    assert found["reason"].startswith(reason)


def test_sql_without_vectors_says_so(docs: vexact.Session) -> None:
    explain = docs.explain_sql("SELECT lang, count(*) FROM docs GROUP BY lang")
    assert explain.strategy == "mode=sql"
    assert "Aggregate" in explain.logical and "AggregateExec" in explain.physical


def test_explaining_sql_runs_nothing(docs: vexact.Session) -> None:
    docs.sql("CREATE TABLE made AS SELECT 1 AS a").to_arrow()
    docs.explain_sql("INSERT INTO made VALUES (2)")
    docs.explain_sql("SELECT 1 / (id - id) FROM docs")
    assert docs.sql("SELECT * FROM made").count() == 1


class Tags(HTMLParser):
    """Tags that close in order, and the text between them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.text = ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        self.seen.add(tag)
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_html_is_well_formed_and_escaped(docs: vexact.Session) -> None:
    filter = "lang <> '<script>alert(1)</script>' AND id < 5 AND lang <> '&amp;\"'"
    explains = (
        docs.explain_vector_search("docs", "vec", Q, filter=filter),
        docs.explain_sql(f"SELECT id FROM docs WHERE {filter}"),
        docs.explain_sql("SELECT id FROM docs ORDER BY cosine_distance(vec, $1) DESC LIMIT 2", [Q]),
    )
    for explain in explains:
        for page in (explain._repr_html_(), explain.to_html()):
            parsed = Tags(page)
            assert "script" not in parsed.seen
            for line in f"{explain.logical}\n{explain.physical}".split("\n"):
                assert line in parsed.text
            for pairs in explain.strategies():
                for word in (*pairs, *pairs.values()):
                    assert word in parsed.text
        assert explain.to_html().startswith("<!doctype html>")


def test_the_html_of_a_frame_is_well_formed_and_escaped(session: vexact.Session) -> None:
    texts = ["<script>alert(1)</script>", "a & b", "\"quoted\" 'single'", None]
    page = session.create_dataframe_from_arrow({"<b>name</b>": texts})._repr_html_()
    parsed = Tags(page)
    assert parsed.seen == {"style", "div", "table", "thead", "tbody", "tr", "th", "span", "td", "i"}
    for text in ("<b>name</b>", *texts[:3]):
        assert text is not None and text in parsed.text
