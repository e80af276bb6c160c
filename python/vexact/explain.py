"""What a query will do, or did: three sections of text."""

from __future__ import annotations

import html

_STYLE = (
    "font-family:ui-monospace,monospace;font-size:13px;line-height:1.4;white-space:pre-wrap;margin:0;padding:8px 12px;"
    "background:#f6f8fa;color:#1f2328;border-radius:6px;overflow-x:auto"
)


class Explain(str):
    """The explain of a query as text, with its sections.

    `logical` and `physical` are DataFusion's plans; `strategy` is `key=value` lines that say how the vector search is done
    (as executed, where the query has run), or why a sort by distance was not made one; `mode=sql` where there is none.
    """

    logical: str
    physical: str
    strategy: str

    def __new__(cls, logical: str, physical: str, strategy: str) -> Explain:
        sections = {"logical": logical.rstrip(), "physical": physical.rstrip(), "strategy": strategy.rstrip()}
        text = "\n".join(f"{name}\n" + "\n".join(f"  {line}" for line in body.split("\n")) for name, body in sections.items())
        explain = super().__new__(cls, text)
        explain.logical, explain.physical, explain.strategy = sections.values()
        return explain

    def strategies(self) -> list[dict[str, str]]:
        """The strategy of each vector search in the query, as dicts."""
        return [dict(line.split("=", 1) for line in part.split("\n")) for part in self.strategy.split("\n\n")]

    def _repr_html_(self) -> str:
        def table(strategy: dict[str, str]) -> str:
            rows = "".join(
                f"<tr><th style='text-align:left;padding:2px 16px 2px 0;font-weight:600'>{html.escape(key)}</th>"
                f"<td style='text-align:left;padding:2px 0'>{html.escape(value)}</td></tr>"
                for key, value in strategy.items()
            )
            return f"<table style='border-collapse:collapse;font-size:13px;margin:4px 0 8px'>{rows}</table>"

        strategy = "".join(table(part) for part in self.strategies())
        plans = "".join(
            f"<details{is_open}><summary style='cursor:pointer;font-weight:600;margin:8px 0 4px'>{name}</summary>"
            f"<pre style='{_STYLE}'>{html.escape(body)}</pre></details>"
            for name, body, is_open in (("physical", self.physical, " open"), ("logical", self.logical, ""))
        )
        heading = "<div style='font-weight:600;margin:8px 0 4px'>strategy</div>"
        return f"<div class='vexact-explain' style='max-width:1100px'>{heading}{strategy}{plans}</div>"

    def to_html(self) -> str:
        """A whole HTML page."""
        return (
            "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>vexact explain</title></head>"
            "<body style='font-family:system-ui,sans-serif;margin:24px;background:#fff;color:#1f2328'>"
            f"<h1 style='font-size:20px'>vexact explain</h1>{self._repr_html_()}</body></html>"
        )
