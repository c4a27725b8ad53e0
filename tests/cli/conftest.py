"""No test leaves a process behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cli.calling import Process


@pytest.fixture(autouse=True)
def _no_process_is_left() -> Iterator[None]:
    yield
    for process in list(Process.alive):
        process.kill()
