"""What a run meets: odd frames, bad files, folders and disks that go away. It goes on."""

from __future__ import annotations

import errno
import re
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from pychip_live.core.embedding import Embedding, Fit
from pychip_live.core.frame import Frame, digest
from pychip_live.core.result import FrameIdentity
from pychip_live.core.support import UNKNOWN
from pychip_live.engine.recipe import Recipe, ensure_fit
from pychip_live.engine.run import Done, Run
from pychip_live.engine.start import open_run
from pychip_live.engine.step import Prepared, embed, prepare
from pychip_live.errors import RecordBusyError
from pychip_live.settings import Settings
from pychip_live.sources import Arrival
from pychip_live.sources.folder import FolderSource
from pychip_live.store.database import Database
from pychip_live.store.history import open_history
from tests.engine.playing import (
    CHIP,
    SIZE,
    Background,
    Witness,
    analysed,
    assert_same,
    picture,
    reasons,
    recorded,
    results,
    simulate,
    until,
    watched,
    write_tiff,
)


def nan_block() -> NDArray[Any]:
    pixels = picture(1, dtype="float32")
    pixels[:CHIP, :CHIP] = np.nan
    pixels[CHIP, 0] = np.inf
    return pixels


ODD = {
    "small": picture(1, (40, 70)),
    "wide": picture(2, (CHIP, 300)),
    "bytes": picture(3, dtype="uint8"),
    "signed": picture(4, dtype="int16"),
    "double": picture(5, dtype="float64"),
    "constant": np.full((SIZE, SIZE), 7, np.uint16),
    "nan block": nan_block(),
    "all nan": np.full((SIZE, SIZE), np.nan, np.float32),
    "huge values": (picture(6, dtype="float32") * np.float32(1e35)),
    "zero": np.zeros((SIZE, SIZE), np.float32),
}


