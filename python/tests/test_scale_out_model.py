"""The simulation of a store that delays has the shape of the cost model, up to 1e9 rows, and finds a model of another shape."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_simulation_has_the_shape_of_the_model() -> None:
    command = [sys.executable, str(EXAMPLES / "scale_out_simulation.py"), "--rows", "1e9", "--prefixes", "1", "4"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1] == "the simulation has the shape of the model"
    assert len(lines) == 2 + 2 * 3 * 3 + 1 and any(line.startswith("| 1e9 | 1.54 TB | 183,106 | 4 | 100 |") for line in lines)


def test_a_model_of_another_shape_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    simulation, costs = (importlib.import_module(name) for name in ("scale_out_simulation", "scale_out_costs"))
    tier = costs.tiers(simulation.CORES)[0]
    found = {}
    for workers in (10, 100):
        read = 1e9 * 384 * 4
        search = simulation.simulate(read, workers, tier.bandwidth, 1, 1)
        # Without the limit of requests, a hundred workers would take a tenth of the time.
        found[1e9, workers] = search, read / workers / tier.bandwidth + tier.latency
    with pytest.raises(AssertionError, match="does not scale as the model"):
        simulation.check(found)
