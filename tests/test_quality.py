"""Types, lint and layout of the whole project, as the tools see them.

Not a test of behaviour: it keeps the checks inside the one line that runs the tests. Leave it out
with ``-k "not quality"``.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def run_tool(*arguments: str) -> None:
    """Run a module of this interpreter over the project; fail with all it says."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        timeout=280,
        check=False,
    )
    if done.returncode:
        pytest.fail(f"{' '.join(arguments)}\n{done.stdout}{done.stderr}", pytrace=False)


@pytest.mark.slow
def test_types() -> None:
    run_tool("mypy")


def test_lint() -> None:
    run_tool("ruff", "check", "--no-cache", ".")


def test_layout() -> None:
    run_tool("ruff", "format", "--check", "--no-cache", ".")
