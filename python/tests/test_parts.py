"""A part of the machine that is missing is skipped only where that is allowed."""

from __future__ import annotations

import pytest

from parts import skip_without


@pytest.mark.parametrize("may_skip", [None, "browser", "arm browser"])
def test_a_part_that_may_be_missing_is_skipped(monkeypatch: pytest.MonkeyPatch, may_skip: str | None) -> None:
    monkeypatch.delenv("VEXACT_MAY_SKIP", raising=False)
    if may_skip is not None:
        monkeypatch.setenv("VEXACT_MAY_SKIP", may_skip)
    with pytest.raises(pytest.skip.Exception, match="browser: no Chromium"):
        skip_without("browser", "no Chromium")


@pytest.mark.parametrize("may_skip", ["", "arm", "browsers"])
def test_a_part_that_is_not_named_fails(monkeypatch: pytest.MonkeyPatch, may_skip: str) -> None:
    monkeypatch.setenv("VEXACT_MAY_SKIP", may_skip)
    with pytest.raises(pytest.fail.Exception, match="browser: no Chromium"):
        skip_without("browser", "no Chromium")
