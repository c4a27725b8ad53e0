from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from pychip_live.core.frame import Calibration, digest
from pychip_live.core.result import FrameIdentity
from pychip_live.core.support import UNKNOWN
from pychip_live.core.window import Limits
from pychip_live.errors import UsageError
from pychip_live.store.exports import export
from pychip_live.store.exports.overlay import scale_bar
from pychip_live.store.thumbnail import decode_thumbnail, thumbnail
from tests.store.making import CHIP, commit, enter, facts, new_record, result, support, times

ROWS, COLS = 40, 60  # chips; 403 x 604 px, so the picture is larger than the frame


def a_run(
    tmp_path: Path, *, calibration: Calibration | None = None, keep_file: bool = True
) -> tuple[Path, np.ndarray[tuple[int, int], np.dtype[np.uint16]], int]:
    about = dataclasses.replace(
        facts(0, ROWS, COLS), calibration=calibration, limits=Limits(0.0, 4000.0)
    )
    pixels = np.random.default_rng(0).integers(1500, 2500, about.shape).astype(np.uint16)
    path = tmp_path / "frame.tif"
    tifffile.imwrite(path, pixels)
    status = path.stat()
    who = FrameIdentity(
        "frame.tif",
        str(path),
        signature=(status.st_size, status.st_mtime_ns),
        digest=digest(pixels),
    )
    with new_record(tmp_path / "runs") as record:
        revision = enter(record, support())
        made = result(0, revision, (0, 1, 2), ROWS, COLS)
        made.labels[10:20, 10:20] = UNKNOWN
        # two blocks of one class: sure, and unsure
        made.labels[25:35, 5:25] = 1
        made.probabilities[25:35, 5:15] = (0, 1, 0)
        made.probabilities[25:35, 15:25] = (0.3, 0.4, 0.3)
        record.commit(
            who,
            about,
            times(0),
            embedding=None,
            masked=None,
            result=made,
            thumbnail=thumbnail((pixels / 4000).astype(np.float32)),
        )
    if not keep_file:
        path.unlink()
    return record.folder, pixels, revision


def draw(tmp_path: Path, folder: Path) -> tuple[np.ndarray, tuple[str, ...], float]:
    done = export(folder, tmp_path / "pictures", "overlay")
    (path,) = done.paths
    with Image.open(path) as picture:
        assert picture.mode == "RGB"
        drawn = np.asarray(picture).astype(float)
    return drawn, done.notes, 640 / 604


def block(drawn: np.ndarray, rows: slice, cols: slice, scale: float) -> np.ndarray:
    y = slice(round((rows.start + 1) * CHIP * scale), round((rows.stop - 1) * CHIP * scale))
    x = slice(round((cols.start + 1) * CHIP * scale), round((cols.stop - 1) * CHIP * scale))
    return drawn[y, x]


def chroma(pixels: np.ndarray) -> float:
    return float((pixels.max(axis=-1) - pixels.min(axis=-1)).mean())


def test_colours_pale_with_doubt_and_unknown_is_hatched(tmp_path: Path) -> None:
    folder, pixels, _ = a_run(tmp_path)
    drawn, notes, scale = draw(tmp_path, folder)
    assert notes == ()
    assert drawn.shape[1] == 640
    sure = chroma(block(drawn, slice(25, 35), slice(5, 15), scale))
    unsure = chroma(block(drawn, slice(25, 35), slice(15, 25), scale))
    assert sure > 2.5 * unsure > 10
    unknown = block(drawn, slice(10, 20), slice(10, 20), scale)
    assert chroma(unknown) < 1
    white = (unknown == 245).all(axis=-1).mean()
    assert 0.12 < white < 0.22
    # the remainder at the bottom and at the right has no colour, and is dark
    bottom = drawn[round(401 * scale) : round(402 * scale), :600]
    assert chroma(bottom) < 1
    assert bottom.mean() < 0.5 * pixels.mean() / 4000 * 255 + 10


