"""Half-written files are awaited; a file said to be complete has all of its pixels."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import psutil
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from pychip_live.errors import IncompleteError, ReadError
from pychip_live.readers import evidence, open_file
from pychip_live.readers.base import BLOCK, TAIL

REAL = [
    "openncem/ncempy/data/dmTest_float32_nonSquare_diffPixelSize.dm3",
    "openncem/ncempy/data/dmTest_float32_nonSquare_diffPixelSize.dm4",
    "rosettasciio/digitalmicrograph/3D/test-1.dm4",
    "rosettasciio/tiff/tiff_hamamatsu_unz/test_hamamatsu_streak_OTHER.tif",
    "rosettasciio/tiff/test_loading_image_saved_with_imageJ_stack.tif",
    "image_tiff/tests/benches/kodim02-lzw.tif",
    "pillow/Tests/images/tiff_tiled_raw.tif",
    "image_tiff/tests/images/bigtiff/BigTIFF.tif",
    "openncem/ncempy/data/L2083-K-4-1/ReconstructEDSTomo/TomVizAlign.png",
    "pillow/Tests/images/exif-200dpcm.jpg",
    "openncem/ncempy/data/STEM HAADF Diffraction Micro.emd",
    "openncem/ncempy/data/Camera Ceta Diffraction Micro.emd",
    "scifireaders/tests/readers/microscopy/em/tem/EMDReader_SpectrumImage_Si.emd",
    "rosettasciio/emd/Si100_3D.emd",
    "rosettasciio/mrc/20241021_00405_movie.mrc",
    "openncem/ncempy/data/L2083-K-4-1/ConvertBrukerToEMD/Input/After HAADF 130mm_1.ser",
    "rosettasciio/tia/old/16x16x5_STEM_BF_DF_preview_1.ser",
]

# formats without an end mark: fewer zeros than TAIL at the end cannot be told from dark pixels
RAW = {".tif", ".mrc", ".ser"}


def read_all(path: Path) -> list[NDArray[Any]]:
    with open_file(path) as opened:
        return [opened.read(plane).pixels for plane in range(opened.n_planes)]


def cuts(size: int) -> list[int]:
    rng = np.random.default_rng(size)
    near_ends = [1, 4, 8, 16, 100, size // 2, *(size - n for n in (1, 2, 8, 9, 16, 17, 64, 300))]
    near_ends += [int(size * share) for share in (0.1, 0.9, 0.99, 0.999, 0.9999)]
    pages = [4096 * page for page in (1, 2, size // 4096)]
    drawn = rng.integers(1, size, 15).tolist()
    return sorted({cut for cut in near_ends + pages + drawn if 0 < cut < size})


@pytest.mark.parametrize("name", REAL)
def test_a_cut_file_is_awaited(shared_data: Path, tmp_path: Path, name: str) -> None:
    source = shared_data / "containers" / name
    whole, want = source.read_bytes(), read_all(source)
    path = tmp_path / source.name
    for cut in cuts(len(whole)):
        path.write_bytes(whole[:cut])
        found = evidence(path)
        if found.complete:
            # what is missing belongs to no pixel, for example padding
            assert all(map(np.array_equal, read_all(path), want)), cut
            continue
        assert found.awaited
        if not found.suspicious:
            with pytest.raises(IncompleteError):
                open_file(path)


@pytest.mark.parametrize("name", REAL)
def test_a_preallocated_file_is_awaited(shared_data: Path, tmp_path: Path, name: str) -> None:
    source = shared_data / "containers" / name
    whole, want = source.read_bytes(), read_all(source)
    path = tmp_path / source.name
    for cut in cuts(len(whole)):
        path.write_bytes(whole[:cut] + bytes(len(whole) - cut))
        if source.suffix in RAW and len(whole) - cut < TAIL:
            continue
        found = evidence(path)
        if found.complete:
            assert all(map(np.array_equal, read_all(path), want)), cut
        else:
            assert found.awaited


def test_metadata_that_are_not_filled_yet_are_awaited(shared_data: Path, tmp_path: Path) -> None:
    """The pixels of this stack lie before its metadata."""
    name = "scifireaders/tests/readers/microscopy/em/tem/EMDReader_SpectrumImage_Si.emd"
    source = shared_data / "containers" / name
    whole = source.read_bytes()
    path = tmp_path / "half.emd"
    path.write_bytes(whole[:563_855] + bytes(len(whole) - 563_855))
    found = evidence(path)
    assert found.suspicious
    assert "metadata" in found.awaited


def test_shorter_dark_ends_than_tail_are_unknowable(tmp_path: Path) -> None:
    """The limit of what evidence can tell, written down."""
    path = tmp_path / "frame.tif"
    tifffile.imwrite(path, np.full((64, 64), 9, np.uint8), metadata=None)
    data = path.read_bytes()
    path.write_bytes(data[:-TAIL] + bytes(TAIL))
    assert evidence(path).suspicious
    path.write_bytes(data[: 1 - TAIL] + bytes(TAIL - 1))
    assert evidence(path).complete


def mrc(path: Path, pixels: NDArray[np.uint16]) -> None:
    ny, nx = pixels.shape
    header = struct.pack("<4i", nx, ny, 1, 6).ljust(208, b"\0") + b"MAP DD\0\0"
    path.write_bytes(header.ljust(1024, b"\0") + pixels.tobytes())


def plain_tiff(path: Path, pixels: NDArray[np.uint16]) -> None:
    tifffile.imwrite(path, pixels)


def tiled_tiff(path: Path, pixels: NDArray[np.uint16]) -> None:
    tifffile.imwrite(path, pixels, tile=(64, 64), bigtiff=True)


def stack_tiff(path: Path, pixels: NDArray[np.uint16]) -> None:
    tifffile.imwrite(path, pixels.reshape(4, 256, 1024), photometric="minisblack")


@pytest.mark.parametrize("write", [mrc, plain_tiff, tiled_tiff, stack_tiff])
def test_a_hole_is_suspicious(
    tmp_path: Path, write: Callable[[Path, NDArray[np.uint16]], None]
) -> None:
    path = tmp_path / f"frame.{write.__name__}.tif"
    pixels = np.random.default_rng(1).integers(1, 4000, (1024, 1024), dtype=np.uint16)
    write(path, pixels)
    assert evidence(path).complete
    whole = path.read_bytes()
    for block in range(1, len(whole) // BLOCK - 1):
        start = block * BLOCK
        path.write_bytes(whole[:start] + bytes(BLOCK) + whole[start + BLOCK :])
        found = evidence(path)
        # the header of a page of a stack may lie in the hole
        assert not found.complete, block
        assert found.awaited


def test_a_suspicious_file_can_be_read(tmp_path: Path) -> None:
    """The caller decides when it has been quiet for long enough."""
    path = tmp_path / "dark.tif"
    tifffile.imwrite(path, np.zeros((256, 512), np.uint16))
    found = evidence(path)
    assert (found.complete, found.suspicious) == (False, True)
    assert "zeros" in found.awaited
    assert not read_all(path)[0].any()


def test_dark_png_is_complete(tmp_path: Path) -> None:
    """A format with an end mark needs no patience."""
    path = tmp_path / "dark.png"
    Image.fromarray(np.zeros((1024, 1024), np.uint16)).save(path)
    assert evidence(path).complete


def test_a_growing_file_passes_through_awaited_to_complete(tmp_path: Path) -> None:
    whole = tmp_path / "whole.tif"
    pixels = np.random.default_rng(2).integers(1, 4000, (128, 128), dtype=np.uint16)
    tifffile.imwrite(whole, pixels, compression="lzw")
    data = whole.read_bytes()
    path = tmp_path / "growing.tif"
    path.touch()
    states = [evidence(path).complete]
    with path.open("ab") as file:
        for start in range(0, len(data), 4000):
            file.write(data[start : start + 4000])
            file.flush()
            states.append(evidence(path).complete)
    assert states == [False] * (len(states) - 1) + [True]
    np.testing.assert_array_equal(read_all(path)[0], pixels)


def test_a_file_replaced_between_open_and_read_is_never_mixed(tmp_path: Path) -> None:
    path, other = tmp_path / "stack.tif", tmp_path / "other.tif"
    tifffile.imwrite(path, np.ones((3, 64, 64), np.uint16), photometric="minisblack")
    tifffile.imwrite(other, np.full((3, 64, 64), 2, np.uint16), photometric="minisblack")
    opened = open_file(path)
    assert opened.read(0).pixels.max() == 1
    shutil.copystat(path, other)
    other.replace(path)
    with pytest.raises(IncompleteError, match="changed"):
        opened.read(1)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        opened.read(1)


def test_what_looks_damaged_while_it_is_replaced_is_awaited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "packed.tif"
    pixels = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
    tifffile.imwrite(path, pixels, compression="zlib", photometric="minisblack")
    opened = open_file(path)
    decode = opened._pixels

    def replaced_meanwhile(file: BinaryIO, plane: int) -> NDArray[Any]:
        path.write_bytes(path.read_bytes()[:200] + bytes(5000))
        return decode(file, plane)

    monkeypatch.setattr(opened, "_pixels", replaced_meanwhile)
    with pytest.raises(IncompleteError, match="changed"):
        opened.read(0)


def test_no_handle_stays_open(tmp_path: Path, shared_data: Path) -> None:
    """Otherwise a writer on Windows could not rename over the file."""
    names = [name for name in REAL if not name.endswith("dm3")]
    kept = []
    for name in names:
        path = tmp_path / Path(name).name
        shutil.copy(shared_data / "containers" / name, path)
        evidence(path)
        opened = open_file(path)
        opened.read(0)
        kept.append(opened)
    held = {Path(file.path).parent for file in psutil.Process().open_files()}
    assert tmp_path not in held


@pytest.mark.parametrize("suffix", [".dm4", ".tif", ".png", ".mrc", ".emd", ".ser", ".jpg"])
def test_the_name_does_not_decide(shared_data: Path, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"renamed{suffix}"
    shutil.copy(shared_data / "containers" / "pillow/Tests/images/7x13.png", path)
    with open_file(path) as opened:
        assert opened.format == "PNG"


def test_damage_at_a_zero_end_is_awaited_but_open_says_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "frame.bmp"
    path.write_bytes(b"BM" + bytes(range(200)) + bytes(50))
    assert evidence(path).suspicious
    with pytest.raises(ReadError, match="no format that is read"):
        open_file(path)
