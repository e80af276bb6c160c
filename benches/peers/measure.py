"""Timing: alternating rounds of two systems, and the read bandwidth of the machine."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

MIN_ROUNDS = 3
_SETTLE_S = 0.050
"""Pause before each turn, in which threads that spin after their work (OpenMP's, OpenBLAS's) go to sleep."""
_WARM_S = 0.010
"""Untimed calls then precede the timed one for at least this long: cores wake, caches hold the system's own data."""
_BUFFER_BYTES = 1 << 30
_SCANS = 8

Call = Callable[[np.ndarray], object]


@dataclass(frozen=True)
class Timings:
    """Milliseconds of each round; `subject` is empty when only the peer was there."""

    subject: list[float]
    peer: list[float]

    @property
    def ratios(self) -> np.ndarray:
        """Peer time over subject time, one per round."""
        return np.array(self.peer) / np.array(self.subject)


def _time_ms(call: Call, queries: np.ndarray) -> float:
    """One call, settled and warmed up."""
    time.sleep(_SETTLE_S)
    ready = time.perf_counter() + _WARM_S
    while True:
        call(queries)
        if time.perf_counter() >= ready:
            break
    start = time.perf_counter()
    call(queries)
    return (time.perf_counter() - start) * 1e3


def alternate(subject: Call | None, peer: Call, query_sets: Sequence[np.ndarray], rounds: int,
              budget_s: float) -> Timings:
    """Time subject and peer in turn (A B A B ...) on the same queries, until `rounds` or `budget_s` is spent."""
    timings = Timings([], [])
    gc.collect()
    gc.disable()
    try:
        end = time.perf_counter() + budget_s
        for number in range(rounds):
            queries = query_sets[number % len(query_sets)]
            if subject is not None:
                timings.subject.append(_time_ms(subject, queries))
            timings.peer.append(_time_ms(peer, queries))
            if number + 1 >= MIN_ROUNDS and time.perf_counter() > end:
                break
    finally:
        gc.enable()
    return timings


def read_all(pool: ThreadPoolExecutor, shares: Sequence[np.ndarray]) -> None:
    """Read flat float32 arrays, one after the other in each thread: BLAS dot products of their two halves."""
    def read(share: np.ndarray) -> None:
        half = len(share) // 2
        np.dot(share[:half], share[half:2 * half])

    list(pool.map(read, shares))


def read_bandwidth(threads: int) -> float:
    """Bytes per second at which `threads` threads read a 1 GiB buffer, two streams each; the best of some scans."""
    buffer = np.ones(_BUFFER_BYTES // 4, dtype=np.float32)
    shares = np.array_split(buffer, threads)
    best = np.inf
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(_SCANS):
            start = time.perf_counter()
            read_all(pool, shares)
            best = min(best, time.perf_counter() - start)
    return buffer.nbytes / best
