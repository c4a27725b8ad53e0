"""A run that is killed at random instants and resumed loses nothing and records nothing twice."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.kill_loop import kill_loop

KILLS = int(os.environ.get("PYCHIP_KILLS", "6"))


@pytest.mark.slow
@pytest.mark.timeout(300 + 10 * KILLS)
def test_kill_and_resume(simulated_profile: Path, tmp_path: Path) -> None:
    outcome = kill_loop(tmp_path / "loop", simulated_profile, kills=KILLS, seed=KILLS)
    assert outcome.faults == ()
    assert outcome.resumed > 0
    assert outcome.frames > 6 * outcome.stacks > 0
