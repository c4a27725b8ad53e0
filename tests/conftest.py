"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from pychip_live.settings import Settings

# no test depends on wall time: machines are shared
settings.register_profile("steady", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real micrographs beside the checkout; skips without it, but never in CI."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if folder.is_dir():
        return folder
    if os.environ.get("CI"):
        pytest.fail(f"CI must have the real data, but {folder} does not exist")
    pytest.skip(f"real micrographs are not here ({folder})")


@pytest.fixture(scope="session")
def simulated_profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A profile with 8 examples a phase of the simulated specimen, chips of 16 px; copy to edit."""
    from pychip_live.engine.rehearsal import make_profile

    folder = tmp_path_factory.mktemp("profile") / "simulated"
    return make_profile(
        folder, "crystallisation", size=256, chip=16, seed=1, settings=Settings(threads=1)
    ).path


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of an empty place: runs beside the test, one thread, short quiet times."""
    values = {"runs": tmp_path / "runs", "threads": 1, "settle_s": 0.5}
    for key, value in values.items():
        monkeypatch.setenv(f"PYCHIP_{key.upper()}", str(value))
    return Settings()
