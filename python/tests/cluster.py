"""Worker processes for tests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import vexact


class Worker:
    """A process `vexact worker` on a free port of this machine."""

    def __init__(
        self,
        *options: str,
        listen: str = "127.0.0.1:0",
        threads: int = 1,
        env: Mapping[str, str] | None = None,
        log: Path | None = None,
    ) -> None:
        command = [sys.executable, "-m", "vexact", "worker", "--listen", listen, "--threads", str(threads), *options]
        with open(log or os.devnull, "w") as errors:
            stderr = None if log is None else errors
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=env)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the worker ended with {self.process.wait()}"
        self.answer: dict[str, Any] = json.loads(line)
        assert self.answer["ok"], self.answer
        self.address: str = self.answer["listening"].split("://")[1]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        os.kill(self.process.pid, signal.SIGSTOP)

    def stop(self) -> int:
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGCONT)
            self.process.terminate()
        return self.process.wait(timeout=40)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGCONT)
            self.kill()
        if self.process.stdout is not None:
            self.process.stdout.close()


def addresses(workers: Sequence[Worker]) -> list[str]:
    return [worker.address for worker in workers]


def strategy(text: str) -> dict[str, str]:
    """The lines `key=value` of a strategy."""
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def opened(folder: Path, workers: Sequence[Worker] | None = None, **options: object) -> vexact.Session:
    """A session over the files of a folder, the view `docs`."""
    session = vexact.Session(workers=addresses(workers), **options) if workers else vexact.Session(**options)  # type: ignore[arg-type]
    session.create_temp_view("docs", session.read_parquet(folder))
    return session


def status(address: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "vexact", "cluster", "status", "--workers", address]
    answer = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return answer["workers"][0]


def wait_for_tasks(address: str, count: int | None = None) -> None:
    """Waits until a worker has tasks, or as many as `count`."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        tasks = status(address).get("tasks")
        if (tasks and count is None) or tasks == count:
            return
    raise AssertionError(f"{address} has {status(address)}")
