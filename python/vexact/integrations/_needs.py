"""The frameworks of the integrations are optional."""

from __future__ import annotations

from importlib.util import find_spec

from ..errors import MissingDependencyError


def needs(module: str, package: str, extra: str) -> None:
    """Raises `MissingDependencyError` if a framework is not installed."""
    if find_spec(module) is None:
        raise MissingDependencyError(f"vexact.integrations.{extra.replace('-', '_')} needs {package}: pip install 'vexact[{extra}]'")
