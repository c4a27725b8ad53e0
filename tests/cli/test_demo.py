"""``demo`` needs nothing else, and ends with how far the curve is from the truth."""

from __future__ import annotations

import os
import re
import signal

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


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signal")
def test_an_interrupted_demo_ends_cleanly(place: Settings) -> None:
    demo = Process("demo", "--duration", 30, "--size", 256, "--chip", 16, "--no-dashboard")
    demo.says("making a support set")
    demo.process.send_signal(signal.SIGINT)
    assert demo.end() == ""
    assert "Traceback" not in demo.err
    assert "error" not in demo.err
