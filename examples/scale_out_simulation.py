"""Simulates an exact search over files in an object store, and checks the shape of the cost model of scale_out_costs.py.

The time is virtual. The store delays each request as S3 does: a first byte that comes late and sometimes very late, a limit of each
connection, and a limit of requests a second under each prefix. A worker is a task with a contiguous range of the parts; its connections share its
network, and its cores score what has arrived.

    python examples/scale_out_simulation.py [--rows 1e9] [--prefixes 1 4] [--seed 1]

It fails if the simulation and the model differ in shape: if a large search is not bound by the bandwidth, if twice the rows are not
twice the time, if more workers do not divide it, or if it is faster than the bandwidth permits.
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
from dataclasses import dataclass

from scale_out_costs import CORE, GET_BYTES, REQUESTS, duration, seconds_of, size, tiers

CONNECTIONS = 32
"""Requests of a worker at a time: 4 for each of 8 threads."""
CORES = 8
CONNECTION = 0.09e9
"""Bytes a second of one connection: S3 gives 85 to 90 MB/s."""
FIRST_BYTE, SPREAD = 0.03, 0.5
"""Median and spread of the lognormal time to the first byte, in seconds."""
SLOW, SLOWER = 0.001, 10.0
"""Share of requests that are slow, and how much."""
MERGE = 0.002
"""Seconds to send the plans and merge the rows of the tasks."""


@dataclass
class Search:
    seconds: float
    requests: int
    """Seconds of the fastest and of the slowest worker."""
    fastest: float
    slowest: float


def simulate(read: float, workers: int, bandwidth: float, prefixes: int, seed: int) -> Search:
    """Returns the time of a search that reads these bytes."""
    chance = random.Random(seed)
    parts = math.ceil(read / GET_BYTES)
    left = [parts * (worker + 1) // workers - parts * worker // workers for worker in range(workers)]
    network = [0.0] * workers
    cores = [[0.0] * CORES for _ in range(workers)]
    ends = [0.0] * workers
    gates = [0.0] * prefixes
    free = [(0.0, worker) for worker in range(workers) for _ in range(CONNECTIONS)]
    heapq.heapify(free)
    transfer, score = GET_BYTES / bandwidth, GET_BYTES / CORE
    while free:
        now, worker = heapq.heappop(free)
        if left[worker] == 0:
            continue
        left[worker] -= 1
        # Consecutive files lie in different folders.
        prefix = left[worker] % prefixes
        gate = gates[prefix] = max(gates[prefix] + 1 / REQUESTS, now)
        first_byte = FIRST_BYTE * math.exp(SPREAD * chance.gauss(0, 1)) * (SLOWER if chance.random() < SLOW else 1)
        # The network of a worker carries one byte at a time; a connection alone does not fill it.
        network[worker] = max(network[worker], gate + first_byte) + transfer
        arrived = max(network[worker], gate + first_byte + GET_BYTES / CONNECTION)
        scored = max(arrived, heapq.heappop(cores[worker])) + score
        heapq.heappush(cores[worker], scored)
        ends[worker] = max(ends[worker], scored)
        heapq.heappush(free, (arrived, worker))
    return Search(max(ends) + MERGE, parts, min(ends), max(ends))


def check(found: dict[tuple[float, int], tuple[Search, float]]) -> None:
    """Compares the shape of the simulation with that of the model."""
    for (rows, workers), (search, expected) in found.items():
        name = f"{rows:.0e} rows on {workers} workers: simulated {search.seconds:.2f} s, model {expected:.2f} s"
        assert search.seconds > 0.9 * (expected - 0.05), f"faster than the bandwidth: {name}"
        if expected > 2:
            assert search.seconds < 1.3 * expected, f"not bound as in the model: {name}"
            assert search.slowest < 1.3 * search.fastest, f"workers of unequal time: {name}"
        for larger in ((rows * 10, workers), (rows, workers * 10)):
            if larger in found and min(expected, found[larger][1]) > 2:
                ratio = found[larger][0].seconds / search.seconds / (found[larger][1] / expected)
                assert 0.8 < ratio < 1.25, f"does not scale as the model: {name}, then {found[larger][0].seconds:.2f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=float, default=1e9, help="the most rows")
    parser.add_argument("--dim", type=int, default=384, help="components of a vector")
    parser.add_argument("--prefixes", type=int, nargs="+", default=[1, 4], help="folders over which the files are spread")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    print("| rows | read | requests | prefixes | workers | simulated | model | fastest to slowest worker |")
    print("|---|---|---|---|---|---|---|---|")
    tier = tiers(CORES)[0]
    for prefixes in arguments.prefixes:
        found: dict[tuple[float, int], tuple[Search, float]] = {}
        for rows in (10.0**power for power in range(7, 11) if 10.0**power <= arguments.rows):
            read = rows * arguments.dim * tier.width
            for workers in (1, 10, 100):
                search = simulate(read, workers, tier.bandwidth, prefixes, arguments.seed)
                expected = seconds_of(read, workers, tier, prefixes)
                found[rows, workers] = search, expected
                cells = [f"{rows:.0e}".replace("e+0", "e"), size(read), f"{search.requests:,}", str(prefixes), str(workers)]
                cells += [duration(search.seconds), duration(expected)]
                print("| " + " | ".join([*cells, f"{duration(search.fastest)} to {duration(search.slowest)}"]) + " |")
        check(found)
    print("the simulation has the shape of the model")


if __name__ == "__main__":
    main()
