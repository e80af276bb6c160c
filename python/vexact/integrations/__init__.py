"""Stores of other frameworks over a table in your own SQLite file: LangChain, Haystack, LlamaIndex.

Each is a module of its own, which needs its framework (`pip install 'vexact[langchain]'`, `[haystack]`, `[llama-index]`):

    from vexact.integrations.langchain import VexactVectorStore
    from vexact.integrations.haystack import VexactDocumentStore, VexactEmbeddingRetriever
    from vexact.integrations.llama_index import VexactVectorStore
"""
