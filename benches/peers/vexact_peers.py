"""vexact itself, as adapters like all the others: its Python call and its three ways through SQL."""

from __future__ import annotations

import numpy as np

from protocol import Dataset, Ids, Peer, StatementPeer, predicate


class _Vexact(Peer):
    """A session with one view, `docs`, over the Arrow table; vectors stay where they are."""

    packages = ("vexact",)

    def __init__(self, threads: int) -> None:
        import vexact

        self._vexact, self._threads = vexact, threads

    def prepare(self, data: Dataset) -> None:
        self._session = self._vexact.Session()
        self._session.sql(f"SET vexact.threads = {self._threads}")
        self._session.sql(f"SET datafusion.execution.target_partitions = {self._threads}")
        self._session.create_temp_view("docs", self._session.create_dataframe_from_arrow(data.arrow_table()))

    def close(self) -> None:
        del self._session


class VexactPython(_Vexact):
    """`Session.vector_search`: one query or a query batch, a filter before the top k."""

    name = "vexact vector_search (Python)"

    def run(self, queries: np.ndarray, k: int, metric: str, max_bucket: int | None) -> Ids:
        asked = queries[0] if len(queries) == 1 else queries
        restriction = predicate(max_bucket, "") or None
        frame = self._session.vector_search("docs", "embedding", asked, top_k=k, metric=metric, filter=restriction)
        found = frame.to_arrow()
        rows = found["row_id"].to_numpy()
        if len(queries) == 1:
            return [rows]
        return np.split(rows, np.flatnonzero(np.diff(found["query_id"].to_numpy())) + 1)


class _VexactSql(_Vexact, StatementPeer):
    """One statement, one query."""

    def _order_by(self, query: str, k: int, metric: str, max_bucket: int | None) -> str:
        """The plain SQL form, which the optimizer rule turns into the operator."""
        order = {"cosine": f"cosine_distance(embedding, {query})", "dot": f"inner_product(embedding, {query}) DESC",
                 "l2": f"l2_distance(embedding, {query})"}[metric]
        return f"SELECT id FROM docs {predicate(max_bucket, 'WHERE')} ORDER BY {order} LIMIT {k}"


class VexactOrderBy(_VexactSql):
    """`ORDER BY <distance>(embedding, $1) LIMIT k` with the query as a bound parameter."""

    name = "vexact ORDER BY, query bound"

    def run_one(self, query: np.ndarray, k: int, metric: str, max_bucket: int | None) -> np.ndarray:
        statement = self._order_by("$1", k, metric, max_bucket)
        return self._session.sql(statement, params=[query]).to_arrow()["id"].to_numpy()


class VexactOrderByText(_VexactSql):
    """The same with the query as text, `'[1,2,3]'`; the text is made beforehand, untimed."""

    name = "vexact ORDER BY, query as text"

    def prepare(self, data: Dataset) -> None:
        super().prepare(data)
        self._texts: dict[bytes, str] = {}

    def run_one(self, query: np.ndarray, k: int, metric: str, max_bucket: int | None) -> np.ndarray:
        key = query.tobytes()
        if key not in self._texts:
            self._texts[key] = "'[" + ",".join(map(str, query.tolist())) + "]'"
        return self._session.sql(self._order_by(self._texts[key], k, metric, max_bucket)).to_arrow()["id"].to_numpy()


class VexactTableFunction(_VexactSql):
    """`vector_search(...)` in FROM, with the query bound and the filter as its last argument."""

    name = "vexact vector_search (SQL), query bound"

    def run_one(self, query: np.ndarray, k: int, metric: str, max_bucket: int | None) -> np.ndarray:
        argument = "" if max_bucket is None else ", '" + predicate(max_bucket, "") + "'"
        statement = f"SELECT id FROM vector_search('docs', 'embedding', $1, {k}, '{metric}'{argument})"
        return self._session.sql(statement, params=[query]).to_arrow()["id"].to_numpy()


WAYS_IN: tuple[type[Peer], ...] = (VexactOrderBy, VexactOrderByText, VexactTableFunction)
