"""Queries of a Haystack document store about the metadata of its documents."""

from __future__ import annotations

import json
from typing import Any

from ._conditions import ALWAYS, Condition, json_path
from ._documents import DocumentTable


class MetadataQueries:
    """Counts, types and values of metadata."""

    _documents: DocumentTable

    def _condition(self, filters: dict[str, Any] | None) -> Condition:
        raise NotImplementedError

    def count_documents_by_filter(self, filters: dict[str, Any]) -> int:
        """Returns the number of documents that match."""
        return self._documents.count(self._condition(filters))

    def count_unique_metadata_by_filter(self, filters: dict[str, Any], metadata_fields: list[str]) -> dict[str, int]:
        """Returns the number of different values of each metadata field among the documents that match."""
        where = self._condition(filters)
        return {_bare(name): len(self._values(name, where)) for name in metadata_fields}

    def get_metadata_fields_info(self) -> dict[str, dict[str, str]]:
        """Returns the type of each metadata field: `boolean`, `int`, `float` or `keyword`, which is also that of mixed values."""
        found: dict[str, set[str]] = {}
        for (text,) in self._documents.select(Condition("meta")):
            for key, value in json.loads(text).items():
                kind = {bool: "boolean", int: "int", float: "float"}.get(type(value), "keyword")
                if value is not None:
                    found.setdefault(key, set()).add(kind)
        return {key: {"type": kinds.pop() if len(kinds) == 1 else "keyword"} for key, kinds in found.items()}

    def get_metadata_field_min_max(self, metadata_field: str) -> dict[str, Any]:
        """Returns the smallest and the largest value of a field: `{"min": ..., "max": ...}`, None where it has none, or numbers and
        texts both."""
        values = [value for value in self._values(metadata_field) if isinstance(value, (int, float, str))]
        if not values or len({isinstance(value, str) for value in values}) > 1:
            return {"min": None, "max": None}
        return {"min": min(values), "max": max(values)}

    def get_metadata_field_unique_values(
        self,
        metadata_field: str,
        search_term: str | None = None,
        from_: int = 0,
        size: int = 10,
        filters: dict[str, Any] | None = None,
    ) -> tuple[list[Any], int]:
        """Returns `size` of the different values of a field from `from_` on, in the order of their texts, and the number of all.
        `search_term`: only values whose text contains it, whatever the case."""
        values = self._values(metadata_field, self._condition(filters))
        if search_term:
            values = [value for value in values if search_term.lower() in str(value).lower()]
        values.sort(key=lambda value: (str(value), type(value).__name__))
        return values[from_ : from_ + size], len(values)

    def _values(self, name: str, where: Condition = ALWAYS) -> list[Any]:
        """Returns the different values of a metadata field; 1, 1.0, True and "1" differ."""
        path = json_path([_bare(name)])
        columns = Condition("json_type(meta, ?), json_quote(json_extract(meta, ?))", (path, path))
        found = dict.fromkeys(self._documents.select(columns, where))
        booleans = {"true": True, "false": False}
        return [booleans.get(kind, None) if kind in booleans else json.loads(text) for kind, text in found if kind not in (None, "null")]


def _bare(name: str) -> str:
    return name.removeprefix("meta.")
