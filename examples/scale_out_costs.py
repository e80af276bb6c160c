"""Computes the bytes, seconds and money of an exact search over 1e7 to 1e10 vectors.

A paper model, not a measurement: seconds are bytes over the bandwidth of the place that holds them, or requests over
the requests that a store answers, plus the latency of the first byte and of the network. Change the constants for your
machines and run it again. scale_out_simulation.py checks the model against a store that delays.

    python examples/scale_out_costs.py [--dim 384] [--cores 8] [--prefixes 4]
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

GB = 1e9
"""Bytes a second that one core scans from memory, as the benchmarks of this repository measure it."""
CORE = 13.6 * GB
"""Price of a machine of 8 cores and 12.5 Gbit/s, in dollars an hour."""
MACHINE = 0.36
"""Price of 1000 GET requests of an object store, in dollars, and the bytes of one, as a worker reads a large chunk."""
GETS, GET_BYTES = 0.0004, 8 << 20
"""Requests a second that an object store answers under one prefix, which is a folder of files."""
REQUESTS = 5500


@dataclass
class Tier:
    name: str
    """Bytes of a component."""
    width: float
    """Bytes a second of one worker."""
    bandwidth: float
    """Seconds until the first byte."""
    latency: float
    is_store: bool = False


def tiers(cores: int) -> list[Tier]:
    return [
        Tier("object store, f32", 4, 12.5e9 / 8, 0.05, is_store=True),
        Tier("object store, f16", 2, 12.5e9 / 8, 0.05, is_store=True),
        Tier("NVMe, f32", 4, 6 * GB, 0.001),
        Tier("memory (page cache), f32", 4, cores * CORE, 0.0),
    ]


def seconds_of(read: float, workers: int, tier: Tier, prefixes: int) -> float:
    """The seconds of a search that reads these bytes."""
    requests = read / GET_BYTES / REQUESTS / prefixes if tier.is_store else 0.0
    return max(read / workers / tier.bandwidth, requests) + tier.latency


def duration(seconds: float) -> str:
    return f"{seconds:,.0f} s" if seconds >= 10 else f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


def size(count: float) -> str:
    return f"{count / 1e12:.2f} TB" if count >= 1e12 else f"{count / 1e9:.0f} GB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dim", type=int, default=384, help="components of a vector")
    parser.add_argument("--cores", type=int, default=8, help="cores of a worker")
    parser.add_argument("--prefixes", type=int, default=4, help="folders of an object store over which the files are spread")
    arguments = parser.parse_args()
    workers = (1, 10, 100)
    print("| rows | tier | read | " + " | ".join(f"{count} worker{'s' if count > 1 else ''}" for count in workers) + " | $ a query |")
    print("|---|---|---|" + "---|" * (len(workers) + 1))
    for rows in (1e7, 1e8, 1e9, 1e10):
        for tier in tiers(arguments.cores):
            read = rows * arguments.dim * tier.width
            seconds = [seconds_of(read, count, tier, arguments.prefixes) for count in workers]
            requests = read / GET_BYTES / 1000 * GETS if tier.is_store else 0
            # The machine time is about the same for any number of workers.
            money = seconds[1] * workers[1] / 3600 * MACHINE + requests
            cells = [f"{rows:.0e}".replace("e+0", "e").replace("e+", "e"), tier.name, size(read), *map(duration, seconds)]
            print("| " + " | ".join(cells) + f" | {money:.4f} |")


if __name__ == "__main__":
    main()