def test_odd_frames_are_analysed_each_on_its_own_grid(
    simulated_profile: Path, place: Settings, tmp_path: Path
) -> None:
    frames = tmp_path / "frames"
    for name, pixels in ODD.items():
        write_tiff(frames / f"{name}.tif", pixels)
    simulate(frames / "sound", 2)
    live = watched(simulated_profile, frames, place)
    found = results(live)
    assert reasons(live) == {}
    assert_same(found, results(analysed(simulated_profile, [frames], place)))
    for name, pixels in ODD.items():
        height, width = pixels.shape
        assert found[f"{name}.tif"].labels.shape == (height // CHIP, width // CHIP)
    assert (found["all nan.tif"].labels == UNKNOWN).all()
    block = found["nan block.tif"].labels
    assert block[0, 0] == UNKNOWN
    facts = {f.identity.name: f.facts for f in recorded(live)}
    about = facts["nan block.tif"]
    assert about is not None
    assert about.n_invalid == CHIP * CHIP + 1
    small = facts["small.tif"]
    assert small is not None
    assert small.cropped == (40 % CHIP, 70 % CHIP)
    for result in found.values():
        assert np.isfinite(result.probabilities).all()


@pytest.mark.parametrize("name", ["constant", "all nan", "small"])
def test_odd_first_frame_of_a_run_without_a_profile(
    name: str, place: Settings, tmp_path: Path
) -> None:
    frames = tmp_path / "frames"
    write_tiff(frames / "1.tif", ODD[name])
    witness = Witness()

    def go_on() -> None:
        until(lambda: witness.frames)
        simulate(frames / "later", 2)

    live = watched(None, frames, place, go_on, witness=witness)
    assert len(recorded(live)) == 3
    assert reasons(live) == {}


def test_the_first_frame_of_a_run_without_a_profile_is_tried_again(
    place: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = [OSError(errno.ENOSPC, "No space left on device")]

    def fail_once(*arguments: Any) -> Fit:
        if full:
            raise full.pop()
        return ensure_fit(*arguments)

    monkeypatch.setattr("pychip_live.engine.start.ensure_fit", fail_once)
    names = simulate(tmp_path / "frames", 2)
    live = watched(None, tmp_path / "frames", place)
    assert {f.identity.name for f in recorded(live)} == set(names)
    assert reasons(live) == {}
    assert not list(live.glob(".draft.*"))


def test_files_that_are_no_frames_are_skipped_with_the_reason(
    simulated_profile: Path, place: Settings, tmp_path: Path
) -> None:
    frames = tmp_path / "frames"
    names = simulate(frames, 3)
    write_tiff(frames / "tiny.tif", picture(1, (CHIP - 1, 200)))
    (frames / "text.tif").write_text("not a picture")
    (frames / "torn.tif").write_bytes((frames / names[0]).read_bytes()[:5000])
    tifffile.imwrite(frames / "complex.tif", np.ones((32, 32), np.complex64))
    (frames / "notes.txt").write_text("no frame, and no business of ours")
    expected = {
        "tiny.tif": r"chip of 16 px.*200 × 15|16.*15",
        "text.tif": "belong to no format",
        "torn.tif": "incomplete|end|bytes",
        "complex.tif": "complex",
    }
    live = watched(simulated_profile, frames, place)
    batch = analysed(simulated_profile, [frames], place)
    for run in (live, batch):
        assert set(results(run)) == set(names)
        found = reasons(run)
        assert found.keys() == expected.keys()
        for name, pattern in expected.items():
            assert re.search(pattern, found[name]), found[name]
        with open_history(run) as history:
            assert history.count() == (3, 4)


def test_one_bad_plane_costs_one_plane(
    simulated_profile: Path, place: Settings, tmp_path: Path
) -> None:
    path = tmp_path / "frames" / "stack.tif"
    path.parent.mkdir()
    tifffile.imwrite(
        path, picture(1, (5, SIZE, SIZE)), photometric="minisblack", compression="zlib",
        metadata=None,
    )  # fmt: skip
    with tifffile.TiffFile(path) as file:
        offset, count = file.pages[2].dataoffsets[0], file.pages[2].databytecounts[0]
    data = bytearray(path.read_bytes())
    data[offset + 10 : offset + count - 10] = bytes([0xA5]) * (count - 20)
    path.write_bytes(data)
    live = watched(simulated_profile, path.parent, place)
    assert set(results(live)) == {f"stack.tif#{k}" for k in (0, 1, 3, 4)}
    assert reasons(live).keys() == {"stack.tif#2"}
    assert_same(results(live), results(analysed(simulated_profile, [path], place)))
    again = watched(simulated_profile, path.parent, place, resume=True)
    assert len(recorded(again)) == 5


class Rewritten(FolderSource):
    """A folder whose first file is written anew between being found complete and being read."""

    def __init__(self, folder: Path, draft: bytes, final: bytes) -> None:
        super().__init__([folder], rescan_s=0.1, settle_s=0.5)
        self.given_back: list[str] = []
        self._draft: bytes | None = draft
        self._final = final

    def take(self, timeout: float) -> Arrival | None:
        arrival = super().take(timeout)
        if arrival is not None and self._draft is not None:
            arrival.path.write_bytes(self._draft)
            self._draft = None
        return arrival

    def retry(self, arrival: Arrival, awaited: str) -> None:
        self.given_back.append(awaited)
        arrival.path.write_bytes(self._final)
        super().retry(arrival, awaited)


@pytest.mark.parametrize("draft", ["zeros", "garbage", "torn"])
def test_what_changed_since_it_was_complete_is_not_read(
    draft: str, simulated_profile: Path, place: Settings, tmp_path: Path
) -> None:
    frames = tmp_path / "frames"
    write_tiff(frames / "1.tif", picture(1))
    final = write_tiff(tmp_path / "final.tif", picture(2, (SIZE, SIZE + CHIP))).read_bytes()
    blank = write_tiff(tmp_path / "blank.tif", np.zeros((SIZE, SIZE + CHIP), np.uint16))
    drafts = {"zeros": blank.read_bytes(), "garbage": b"no picture", "torn": final[:5000]}
    opened = open_run(simulated_profile, [frames], place)
    with opened.record as record:
        source = Rewritten(frames, drafts[draft], final)
        Run(source, record, opened.recipe, opened.prototypes, Witness()).go(
            threading.Event(), until_idle=1.0
        )
    assert source.given_back == ["the end of a change made while it was read"]
    (frame,) = recorded(record.folder)
    assert frame.identity.digest == digest(picture(2, (SIZE, SIZE + CHIP)))
    assert frame.identity.signature[0] == len(final)


def test_a_recorded_file_that_is_renamed_is_no_new_frame(
    simulated_profile: Path, tmp_path: Path, place: Settings
) -> None:
    folder = tmp_path / "frames"
    simulate(folder, 3)
    first, second, third = sorted(folder.glob("*.tif*"))
    run = watched(simulated_profile, folder, place, done=False)
    first.rename(folder / "renamed.tif")
    shutil.copy2(second, folder / "copied.tif")
    again = watched(simulated_profile, folder, place, resume=True, done=False)
    assert again == run
    names = {first.name, second.name, third.name, "copied.tif"}
    assert {frame.identity.name for frame in recorded(run)} == names
    # and it stays so
    watched(simulated_profile, folder, place, resume=True)
    assert {frame.identity.name for frame in recorded(run)} == names


def test_a_folder_that_does_not_exist_is_waited_for(
    simulated_profile: Path, place: Settings, tmp_path: Path
) -> None:
    frames = tmp_path / "not" / "yet"
    witness = Witness()

    def make() -> None:
        until(lambda: any("waiting for folder" in s for s in witness.states))
        simulate(frames, 3)

    live = watched(simulated_profile, frames, place, make, witness=witness)
    assert str(frames) in next(s for s in witness.states if "waiting" in s)
    assert witness.states[-1] == "running"
    assert len(results(live)) == 3


def test_a_file_that_takes_long_is_named_once(
    simulated_profile: Path, place: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pychip_live.engine.run.AWAITED_S", 0.3)
    whole = write_tiff(tmp_path / "whole.tif", picture(1)).read_bytes()
    slow = tmp_path / "frames" / "slow.tif"
    slow.parent.mkdir()
    witness = Witness()

    def grow() -> None:
        with slow.open("wb") as file:
            for start in range(0, len(whole), 3000):
                file.write(whole[start : start + 3000])
                file.flush()
                time.sleep(0.15)

    live = watched(simulated_profile, slow.parent, place, grow, witness=witness)
    assert set(results(live)) == {"slow.tif"}
    before, awaited, after = witness.states
    assert (before, after) == ("running", "running")
    assert re.match(r"running; awaits slow.tif: .*byte", awaited)


def test_a_folder_that_is_removed_and_made_again(
    simulated_profile: Path, place: Settings, tmp_path: Path
) -> None:
    frames = tmp_path / "frames"
    names = simulate(frames, 3)
    again: list[str] = []
    witness = Witness()

    def remove() -> None:
        until(lambda: len(witness.frames) == 3)
        shutil.rmtree(frames)
        until(lambda: "waiting" in witness.states[-1])
        again.extend(simulate(frames / "again", 2, seed=5))

    live = watched(simulated_profile, frames, place, remove, witness=witness)
    assert set(results(live)) == {*names, *(f"again/{name}" for name in again)}
    assert len(again) == 2


class Faulty(Witness):
    """A viewer with a bug."""

    def frame(self, done: Done) -> None:
        super().frame(done)
        raise RuntimeError("a viewer's bug")

    def state(self, text: str) -> None:
        super().state(text)
        raise RuntimeError("another one")


def test_a_listener_that_raises_does_not_stop_the_run(
    simulated_profile: Path, place: Settings, tmp_path: Path
) -> None:
    simulate(tmp_path / "frames", 4)
    witness = Faulty()
    live = watched(simulated_profile, tmp_path / "frames", place, witness=witness)
    assert len(results(live)) == len(witness.frames) == 4


def hold_locked(run: Path, _: Database, paused: Callable[[], bool]) -> None:
    other = sqlite3.connect(run / "run.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    until(paused)
    other.execute("ROLLBACK")
    other.close()


def fill_the_disk(run: Path, database: Database, paused: Callable[[], bool]) -> None:
    with database.reading() as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")
    until(paused)
    with database.reading() as connection:
        connection.execute("PRAGMA max_page_count = 1000000")


def take_the_share_away(run: Path, _: Database, paused: Callable[[], bool]) -> None:
    away = run.with_name("away")
    run.rename(away)
    until(paused)
    away.rename(run)


@pytest.mark.parametrize(
    "break_it",
    [
        hold_locked,
        fill_the_disk,
        pytest.param(
            take_the_share_away,
            marks=pytest.mark.skipif("os.name == 'nt'", reason="Windows keeps open folders"),
        ),
    ],
)
def test_a_record_that_cannot_be_written_pauses_the_run(
    break_it: Callable[[Path, Database, Callable[[], bool]], None],
    simulated_profile: Path,
    place: Settings,
    tmp_path: Path,
) -> None:
    frames = tmp_path / "frames"
    simulate(frames / "first", 2)
    opened = open_run(simulated_profile, [frames], place)
    run, witness = opened.record.folder, Witness()

    def disturb() -> None:
        until(lambda: len(witness.frames) == 2)
        breaking = Background(
            lambda: break_it(
                run, opened.record._database, lambda: witness.states[-1].startswith("paused")
            )
        )
        time.sleep(0.2)
        simulate(frames / "second", 6, seed=3)
        breaking.finish()
        until(lambda: len(witness.frames) == 8)

    with opened.record as record:
        writer = Background(disturb)
        Run(
            FolderSource([frames], rescan_s=0.1), record, opened.recipe, opened.prototypes,
            witness, opened.first_frame,
        ).go(threading.Event(), 0.5, writer.is_alive)  # fmt: skip
        writer.finish()
    paused = next(state for state in witness.states if state.startswith("paused"))
    assert str(run) in paused
    assert witness.states[-1] == "running"
    assert_same(results(run), results(analysed(simulated_profile, [frames], place)))
    assert len(results(run)) == 8


def test_stopped_while_it_cannot_write(
    simulated_profile: Path, place: Settings, tmp_path: Path
) -> None:
    frames = tmp_path / "frames"
    simulate(frames, 2)
    opened = open_run(simulated_profile, [frames], place)
    witness, stop = Witness(), threading.Event()

    def ask() -> None:
        until(lambda: witness.states and witness.states[-1].startswith("paused"))
        stop.set()

    with opened.record as record:
        other = sqlite3.connect(record.folder / "run.sqlite", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        run = Run(
            FolderSource([frames]), record, opened.recipe, opened.prototypes, witness,
            opened.first_frame,
        )  # fmt: skip
        writer = Background(ask)
        with pytest.raises(RecordBusyError, match="locked"):
            run.go(stop)
        writer.finish()
        other.close()
    assert watched(simulated_profile, frames, place, resume=True) == opened.record.folder
    assert len(results(opened.record.folder)) == 2


def test_a_frame_the_program_fails_on_costs_that_frame(
    simulated_profile: Path, place: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = tmp_path / "frames"
    names = simulate(frames, 4)

    def fail_once(frame: Frame, identity: FrameIdentity, *rest: Any, **more: Any) -> Prepared:
        if identity.name == names[1]:
            raise ZeroDivisionError("a bug")
        return prepare(frame, identity, *rest, **more)

    def run_out_once(prepared: Prepared, recipe: Recipe) -> Embedding:
        if prepared.identity.name == names[2]:
            raise MemoryError
        return embed(prepared, recipe)

    monkeypatch.setattr("pychip_live.engine.run.prepare", fail_once)
    monkeypatch.setattr("pychip_live.engine.run.embed", run_out_once)
    live = watched(simulated_profile, frames, place)
    assert set(results(live)) == {names[0], names[3]}
    found = reasons(live)
    assert "ZeroDivisionError('a bug')" in found[names[1]]
    assert "128 × 128 px need more memory" in found[names[2]]
