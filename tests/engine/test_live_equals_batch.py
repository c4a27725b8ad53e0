"""A series that is watched while it is written gives what analyze gives over its final files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from pychip_live.core.frame import Frame
from pychip_live.core.profile import GridOptions, ProfileOptions
from pychip_live.readers import open_file
from pychip_live.settings import Settings
from pychip_live.simulate.behaviours import Behaviour
from pychip_live.simulate.dm4 import encode_dm4
from pychip_live.simulate.files import Format
from pychip_live.simulate.folder import play
from pychip_live.store.history import open_history
from pychip_live.store.profiles import ProfileFolder
from tests.engine.playing import (
    SIZE,
    Witness,
    add_example,
    analysed,
    assert_same,
    picture,
    reasons,
    recorded,
    results,
    until,
    watched,
    write_tiff,
)

BEHAVIOURS = get_args(Behaviour)


@pytest.mark.parametrize("form", ["tiff", "dm4"])
@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_simulated_series(
    behaviour: Behaviour, form: Format, simulated_profile: Path, place: Settings, tmp_path: Path
) -> None:
    frames = tmp_path / "frames"
    live = watched(
        simulated_profile,
        frames,
        place,
        lambda: play(
            frames,
            frames=8,
            rate=20,
            size=SIZE,
            form=form,
            behaviour=behaviour,
            seed=2,
        ),
    )
    batch = analysed(simulated_profile, [frames], place)
    assert len(results(batch)) == 8
    assert len({r.labels.tobytes() for r in results(batch).values()}) > 1
    assert_same(results(live), results(batch))
    assert reasons(live) == {}
    if behaviour != "replace":  # its drafts may have been recorded before
        assert len(recorded(live)) == 8


@pytest.fixture(scope="session")
def au750_profile(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = ProfileFolder(tmp_path_factory.mktemp("au") / "au750")
    folder.create(ProfileOptions(schema=1, name="au750", grid=GridOptions(chip=24)))
    with open_file(shared_data / "series" / "au750" / "frames" / "0001.png") as file:
        frame = file.read(0)
    folder.add_reference(Frame(frame.pixels, frame.calibration, frame.metadata), "0001")
    for name, places in {"crystal": [(0, 0), (24, 0)], "vacuum": [(340, 340), (300, 340)]}.items():
        for x, y in places:
            add_example(folder.path, name, x, y)
    return folder.path


@pytest.fixture(scope="session")
def au750_batch(
    shared_data: Path, au750_profile: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    settings = Settings(runs=tmp_path_factory.mktemp("batch"), threads=1)
    return analysed(au750_profile, [shared_data / "series" / "au750" / "frames"], settings)


@pytest.mark.slow
@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_real_series(
    behaviour: Behaviour,
    shared_data: Path,
    au750_profile: Path,
    au750_batch: Path,
    place: Settings,
    tmp_path: Path,
) -> None:
    frames = tmp_path / "frames"
    source = shared_data / "series" / "au750" / "frames"
    live = watched(
        au750_profile,
        frames,
        place,
        lambda: play(frames, source=source, rate=40, behaviour=behaviour),
    )
    found, expected = results(live), results(au750_batch)
    assert len(expected) == 97
    if behaviour == "gatan":  # other names, in the same order
        order = [f.identity.name for f in sorted(recorded(live), key=lambda f: f.identity.name)]
        assert len(order) == 97
        found = dict(zip(sorted(expected), (found[name] for name in order), strict=True))
    assert_same(found, expected)
    assert reasons(live) == {}


def test_stacks_plane_by_plane(simulated_profile: Path, place: Settings, tmp_path: Path) -> None:
    frames = tmp_path / "frames"

    def write() -> None:
        for k in range(3):
            write_tiff(frames / f"single{k}.tif", picture(k))
            stack = picture(100 + k, (4, SIZE, SIZE))
            (frames / f"stack{k}.dm4").write_bytes(encode_dm4(stack))

    live = watched(simulated_profile, frames, place, write)
    batch = analysed(simulated_profile, [frames], place)
    names = {f"single{k}.tif" for k in range(3)} | {
        f"stack{k}.dm4#{i}" for k in range(3) for i in range(4)
    }
    assert set(results(batch)) == names
    assert len({r.probabilities.tobytes() for r in results(batch).values()}) == len(names)
    assert_same(results(live), results(batch))
    assert len(recorded(live)) == len(names)


def test_a_draft_that_was_recorded_is_superseded(
    simulated_profile: Path, place: Settings, tmp_path: Path
) -> None:
    frames = tmp_path / "frames"
    path = write_tiff(frames / "sub" / "a.tif", picture(1))
    write_tiff(frames / "b.tif", picture(2))
    witness = Witness()

    def replace() -> None:
        until(lambda: len(witness.frames) == 2)
        write_tiff(tmp_path / "final", picture(3)).replace(path)

    live = watched(simulated_profile, frames, place, replace, witness=witness)
    assert [(f.identity.name, f.superseded_by) for f in recorded(live)] == [
        ("sub/a.tif", 3), ("b.tif", None), ("sub/a.tif", None),
    ]  # fmt: skip
    batch = analysed(simulated_profile, [frames], place)
    assert_same(results(live), results(batch))
    with open_history(live) as history:
        draft = history.result(1, results(live)["b.tif"].revision)
        assert history.count() == (2, 0)
    assert draft is not None
    assert not np.array_equal(draft.probabilities, results(batch)["sub/a.tif"].probabilities)


def test_a_version_that_cannot_be_read_supersedes_until_it_is_put_right(
    simulated_profile: Path, place: Settings, tmp_path: Path
) -> None:
    frames = tmp_path / "frames"
    path = write_tiff(frames / "a.tif", picture(1))
    good = path.read_bytes()
    witness = Witness()

    def replace() -> None:
        until(lambda: len(witness.frames) == 1)
        path.write_bytes(b"this is no frame at all")
        until(lambda: len(witness.frames) == 2)
        path.write_bytes(good)
        until(lambda: len(witness.frames) == 3)

    live = watched(simulated_profile, frames, place, replace, witness=witness)
    assert [f.superseded_by for f in recorded(live)] == [2, 3, None]
    assert list(results(live)) == ["a.tif"]
    assert reasons(live) == {}


def test_a_touched_file_is_no_new_frame(
    simulated_profile: Path, place: Settings, tmp_path: Path
) -> None:
    frames = tmp_path / "frames"
    path = write_tiff(frames / "a.tif", picture(1))
    witness = Witness()

    def touch() -> None:
        until(lambda: len(witness.frames) == 1)
        os.utime(path, ns=(1, 1))
        write_tiff(frames / "b.tif", picture(2))
        until(lambda: len(witness.frames) == 2)

    live = watched(simulated_profile, frames, place, touch, witness=witness)
    assert [f.identity.name for f in recorded(live)] == ["a.tif", "b.tif"]
    again = watched(simulated_profile, frames, place, resume=True)
    assert again != live  # the first is done: a new run
    assert len(recorded(again)) == 2
