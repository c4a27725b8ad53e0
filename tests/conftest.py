"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

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
