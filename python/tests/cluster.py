"""Worker processes for tests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any


class Worker:
    """A process `vexact worker` on a free port of this machine."""

    def __init__(self, *options: str, listen: str = "127.0.0.1:0", threads: int = 1) -> None:
        command = [sys.executable, "-m", "vexact", "worker", "--listen", listen, "--threads", str(threads), *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
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
