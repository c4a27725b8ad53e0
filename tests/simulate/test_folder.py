from __future__ import annotations

import math
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import tifffile
from ncempy.io import dm

from pychip_live.errors import PychipError, UsageError
from pychip_live.simulate.behaviours import Behaviour
from pychip_live.simulate.folder import Written, play
from pychip_live.simulate.specimen import Specimen
from pychip_live.simulate.truth import TRUTH_FILE, read_truth

MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
FAST: dict[str, Any] = {"rate": math.inf, "size": 64, "clock": lambda: MOMENT}


def frames_in(folder: Path) -> list[str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return sorted(p.relative_to(folder).as_posix() for p in files if p.name != TRUTH_FILE)


@pytest.mark.parametrize("form", ["tiff", "dm4"])
@pytest.mark.parametrize("behaviour", get_args(Behaviour))
def test_every_frame_of_the_specimen_is_on_disk(
    tmp_path: Path, behaviour: Behaviour, form: Any
) -> None:
    written = play(tmp_path, frames=5, behaviour=behaviour, form=form, seed=7, **FAST)
    assert frames_in(tmp_path) == [w.frame for w in written]
    assert read_truth(tmp_path) == [w.truth for w in written]
    specimen = Specimen((64, 64), seed=7)
    for k, w in enumerate(written):
        pixels, phase_map = specimen.frame(k / 4)
        read = tifffile.imread(w.path) if form == "tiff" else dm.dmReader(w.path)["data"]
        np.testing.assert_array_equal(read, pixels)
        assert w.truth is not None
        assert w.truth.frame == w.frame
        assert w.truth.fractions == specimen.fractions(phase_map)


def test_the_same_seed_and_clock_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        play(tmp_path / name, frames=3, preset="precipitation", seed=1, **FAST)
    names = [*frames_in(tmp_path / "a"), TRUTH_FILE]
    assert len(names) == 4
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize("behaviour", get_args(Behaviour))
def test_the_truth_is_there_before_the_frame_is_visible(
    tmp_path: Path, behaviour: Behaviour
) -> None:
    ended = threading.Event()
    early: list[str] = []
    looks: set[int] = set()

    def watch() -> None:
        while not ended.is_set():
            visible = frames_in(tmp_path)
            if visible:
                known = {truth.frame for truth in read_truth(tmp_path)}
                early.extend(n for n in visible if n.removesuffix(".part") not in known)
            looks.add(len(visible))

    watcher = threading.Thread(target=watch)
    watcher.start()
    play(tmp_path, frames=20, behaviour=behaviour, rate=60, size=64)
    ended.set()
    watcher.join()
    assert not early
    assert len(looks) > 3


def test_a_folder_is_copied_byte_for_byte_under_its_names(tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    for k, name in enumerate(["b.png", "a.TIF", "deep/c.dm3"]):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(bytes([k]) * 1000)
    (source / "notes.txt").write_text("no image")
    for behaviour in ("atomic", "grow", "preallocate", "replace", "direct"):
        target = out / behaviour
        written = play(target, source=source, behaviour=behaviour, **FAST)
        assert [w.frame for w in written] == ["a.TIF", "b.png", "deep/c.dm3"]
        assert frames_in(target) == ["a.TIF", "b.png", "deep/c.dm3"]
        assert not (target / TRUTH_FILE).exists()
        for w in written:
            assert w.path.read_bytes() == (source / w.frame).read_bytes()
            assert w.truth is None


def test_a_folder_in_gatans_tree(tmp_path: Path) -> None:
    source = tmp_path / "cooling"
    source.mkdir()
    for k in range(5):
        (source / f"{k}.tif").write_bytes(bytes([k]))
    written = play(tmp_path / "out", source=source, behaviour="gatan", rate=100, frames=3)
    stem = "cooling_Hour_00_Minute_00_Second_00_Frame"
    tree = "cooling/Hour_00/Minute_00/Second_00"
    assert [w.frame for w in written] == [f"{tree}/{stem}_{k:04d}.tif" for k in range(3)]
    assert [w.path.read_bytes() for w in written] == [b"\0", b"\1", b"\2"]


def test_the_real_series_survives_every_behaviour(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "series" / "au750" / "frames"
    for behaviour in get_args(Behaviour):
        written = play(tmp_path / behaviour, source=source, behaviour=behaviour, rate=math.inf)
        assert len(written) == 97
        originals = sorted(source.iterdir())
        for w, original in zip(written, originals, strict=True):
            assert w.path.read_bytes() == original.read_bytes()


def test_rate(tmp_path: Path) -> None:
    at: list[float] = []
    begin = time.monotonic()
    play(tmp_path, frames=6, rate=20, size=64, on_frame=lambda _: at.append(time.monotonic()))
    due = [k / 20 for k in range(6)]
    assert all(moment - begin >= d for moment, d in zip(at, due, strict=True))
    assert at[-1] - begin < 2


def test_bursts_come_together_and_then_pause(tmp_path: Path) -> None:
    at: list[float] = []
    play(
        tmp_path,
        frames=9,
        rate=10,
        burst=3,
        size=64,
        behaviour="grow",
        on_frame=lambda _: at.append(time.monotonic()),
    )
    gaps = np.diff(at)
    # a whole burst takes 0.24 s although each of its files takes that long
    assert gaps[[2, 5]].min() > 0.1
    assert gaps[[0, 1, 3, 4, 6, 7]].max() < 0.05


def test_on_frame_gets_what_is_returned_after_the_file_is_whole(tmp_path: Path) -> None:
    seen: list[tuple[Written, int]] = []

    def note(w: Written) -> None:
        seen.append((w, w.path.stat().st_size))

    written = play(tmp_path, frames=4, behaviour="grow", on_frame=note, **FAST)
    assert [w for w, _ in seen] == written
    assert [size for _, size in seen] == [w.path.stat().st_size for w in written]


def test_stop_ends_soon_and_leaves_whole_files(tmp_path: Path) -> None:
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    start = time.monotonic()
    written = play(tmp_path, frames=1000, rate=1, size=64, behaviour="preallocate", stop=stop)
    assert time.monotonic() - start < 3
    assert len(written) == 1
    assert tifffile.imread(written[0].path).shape == (64, 64)
    assert frames_in(tmp_path) == [written[0].frame]


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"rate": 0}, "above 0, not 0"),
        ({"rate": math.nan}, "not nan"),
        ({"frames": 0}, "at least 1, not 0"),
        ({"burst": 0}, "at least 1 frame, not 0"),
        ({"behaviour": "teleport"}, "teleport.*atomic, grow"),
        ({"form": "bmp"}, "bmp.*tiff, dm4"),
        ({"preset": "melting"}, "melting"),
        ({"size": 10}, "64 px"),
        ({"seed": -1}, "-1"),
        ({"source": Path("no/such/folder")}, "folder is not a folder"),
    ],
)
def test_options_that_cannot_be_carried_out(
    tmp_path: Path, options: dict[str, Any], names: str
) -> None:
    with pytest.raises(UsageError, match=names):
        play(tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_nothing_is_ever_overwritten(tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    for folder in (source, out):
        folder.mkdir()
        (folder / "a.png").write_text(folder.name)
    with pytest.raises(UsageError, match=r"a\.png exists already"):
        play(out, source=source)
    with pytest.raises(UsageError, match="exists already"):
        play(source, source=source)
    assert (out / "a.png").read_text() == "out"


def test_a_second_simulation_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    play(tmp_path, frames=2, **FAST)
    before = (tmp_path / TRUTH_FILE).read_bytes()
    with pytest.raises(UsageError, match="empty folder"):
        play(tmp_path, frames=2, preset="precipitation", **FAST)
    assert (tmp_path / TRUTH_FILE).read_bytes() == before


def test_a_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(UsageError, match="has no image to play"):
        play(tmp_path / "out", source=tmp_path)


def test_out_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("file")
    with pytest.raises(UsageError, match="is a file"):
        play(tmp_path / "out", frames=1, **FAST)


def test_a_frame_that_cannot_be_written_names_the_file(tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "a.png").write_bytes(b"x")
    out.mkdir()
    (out / "deep").write_text("a file where the folder should be")
    with pytest.raises(PychipError, match=r"deep.*cannot be written"):
        play(out, source=source)
