"""The command line, called in this process or as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, ClassVar

from typer.testing import CliRunner

from pychip_live.cli.app import app
from tests.engine.playing import until


def call(*arguments: object, code: int = 0) -> Any:
    """Call in this process; returns what click's runner saw."""
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, f"exit {done.exit_code}\n{done.stdout}\n{done.stderr}"
    return done


def flat(text: str) -> str:
    """Text without the line breaks of a terminal."""
    return " ".join(text.split())


class Process:
    """The program as a user starts it; ``err`` grows while it runs."""

    alive: ClassVar[list[Process]] = []
    """Started in this test; whatever is left is killed at its end."""

    def __init__(self, *arguments: object, **environment: str) -> None:
        Process.alive.append(self)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pychip_live", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1", **environment},
        )
        self._lines: list[str] = []
        self._out = ""
        self._readers = [
            threading.Thread(target=self._read_err, daemon=True),
            threading.Thread(target=self._read_out, daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def _read_err(self) -> None:
        assert self.process.stderr
        with self.process.stderr as stream:
            for line in stream:
                self._lines.append(line)

    def _read_out(self) -> None:
        assert self.process.stdout
        with self.process.stdout as stream:
            self._out = stream.read()

    @property
    def err(self) -> str:
        return "".join(self._lines)

    def says(self, text: str) -> None:
        """Wait until stderr holds a text."""
        until(lambda: text in flat(self.err) or self.process.poll() is not None)
        assert text in flat(self.err), self.err

    def end(self, code: int = 0, patience: float = 60.0) -> str:
        """Wait for the end; returns stdout."""
        try:
            self.process.wait(patience)
        finally:
            self.kill()
        assert self.process.returncode == code, f"{self.process.returncode}\n{self.err}"
        return self._out

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for reader in self._readers:
            reader.join(10)
        if self in Process.alive:
            Process.alive.remove(self)

    def summary(self, patience: float = 60.0) -> dict[str, Any]:
        """Wait for the end; stdout must be the one JSON line of the contract."""
        return summary(self.end(patience=patience))


def summary(out: str) -> dict[str, Any]:
    (line,) = out.splitlines()
    found: dict[str, Any] = json.loads(line)
    assert list(found) == ["run", "frames", "skipped", "seconds"]
    assert Path(found["run"]).is_dir()
    return found
