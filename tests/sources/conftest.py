"""Files as microscopes write them, and a source that looks at them often."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from pychip_live.sources import Arrival
from pychip_live.sources.folder import FolderSource

Make = Callable[..., FolderSource]


def tiff(seed: int = 0, *, side: int = 64, black_tail: bool = False) -> bytes:
    """A whole TIFF file; no pixel is zero but in the black tail."""
    pixels = np.random.default_rng(seed).integers(1, 255, (side, side), dtype=np.uint8)
    if black_tail:
        pixels[side // 2 :] = 0
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, description="")
    return buffer.getvalue()


def until(condition: Callable[[], Any], timeout: float = 10.0) -> None:
    """Wait for a condition; fail when it does not come."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail("what was waited for did not come")
        time.sleep(0.005)


def collect(source: FolderSource, count: int, timeout: float = 10.0) -> list[Arrival]:
    """Take exactly ``count`` arrivals."""
    arrivals: list[Arrival] = []
    deadline = time.monotonic() + timeout
    while len(arrivals) < count:
        arrival = source.take(max(0.0, deadline - time.monotonic()))
        if arrival is None:
            pytest.fail(f"{len(arrivals)} of {count} came: {[a.name for a in arrivals]}")
        arrivals.append(arrival)
    return arrivals


def drain(source: FolderSource, idle_s: float = 0.2) -> list[Arrival]:
    """Take what comes until nothing has changed for a while; refused files are left."""
    arrivals: list[Arrival] = []
    deadline = time.monotonic() + 20.0
    while source.idle_s() < idle_s and not source._refused:
        if (arrival := source.take(0.02)) is not None:
            arrivals.append(arrival)
        assert time.monotonic() < deadline, source.status()
    return arrivals


@pytest.fixture(params=["events", "no events"])
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    """Make started sources, with and without events of the file system."""
    sources: list[FolderSource] = []

    def make_source(*folders: Path, **options: Any) -> FolderSource:
        defaults: dict[str, Any] = {
            "rescan_s": 0.03,
            "settle_s": 0.5,
            "events": request.param == "events",
        }
        source = FolderSource(folders, **(defaults | options))
        sources.append(source)
        source.start()
        return source

    yield make_source
    for source in sources:
        source.stop()
