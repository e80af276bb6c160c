"""LangChain, Haystack and LlamaIndex over one SQLite file.

It has 2 000 entries of a dictionary, searched by meaning and filtered by metadata.

The vectors of the entries are those of the sample; no model is loaded.
"""

import tempfile
from pathlib import Path

import pyarrow.parquet as pq
from haystack import Document, Pipeline
from langchain_core.embeddings import Embeddings
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores import MetadataFilter, MetadataFilters, VectorStoreQuery

from vexact.integrations.haystack import VexactDocumentStore, VexactEmbeddingRetriever
from vexact.integrations.langchain import VexactVectorStore as LangChainStore
from vexact.integrations.llama_index import VexactVectorStore as LlamaIndexStore

SAMPLE = Path(__file__).parent / "data/wordnet-sample-4k-minilm-384.parquet"
entries = pq.read_table(SAMPLE).slice(0, 2000).to_pylist()
vectors = {entry["gloss"]: entry["embedding"] for entry in entries}


class Known(Embeddings):
    """The vectors of the sample's definitions, in the place of a model."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [vectors[text] for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return vectors[text]


with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "app.db"
    puppy = next(entry for entry in entries if entry["domain"] == "animal")
    query = puppy["gloss"]

    store = LangChainStore(Known(), path)
    texts, metadatas = [entry["gloss"] for entry in entries], [{"word": e["word"], "domain": e["domain"]} for e in entries]
    store.add_texts(texts, metadatas, ids=[str(entry["id"]) for entry in entries])
    print("LangChain:", query)
    for document, distance in store.similarity_search_with_score(query, 3, filter={"domain": {"$ne": "animal"}}):
        print(f"  {distance:.3f} {document.metadata['word']}, {document.metadata['domain']}: {document.page_content[:60]}")

    for document, score in store.similarity_search_with_score(query, 3, mode="hybrid"):
        print(f"  hybrid {score:.4f} {document.metadata['word']}: {document.page_content[:60]}")

    documents = VexactDocumentStore(path)
    documents.write_documents(
        [Document(id=str(e["id"]), content=e["gloss"], meta={"domain": e["domain"], "frequency": e["frequency"]}, embedding=e["embedding"]) for e in entries]
    )
    pipeline = Pipeline()
    pipeline.add_component("retriever", VexactEmbeddingRetriever(documents, top_k=3))
    often = {"field": "meta.frequency", "operator": ">", "value": 2}
    answer = pipeline.run({"retriever": {"query_embedding": vectors[query], "filters": often}})
    print("Haystack:", [document.content[:40] for document in answer["retriever"]["documents"]])

    nodes = LlamaIndexStore(path)
    nodes.add([TextNode(id_=str(e["id"]), text=e["gloss"], metadata={"domain": e["domain"]}, embedding=e["embedding"]) for e in entries])
    animals = MetadataFilters(filters=[MetadataFilter(key="domain", value="animal")])
    result = nodes.query(VectorStoreQuery(query_embedding=vectors[query], similarity_top_k=3, filters=animals))
    print("LlamaIndex:", [node.get_content()[:40] for node in result.nodes or []])
    assert result.ids and result.ids[0] == str(puppy["id"])

    # All three are tables of one file, for your own SQL.
    count = "SELECT count(*) AS n FROM langchain_documents JOIN haystack_documents USING (id) JOIN llama_index_nodes USING (id)"
    print(store.connection.query(count).to_pylist())
    for opened in (store, documents, nodes):
        opened.close()
