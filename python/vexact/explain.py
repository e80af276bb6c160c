"""The explain of a query, before or after its execution: three sections of text."""

from __future__ import annotations

from typing import TypeAlias

from . import _native

#: The logical plan, the physical plan, and the names and values of each section of the strategy.
Sections: TypeAlias = tuple[str, str, list[list[tuple[str, str]]]]


class Explain(str):
    """The explain of a query as text, with its sections.

    `logical` and `physical` are DataFusion's plans; `strategy` is `key=value` lines that say how the vector search is done
    (as executed, where the query has run), or why a sort by distance was not made one; `mode=sql` where there is none.
    """

    logical: str
    physical: str
    strategy: str

    _strategies: list[list[tuple[str, str]]]

    def __new__(cls, logical: str, physical: str, strategies: list[list[tuple[str, str]]]) -> Explain:
        strategy = "\n\n".join("\n".join(f"{key}={value}" for key, value in pairs) for pairs in strategies)
        sections = {"logical": logical.rstrip(), "physical": physical.rstrip(), "strategy": strategy.rstrip()}
        text = "\n".join(f"{name}\n" + "\n".join(f"  {line}" for line in body.split("\n")) for name, body in sections.items())
        explain = super().__new__(cls, text)
        explain.logical, explain.physical, explain.strategy = sections.values()
        explain._strategies = strategies
        return explain

    def strategies(self) -> list[dict[str, str]]:
        """Returns the strategy of each vector search in the query, as dicts."""
        return [dict(pairs) for pairs in self._strategies]

    def _repr_html_(self) -> str:
        return _native.explain_html(self.logical, self.physical, self._strategies, str(self))

    def to_html(self) -> str:
        """Returns a whole HTML page."""
        return (
            "<!doctype html><html lang='en'><head><meta charset='utf-8'><meta name='color-scheme' content='light dark'>"
            "<title>vexact explain</title></head><body style='font-family:system-ui,sans-serif;margin:24px auto;max-width:1100px'>"
            f"<h1 style='font-size:20px'>vexact explain</h1>{self._repr_html_()}</body></html>"
        )
