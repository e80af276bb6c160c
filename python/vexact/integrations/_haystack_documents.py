"""Haystack's documents as rows of a table."""

from __future__ import annotations

import base64
from typing import Any

from haystack.dataclasses import ByteStream, Document, SparseEmbedding

from ._documents import Row, as_vector


def row_of(document: Document) -> Row:
    extra: dict[str, Any] = {}
    if document.blob is not None:
        blob = document.blob
        extra["blob"] = {"data": base64.b64encode(blob.data).decode(), "meta": blob.meta, "mime_type": blob.mime_type}
    if document.sparse_embedding is not None:
        extra["sparse_embedding"] = document.sparse_embedding.to_dict()
    vector = None if document.embedding is None else as_vector(document.embedding)
    return Row(document.id, document.content, document.meta, extra or None, vector)


def document_of(row: Row, score: float | None = None) -> Document:
    extra = row.extra or {}
    blob, sparse = extra.get("blob"), extra.get("sparse_embedding")
    return Document(
        id=row.id,
        content=row.content,
        blob=blob and ByteStream(base64.b64decode(blob["data"]), meta=blob["meta"], mime_type=blob["mime_type"]),
        meta=row.meta,
        score=score,
        embedding=None if row.vector is None else row.vector.tolist(),
        sparse_embedding=sparse and SparseEmbedding.from_dict(sparse),
    )
