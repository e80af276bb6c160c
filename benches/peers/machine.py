"""The machine and the packages a run was made with; limits on threads. Imports nothing that starts threads itself."""

from __future__ import annotations

import datetime
import os
import platform
from importlib import metadata
from pathlib import Path

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS",
                     "TOKIO_WORKER_THREADS", "LANCE_CPU_THREADS")


_OPENBLAS_SPIN = "24"
"""OpenBLAS threads spin for 2^this cycles after their work before they sleep. Its own 2^28, some 100 ms, takes CPUs
from the system that is measured next (faiss-cpu: 24 ms, not 6); 2^20 slows numpy down by a third; 2^24 does not."""


def limit_threads(threads: int) -> None:
    """Hold this process to `threads` CPUs, on different cores if there are enough; call before importing libraries."""
    for variable in _THREAD_VARIABLES:
        os.environ[variable] = str(threads)
    os.environ["OPENBLAS_THREAD_TIMEOUT"] = _OPENBLAS_SPIN
    if hasattr(os, "sched_setaffinity"):
        allowed = sorted(os.sched_getaffinity(0))
        by_core = sorted(allowed, key=lambda cpu: (_rank_on_core(cpu), cpu))
        os.sched_setaffinity(0, by_core[:threads])


def _rank_on_core(cpu: int) -> int:
    """0 for the first hardware thread of a core, more for its siblings."""
    siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    try:
        first = siblings.read_text().replace("-", ",").split(",")[0]
    except OSError:
        return 0
    return int(int(first) != cpu)


def _cpu_info(field: str) -> str:
    """A field of the first CPU in /proc/cpuinfo, empty where there is none."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == field), "")


def _version(package: str) -> str | None:
    """The installed version, None when absent."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def describe(threads: int, packages: set[str]) -> dict[str, object]:
    """What a reader needs to judge the numbers: CPU, memory, threads, versions, date (UTC)."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cpu_model": _cpu_info("model name") or platform.processor(),
        "cpu_flags": _cpu_info("flags").split(),
        "cpus": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "threads": threads,
        "versions": {package: _version(package) for package in sorted(packages)},
    }
