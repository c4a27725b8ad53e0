"""What the package's own readers make of simulated files, whole and in the making."""

from __future__ import annotations

import math
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from pychip_live.core.frame import Calibration, Metadata
from pychip_live.readers import evidence, open_file
from pychip_live.simulate.behaviours import Behaviour
from pychip_live.simulate.dm4 import encode_dm4
from pychip_live.simulate.folder import play
from pychip_live.simulate.specimen import Specimen


@pytest.mark.parametrize("form", ["tiff", "dm4"])
@pytest.mark.parametrize("preset", ["crystallisation", "precipitation"])
def test_pixels_calibration_and_time_are_read(tmp_path: Path, preset: str, form: Any) -> None:
    specimen = Specimen((128, 128), 5, preset)
    written = play(tmp_path, frames=3, rate=math.inf, size=128, preset=preset, form=form, seed=5)
    for k, w in enumerate(written):
        assert evidence(w.path).complete
        frame = open_file(w.path).read(0)
        np.testing.assert_array_equal(frame.pixels, specimen.frame(k / 2)[0])
        assert frame.calibration == specimen.calibration
        assert frame.metadata.exposure_s == specimen.metadata.exposure_s
        assert w.truth is not None
        assert frame.metadata.acquired_at is not None
        # DM keeps the time as a double, which is good to 2 µs
        difference = abs(frame.metadata.acquired_at - w.truth.time)
        assert difference <= timedelta(microseconds=2)


def test_a_dm4_stack_is_read_plane_by_plane(tmp_path: Path) -> None:
    path = tmp_path / "stack.dm4"
    stack = np.random.default_rng(0).integers(0, 9999, (4, 20, 30), np.uint16)
    start = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    path.write_bytes(encode_dm4(stack, Calibration(2, "nm"), Metadata(start), interval_s=0.5))
    file = open_file(path)
    assert file.n_planes == 4
    for k in range(4):
        np.testing.assert_array_equal(file.read(k).pixels, stack[k])
        assert file.read(k).metadata.acquired_at == start + timedelta(seconds=0.5 * k)


@pytest.mark.parametrize("form", ["tiff", "dm4"])
@pytest.mark.parametrize("behaviour", [b for b in get_args(Behaviour) if b != "replace"])
def test_no_half_written_frame_passes_for_complete(
    tmp_path: Path, behaviour: Behaviour, form: Any
) -> None:
    truth = Specimen((512, 512)).frame(0.0)[0]
    ended = threading.Event()
    looks: list[bool] = []
    wrong: list[Path] = []

    def watch() -> None:
        while not ended.is_set():
            for path in tmp_path.rglob(f"*.{'tif' if form == 'tiff' else form}"):
                complete = evidence(path).complete
                looks.append(complete)
                if complete and not np.array_equal(open_file(path).read(0).pixels, truth):
                    wrong.append(path)
                    return

    watcher = threading.Thread(target=watch)
    watcher.start()
    play(tmp_path, frames=1, rate=2, size=512, behaviour=behaviour, form=form)
    ended.wait(0.05)
    ended.set()
    watcher.join()
    assert not wrong
    assert True in looks
    if behaviour in ("grow", "preallocate"):
        assert False in looks
