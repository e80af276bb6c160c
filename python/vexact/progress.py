"""A progress bar for long queries: at a terminal and in notebooks, if tqdm is installed."""

from __future__ import annotations

import importlib.util
import sys
import time
from types import TracebackType
from typing import Any

#: Seconds after which a query is long.
_LONG_SECONDS = 1.0


class Progress:
    """Receives the number of rows so far of a running query, and shows it once the query is long. A
    context manager."""

    __slots__ = ("_bar", "_began", "_what")

    def __init__(self, what: str) -> None:
        self._what = what
        self._began = time.monotonic()
        self._bar: Any = None

    def __call__(self, rows: int) -> None:
        if self._bar is None:
            if time.monotonic() - self._began < _LONG_SECONDS or not (_is_terminal() or _is_notebook()):
                return
            self._bar = _new_bar(self._what)
        self._bar.update(rows - self._bar.n)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()


class _NoBar:
    """Replaces the bar if tqdm is not installed."""

    n = 0

    def update(self, rows: int) -> None:
        pass

    def close(self) -> None:
        pass


def _is_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


def _is_notebook() -> bool:
    """Returns true in a kernel of Jupyter, whose cells show the standard error."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


def _has_widgets() -> bool:
    return importlib.util.find_spec("ipywidgets") is not None


def _new_bar(what: str) -> Any:
    try:
        from tqdm import tqdm
    except ImportError:
        return _NoBar()
    if _is_notebook() and _has_widgets():
        from tqdm.notebook import tqdm as notebook_bar

        return notebook_bar(desc=what, unit=" rows", unit_scale=True, miniters=0, leave=False)
    return tqdm(desc=what, unit=" rows", unit_scale=True, miniters=0, leave=False, file=sys.stderr)
