"""A gateway as its operator starts it: `scheduling-gateway serve`, in a process of its own, on a loopback port."""

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parent.parent


class Process:
    """Its URL, without the path of MCP, and what it has logged so far."""

    def __init__(self, config: Path) -> None:
        command = [sys.executable, "-m", "gateway", "serve", "--config", str(config), "--port", "0"]
        self._process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, errors="replace")
        assert self._process.stderr is not None
        self._lines: list[str] = []
        for line in self._process.stderr:
            self._lines.append(line)
            if found := re.search(r"answers at (http://\S+)/mcp", line):
                self.url = found[1]
                break
        else:
            raise AssertionError("".join(self._lines))
        # Its log goes on being read: a full pipe would stop it.
        self._reader = threading.Thread(target=self._lines.extend, args=(self._process.stderr,))
        self._reader.start()

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log(self) -> str:
        return "".join(self._lines)

    def stop(self) -> int:
        """End it as its operator would; its exit code."""
        self._process.terminate()
        try:
            return self._process.wait(60)
        finally:
            self._process.kill()
            self._reader.join()
            stderr: IO[str] | None = self._process.stderr
            assert stderr is not None
            stderr.close()


@contextmanager
def serving(config: Path) -> Iterator[Process]:
    process = Process(config)
    try:
        yield process
    finally:
        process.stop()
