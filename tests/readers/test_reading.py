"""Pixels through every way a file can hold them; silence; threads; speed."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image

from pychip_live.errors import UnsupportedError
from pychip_live.readers import SUFFIXES, evidence, open_file
from pychip_live.readers.luminance import luminance


def read_all(path: Path) -> list[NDArray[Any]]:
    with open_file(path) as opened:
        return [opened.read(plane).pixels for plane in range(opened.n_planes)]


def noise(dtype: str, shape: tuple[int, ...] = (150, 130)) -> NDArray[Any]:
    rng = np.random.default_rng(5)
    if np.dtype(dtype).kind == "f":
        return rng.normal(0, 1000, shape).astype(dtype)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)


DTYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "f2", "f4", "f8", "u8", "i8"]
WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "big endian": {"byteorder": ">"},
    "bigtiff": {"bigtiff": True},
    "strips": {"rowsperstrip": 7},
    "tiles": {"tile": (64, 48)},
    "lzw": {"compression": "lzw"},
    "zlib": {"compression": "zlib", "rowsperstrip": 16},
    "zlib, big endian, tiles": {"compression": "zlib", "byteorder": ">", "tile": (32, 32)},
    "packbits": {"compression": "packbits"},
    "zstd": {"compression": "zstd"},
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("way", WAYS)
def test_tiff(tmp_path: Path, dtype: str, way: str) -> None:
    path, pixels = tmp_path / "frame.tif", noise(dtype)
    tifffile.imwrite(path, pixels, **WAYS[way])
    # uncompressed tiles at the edge are padded with zeros, which cannot be told from a gap
    assert evidence(path).complete == (way != "tiles")
    (got,) = read_all(path)
    assert got.dtype == pixels.dtype
    np.testing.assert_array_equal(got, pixels)


@pytest.mark.parametrize("way", ["pages", "imagej", "ome", "one directory", "lzw"])
def test_tiff_stack_plane_by_plane(tmp_path: Path, way: str) -> None:
    path, stack = tmp_path / "stack.tif", noise("u2", (5, 40, 30))
    options: dict[str, dict[str, Any]] = {
        "pages": {"photometric": "minisblack"},
        "imagej": {"imagej": True},
        "ome": {"ome": True, "photometric": "minisblack"},
        "one directory": {"photometric": "minisblack", "truncate": True},
        "lzw": {"photometric": "minisblack", "compression": "lzw"},
    }
    tifffile.imwrite(path, stack, **options[way])
    assert evidence(path).complete
    np.testing.assert_array_equal(read_all(path), stack)
    with open_file(path) as opened:
        np.testing.assert_array_equal(opened.read(3).pixels, stack[3])
        for plane in (-1, 5):
            with pytest.raises(IndexError):
                opened.read(plane)


@pytest.mark.parametrize("way", ["imagej", "ome", "shaped"])
def test_4d_is_refused_by_name(tmp_path: Path, way: str) -> None:
    path, stack = tmp_path / "stack.tif", noise("u2", (3, 2, 40, 30))
    options: dict[str, dict[str, Any]] = {
        "imagej": {"imagej": True, "metadata": {"axes": "TZYX"}},
        "ome": {"ome": True, "photometric": "minisblack", "metadata": {"axes": "TZYX"}},
        "shaped": {"photometric": "minisblack"},
    }
    tifffile.imwrite(path, stack, **options[way])
    with pytest.raises(UnsupportedError, match=r"4 dimensions.*save one"):
        open_file(path)


def test_one_file_of_an_ome_set_is_one_frame(tmp_path: Path) -> None:
    """Each file of a set describes the whole set."""
    path, pixels = tmp_path / "set_t003_c1.ome.tif", noise("u2")
    said = '<OME><Image><Pixels SizeC="2" SizeZ="1" SizeT="50"></Pixels></Image></OME>'
    tifffile.imwrite(path, pixels, description=said, metadata=None)
    assert evidence(path).complete
    np.testing.assert_array_equal(read_all(path), pixels[None])


def test_complex_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "fft.tif"
    tifffile.imwrite(path, noise("f4").astype(np.complex64))
    with pytest.raises(UnsupportedError, match="complex"):
        open_file(path)


@pytest.mark.parametrize("mode", ["L", "I;16", "RGB", "RGBA", "P", "LA", "1"])
def test_png_and_tiff_of_a_grey_image_give_its_values(tmp_path: Path, mode: str) -> None:
    grey = noise("u2" if mode == "I;16" else "u1")
    image = Image.fromarray(grey)
    if mode == "P":
        image.putpalette([value for value in range(256) for _ in range(3)])
    elif mode == "1":
        image = image.convert("1", dither=Image.Dither.NONE)
        grey = np.asarray(image)
    elif mode != "I;16":
        image = image.convert(mode)
    for suffix in (".png", ".tif"):
        path = tmp_path / f"frame{suffix}"
        image.save(path)
        (got,) = read_all(path)
        assert got.dtype == grey.dtype
        np.testing.assert_array_equal(got, grey)


def test_sixteen_bit_colour_png_stays_sixteen_bit(tmp_path: Path) -> None:
    import imagecodecs

    grey = noise("u2")
    path = tmp_path / "frame.png"
    path.write_bytes(imagecodecs.png_encode(np.stack([grey] * 3, axis=-1)))
    np.testing.assert_array_equal(read_all(path)[0], grey)


@given(
    hnp.arrays(
        st.sampled_from([np.dtype(t) for t in ("u1", "i2", "u2", "i4", "u4", "u8", "i8")]),
        st.tuples(st.integers(1, 5), st.integers(1, 5)),
    )
)
def test_luminance_of_grey_is_exact(grey: NDArray[Any]) -> None:
    np.testing.assert_array_equal(luminance(np.stack([grey] * 4, axis=-1)), grey)
    # one coloured pixel sends the rest through the weights
    colour = np.zeros((grey.shape[0], grey.shape[1] + 1, 3), grey.dtype)
    colour[:, :-1] = grey[..., None]
    colour[0, -1, 0] = 100
    got = luminance(colour)
    np.testing.assert_array_equal(got[:, :-1], grey)
    assert got[0, -1] == 30


def test_luminance_weights() -> None:
    primary = np.eye(3)[None] * 1000
    np.testing.assert_array_equal(luminance(primary.astype(np.uint16)), [[299, 587, 114]])
    np.testing.assert_allclose(luminance(primary.astype(np.float32)), [[299, 587, 114]])


def test_suffixes_are_lower_case() -> None:
    assert {".dm3", ".dm4", ".tif", ".tiff", ".png", ".jpg", ".mrc", ".ser", ".emd"} <= SUFFIXES
    assert all(suffix == suffix.lower() and suffix[0] == "." for suffix in SUFFIXES)


SILENT = """
import sys, threading
from pathlib import Path
from pychip_live.errors import ReadError
from pychip_live.readers import evidence, open_file

