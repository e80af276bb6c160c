"""LangChain stores, vexact, Chroma and LanceDB: documents added and queries answered, with and
without a filter.

    python benches/text/stores.py [--documents 10000] [--queries 100]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings

from glosses import Glosses, glosses, timed
from vexact.integrations.langchain import VexactVectorStore

K = 10


class Known(Embeddings):
    """The vectors of the data, in the place of a model."""

    def __init__(self, data: Glosses) -> None:
        self.vectors = dict(zip(data.texts, data.vectors.tolist())) | dict(zip(data.queries, data.query_vectors.tolist()))

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.vectors[text] for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return self.vectors[text]


Store = tuple[Any, Callable[[int], dict[str, Any]]]


def of_vexact(model: Embeddings, folder: Path) -> Store:
    return VexactVectorStore(model, folder / "app.db"), lambda group: {"filter": {"group": group}}


def of_vexact_typed(model: Embeddings, folder: Path) -> Store:
    store = VexactVectorStore(model, folder / "typed.db", columns={"group": "integer"})
    return store, lambda group: {"filter": {"group": group}}


def of_chroma(model: Embeddings, folder: Path) -> Store:
    from langchain_chroma import Chroma

    store = Chroma(embedding_function=model, persist_directory=str(folder / "chroma"), collection_metadata={"hnsw:space": "cosine"})
    return store, lambda group: {"filter": {"group": group}}


def of_lancedb(model: Embeddings, folder: Path) -> Store:
    import lancedb
    from langchain_community.vectorstores import LanceDB

    store = LanceDB(connection=lancedb.connect(folder / "lance"), embedding=model, distance="cosine", mode="append")
    return store, lambda group: {"filter": f"metadata.group = {group}", "prefilter": True}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--documents", type=int, default=10_000)
    parser.add_argument("--queries", type=int, default=100)
    arguments = parser.parse_args()
    data = glosses()
    # Texts that occur twice would have two documents of one vector.
    rows = _distinct(data, arguments.documents)
    data.texts, data.vectors = [data.texts[row] for row in rows], data.vectors[rows]
    asked = [data.texts[row] for row in np.random.default_rng(7).choice(len(rows), arguments.queries, replace=False)]
    documents = [Document(page_content=text, metadata={"group": n % 10}) for n, text in enumerate(data.texts)]
    ids = [str(n) for n in range(len(documents))]
    model = Known(data)
    wide = data.vectors.astype(np.float64)
    wide /= np.linalg.norm(wide, axis=1, keepdims=True)

    def right(text: str, group: int | None) -> set[str]:
        cosines = wide @ wide[data.texts.index(text)]
        if group is not None:
            cosines[np.arange(len(cosines)) % 10 != group] = -2
        return {data.texts[row] for row in np.argsort(-cosines, kind="stable")[:K]}

    expected = {(text, group): right(text, group) for text in asked for group in (None, 3)}
    peers = {"vexact": of_vexact, "vexact, typed": of_vexact_typed, "Chroma": of_chroma, "LanceDB": of_lancedb}
    with tempfile.TemporaryDirectory() as folder:
        for peer, make in peers.items():
            store, filtered = make(model, Path(folder))
            # Chroma takes at most 5 461 documents at once.
            added, _ = timed(lambda: [store.add_documents(documents[n : n + 1000], ids=ids[n : n + 1000]) for n in range(0, len(documents), 1000)])
            line: dict[str, Any] = {"peer": peer, "documents": len(documents), "add_s": round(added, 2)}
            store.similarity_search(asked[0], K)
            for name, group in (("query", None), ("filtered", 3)):
                options = {} if group is None else filtered(group)
                times, found = [], 0
                for text in asked:
                    seconds, answer = timed(lambda: store.similarity_search(text, k=K, **options))
                    times.append(seconds)
                    found += len({document.page_content for document in answer} & expected[text, group])
                line[f"{name}_ms"] = round(statistics.median(times) * 1000, 2)
                line[f"{name}_recall"] = round(found / (K * len(asked)), 4)
            print(json.dumps(line), flush=True)
            if peer.startswith("vexact"):
                assert line["query_recall"] == line["filtered_recall"] == 1.0, line


def _distinct(data: Glosses, most: int) -> list[int]:
    seen: dict[str, int] = {}
    for row, text in enumerate(data.texts):
        seen.setdefault(text, row)
        if len(seen) == most:
            break
    return list(seen.values())


if __name__ == "__main__":
    main()
