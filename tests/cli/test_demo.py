"""``demo`` needs nothing else, and ends with how far the curve is from the truth."""

from __future__ import annotations

import re

import pytest

from pychip_live.settings import Settings
from tests.cli.calling import Process, flat
from tests.engine.playing import results


@pytest.mark.slow
def test_demo_compares_with_the_truth(place: Settings) -> None:
    demo = Process(
        "demo", "--duration", 3, "--rate", 2, "--size", 256, "--chip", 16, "--no-dashboard"
    )
    assert demo.end(patience=120) == ""
    said = flat(demo.err)
    assert "measured against the true phase fractions" in said
    assert "6 frames, 0 skipped" in said
    rows = re.findall(r"(\w+)\W+([\d.]+) % \W+([\d.]+) % \W+(\d+) % of 6 frames", said)
    assert len(rows) == 3
    assert all(float(mean) < 25 for _, mean, _, _ in rows)
    (run,) = place.runs.iterdir()
    assert len(results(run)) == 6
