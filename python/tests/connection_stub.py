"""Writes `vexact/connection.pyi`: the methods of `HtapEngine` without `async`. Run it after a change of the engine's methods:

    python python/tests/connection_stub.py
"""

from __future__ import annotations

import ast
from pathlib import Path

_FOLDER = Path(__file__).parents[1] / "vexact"


def _imports(module: ast.Module) -> list[str]:
    kept = []
    for node in module.body:
        if isinstance(node, ast.ImportFrom) and node.module == "__future__":
            continue
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            kept.append(ast.unparse(node))
    return kept


def _without_body(function: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    plain = ast.parse("def f(): ...").body[0]
    assert isinstance(plain, ast.FunctionDef)
    plain.name, plain.args, plain.returns = function.name, function.args, function.returns
    lines = ast.unparse(plain).split("\n")
    head = " ".join(line.strip() for line in lines[:-1])
    documentation = ast.get_docstring(function, clean=False)
    if documentation is None:
        return f"    {head} ..."
    return f'    {head}\n        """{documentation}"""'


def connection() -> str:
    """Returns the text of `connection.pyi`."""
    engine = ast.parse((_FOLDER / "engine.py").read_text(encoding="utf-8"))
    searches = ast.parse((_FOLDER / "_engine_searches.py").read_text(encoding="utf-8"))
    own = ast.parse((_FOLDER / "connection.py").read_text(encoding="utf-8"))
    classes = {node.name: node for node in [*engine.body, *searches.body, *own.body] if isinstance(node, ast.ClassDef)}
    functions = {node.name: node for node in own.body if isinstance(node, ast.FunctionDef)}
    opened = next(node for node in engine.body if isinstance(node, ast.AsyncFunctionDef) and node.name == "open")

    mine = [node for node in classes["Connection"].body if isinstance(node, ast.FunctionDef)]
    names = {node.name for node in mine}
    methods = []
    for node in mine:
        prefix = "".join(f"    @{ast.unparse(decorator)}\n" for decorator in node.decorator_list)
        methods.append(prefix + _without_body(node))
    for member in [*classes["HtapEngine"].body, *classes["EngineSearches"].body]:
        if isinstance(member, (ast.FunctionDef, ast.AsyncFunctionDef)) and not member.name.startswith("_"):
            is_plain = not member.decorator_list and member.name not in names
            methods += [_without_body(member)] if is_plain else []
    # `connect` has the settings of `open`, by name.
    connect = functions["connect"]
    settings = ast.arguments(
        posonlyargs=[],
        args=connect.args.args,
        defaults=connect.args.defaults,
        kwonlyargs=opened.args.kwonlyargs,
        kw_defaults=opened.args.kw_defaults,
    )
    connect.args = settings
    module = [
        '"""The methods of `HtapEngine`, written by `python python/tests/connection_stub.py`; a test compares them."""\n',
        *dict.fromkeys(_imports(engine) + _imports(searches)),
        "from .engine import HtapEngine",
        '\n__all__ = ["Connection", "connect"]\n',
        f'class Connection:\n    """{ast.get_docstring(classes["Connection"], clean=False)}"""',
        "    engine: HtapEngine",
        *methods,
        "",
        "\n".join(line.removeprefix("    ") for line in _without_body(connect).split("\n")),
    ]
    return "\n".join(module) + "\n"


if __name__ == "__main__":
    (_FOLDER / "connection.pyi").write_text(connection(), encoding="utf-8")
