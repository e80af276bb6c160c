"""Parts of the machine that some tests need: `postgresql`, `pgvector`, `browser`.

A test without its part is skipped. Where `VEXACT_MAY_SKIP` is set, as `.ci/run` sets it, the test
fails unless the variable names the part.
"""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def skip_without(part: str, why: str) -> NoReturn:
    """Skips the test, or fails it if the part may not be missing."""
    may_skip = os.environ.get("VEXACT_MAY_SKIP")
    if may_skip is not None and part not in may_skip.split():
        pytest.fail(f"{part}: {why}. VEXACT_MAY_SKIP={may_skip!r} does not name {part}", pytrace=False)
    pytest.skip(f"{part}: {why}")