def read(paths):
    for path in paths:
        for call in (evidence, open_file):
            try:
                opened = call(path)
            except ReadError:
                break
        else:
            for plane in range(opened.n_planes):
                try:
                    opened.read(plane)
                except ReadError:
                    pass

paths = sorted(p for folder in sys.argv[1:] for p in Path(folder).rglob("*") if p.is_file())
threads = [threading.Thread(target=read, args=(paths[i::3],)) for i in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def test_reading_never_prints(shared_data: Path) -> None:
    """At the level of the process, where C libraries print too, and from threads."""
    folders = [str(shared_data / name) for name in ("containers", "hostile")]
    child = subprocess.run(
        [sys.executable, "-c", SILENT, *folders], capture_output=True, text=True, timeout=120
    )
    assert (child.returncode, child.stdout, child.stderr) == (0, "", "")


def test_one_file_from_many_threads(tmp_path: Path) -> None:
    path, stack = tmp_path / "stack.tif", noise("u2", (16, 200, 100))
    tifffile.imwrite(path, stack, photometric="minisblack", compression="lzw")
    got: dict[int, NDArray[Any]] = {}
    with open_file(path) as opened:
        threads = [
            threading.Thread(target=lambda i=i: got.update({i: opened.read(i).pixels}))
            for i in range(16)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    np.testing.assert_array_equal([got[i] for i in range(16)], stack)


def test_a_plain_frame_takes_a_few_milliseconds(tmp_path: Path) -> None:
    path = tmp_path / "frame.tif"
    tifffile.imwrite(path, noise("u2", (1024, 1024)))
    seconds = []
    for _ in range(15):
        start = time.perf_counter()
        assert evidence(path).complete
        with open_file(path) as opened:
            opened.read(0)
        seconds.append(time.perf_counter() - start)
    # 0.4 ms measured; the limit leaves room for a loaded machine
    assert median(seconds) < 0.02