@pytest.mark.parametrize("change", ["gone", "other pixels", "garbage of the same size"])
def test_the_thumbnail_stands_in_for_a_lost_file(tmp_path: Path, change: str) -> None:
    folder, pixels, _ = a_run(tmp_path, keep_file=change != "gone")
    path = tmp_path / "frame.tif"
    if change == "other pixels":
        tifffile.imwrite(path, pixels + np.uint16(1))
    elif change == "garbage of the same size":
        path.write_bytes(b"\0" * path.stat().st_size)
    drawn, notes, scale = draw(tmp_path, folder)
    assert len(notes) == 1
    assert notes[0].startswith("1 pictures are drawn from thumbnails")
    assert chroma(block(drawn, slice(25, 35), slice(5, 15), scale)) > 30


def test_tif_pictures(tmp_path: Path) -> None:
    folder, _, _ = a_run(tmp_path)
    (path,) = export(folder, tmp_path / "pictures", "overlay", "tif").paths
    assert path.suffix == ".tif"
    assert tifffile.imread(path).shape[1:] == (640, 3)


def test_a_scale_bar_only_where_the_frame_is_calibrated(tmp_path: Path) -> None:
    with_bar, _, _ = draw(tmp_path / "a", a_run_in(tmp_path / "a", Calibration(0.5, "nm")))
    without, _, _ = draw(tmp_path / "b", a_run_in(tmp_path / "b", None))
    different = np.abs(with_bar - without).max(axis=-1) > 0
    y, x = np.nonzero(different)
    assert y.min() > 300
    assert x.min() > 400
    # 50 nm = 100 px of the frame, in white
    white = (with_bar == 255).all(axis=-1)[y.min() : y.max()]
    assert int(white.sum(axis=1).max()) == pytest.approx(100 * 640 / 604, abs=2)


def a_run_in(folder: Path, calibration: Calibration | None) -> Path:
    folder.mkdir()
    return a_run(folder, calibration=calibration)[0]


@pytest.mark.parametrize(
    ("pixel_size", "unit", "width", "words", "pixels"),
    [
        (0.5, "nm", 604, "50 nm", 100),
        (2.3, "nm", 1024, "500 nm", 500 / 2.3),
        (10, "nm", 1000, "2 µm", 200),
        (0.001, "µm", 1000, "200 nm", 200),
        (0.01, "nm", 400, "1 nm", 100),
        (0.001, "nm", 1000, "200 pm", 200),
        (1.0, "um", 8000, "2 mm", 2000),
        (0.02, "1/nm", 1000, "5 1/nm", 250),
        (1e-12, "m", 512, "1e-10 m", 100),
    ],
)
def test_scale_bars_are_round(
    pixel_size: float, unit: str, width: int, words: str, pixels: float
) -> None:
    length, said = scale_bar(Calibration(pixel_size, unit), width)
    assert said == words
    assert length == pytest.approx(pixels)
    assert 0.09 * width <= length <= 0.2501 * width


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((1024, 1024), (512, 512)),
        ((300, 200), (300, 200)),
        ((4096, 100), (512, 12)),
        ((1, 9000), (1, 512)),
        ((1, 1), (1, 1)),
    ],
)
def test_thumbnails(shape: tuple[int, int], expected: tuple[int, int]) -> None:
    values = np.linspace(0, 1, shape[0] * shape[1], dtype=np.float32).reshape(shape)
    back = decode_thumbnail(thumbnail(values))
    assert back.shape == expected
    assert abs(back.mean() / 255 - values.mean()) < 0.02


def test_the_picture_of_a_lone_frame_may_be_a_file(tmp_path: Path) -> None:
    run, _, _ = a_run(tmp_path)
    exported = export(run, tmp_path / "figure.png", "overlay")
    assert exported.paths == (tmp_path / "figure.png",)
    with Image.open(tmp_path / "figure.png") as picture:
        assert picture.format == "PNG"


def test_the_pictures_of_several_frames_need_a_folder(tmp_path: Path) -> None:
    with new_record(tmp_path / "runs") as record:
        revision = enter(record, support())
        for k in range(2):
            commit(record, k, revision)
    with pytest.raises(UsageError, match="2 pictures; name a folder"):
        export(record.folder, tmp_path / "figure.png", "overlay")
