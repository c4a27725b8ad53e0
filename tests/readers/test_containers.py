"""Every real file is read right, checked by another reader, or refused by name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
from ncempy.io import dm, ser
from numpy.typing import NDArray
from PIL import Image

from pychip_live.errors import CorruptError, IncompleteError, ReadError, UnsupportedError
from pychip_live.readers import evidence, open_file

N_FILES = 333
CMYK = "CMYK print colours"
SPECTRUM = "spectr"
COMPLEX = "complex"

# file (end of its path) -> error class and words of its reason
REFUSED: dict[str, tuple[type[ReadError], str]] = {
    "geo-5b.tif": (UnsupportedError, "5 channels"),
    "cmyk-3c-16b.tiff": (UnsupportedError, CMYK),
    "cmyk-3c-32b-float.tiff": (UnsupportedError, CMYK),
    "seq-4c-16b-cmyk-c6e52592.tiff": (UnsupportedError, CMYK),
    "tiled-cmyk-i8.tif": (UnsupportedError, CMYK),
    "tiff_strip_cmyk_jpeg.tif": (UnsupportedError, CMYK),
    "tiff_tiled_cmyk_jpeg.tif": (UnsupportedError, CMYK),
    "pil_sample_cmyk.jpg": (UnsupportedError, CMYK),
    "logluv-3c-16b.tiff": (UnsupportedError, "LogLuv"),
    "lab.tif": (UnsupportedError, "CIELAB"),
    "lab-green.tif": (UnsupportedError, "CIELAB"),
    "lab-red.tif": (UnsupportedError, "CIELAB"),
    "seq-3c-i16-f7fcf423.tiff": (UnsupportedError, "3 channels"),
    "seq-3c-i8-d7550ce4.tiff": (UnsupportedError, "3 channels"),
    "ojpeg-strip.tif": (UnsupportedError, "old-style JPEG"),
    "subsampled.tif": (UnsupportedError, "chroma subsampling"),
    "broken_data_stream.png": (CorruptError, "no PNG chunk"),
    "tiff_overflow_rows_per_strip.tif": (CorruptError, "needs 311916 bytes"),
    "crash-1152ec2d1a1a71395b6f2ce6721c38924d025bf3.tif": (IncompleteError, "so far"),
    "crash-2020-10-test.tif": (IncompleteError, "so far"),
    "crash-338516dbd2f0e83caddb8ce256c22db3bd6dc40f.tif": (IncompleteError, "so far"),
    "crash-86214e58da443d2b80820cff9677a38a33dcbbca.tif": (IncompleteError, "so far"),
    "oom-225817ca0f8c663be7ab4b9e717b02c661e66834.tif": (IncompleteError, "so far"),
    "truncated_image.png": (IncompleteError, "so far"),
    "truncated_jpeg.jpg": (IncompleteError, "end-of-image"),
    "ref_F_0_1.dm4": (UnsupportedError, SPECTRUM),
    "ref_F_1_1.dm3": (UnsupportedError, SPECTRUM),
    "ref_F_1_1.dm4": (UnsupportedError, SPECTRUM),
    "ref_F_2_1.dm3": (UnsupportedError, SPECTRUM),
    "ref_F_2_1.dm4": (UnsupportedError, SPECTRUM),
    "ref_T_0_1.dm4": (UnsupportedError, SPECTRUM),
    "EELS_STO.dm3": (UnsupportedError, SPECTRUM),
    "2D/test-MonarcCL_spectrum-SI.dm4": (UnsupportedError, "spectrum image"),
    "2D/test-MonoCL_spectrum-SI.dm4": (UnsupportedError, "spectrum image"),
    "2D/test-13.dm4": (UnsupportedError, COMPLEX),
    "2D/test-28.dm4": (UnsupportedError, COMPLEX),
    "2D/test-5.dm4": (UnsupportedError, COMPLEX),
    "3D/test-13.dm4": (UnsupportedError, COMPLEX),
    "3D/test-27.dm4": (UnsupportedError, COMPLEX),
    "3D/test-3.dm3": (UnsupportedError, COMPLEX),
    "3D/test-5.dm3": (UnsupportedError, COMPLEX),
    "example_bytes_string_metadata.emd": (UnsupportedError, SPECTRUM),
    "example_object_dtype_data.emd": (UnsupportedError, "object"),
    "example_spectrum.emd": (UnsupportedError, SPECTRUM),
    "16x16-diffraction_imagel_5x5x256x256_EDS_copy_1.ser": (UnsupportedError, SPECTRUM),
    "16x16-2_point-spectra-2x1024_1.ser": (UnsupportedError, SPECTRUM),
    "16x16-point_spectrum-1x1024_1.ser": (UnsupportedError, SPECTRUM),
    "16x16-spectrum_image-5x5x1024_1.ser": (UnsupportedError, SPECTRUM),
    "more_ser_then_emi_metadata_2.ser": (UnsupportedError, SPECTRUM),
}

# dark or unfinished: complete by structure only
SUSPICIOUS = {
    "child_ifd_jpeg.tiff",
    "imagedraw_polygon_width_I.tiff",
    "imagedraw_rectangle_I.tiff",
    "multipage.tiff",
    "multipage_out_of_order.tiff",
    "test_loading_image_saved_with_DM_stack.tif",
    "test_hamamatsu_streak_FOCUS.tif",
    "03_Scanning Preview_1.ser",
    "Si100_2D_3D_DPC_potential_2slices.emd",
    "example_axis_len_1.emd",
}


@pytest.fixture(scope="module")
def files(shared_data: Path) -> list[Path]:
    return sorted(p for p in (shared_data / "containers").rglob("*") if p.is_file())


def refusal(path: Path) -> tuple[type[ReadError], str] | None:
    if path.parent.name == "1D":
        return UnsupportedError, SPECTRUM
    end = f"/{path.as_posix()}"
    return next((why for name, why in REFUSED.items() if end.endswith(f"/{name}")), None)


def read_all(path: Path) -> list[NDArray[Any]]:
    with open_file(path) as opened:
        frames = [opened.read(plane).pixels for plane in range(opened.n_planes)]
        assert frames[0].shape == opened.shape
        assert frames[0].dtype == opened.dtype
        assert all(pixels.dtype.isnative for pixels in frames)
    return frames


def test_all_files_are_there(files: list[Path]) -> None:
    assert len(files) == N_FILES
    named = {name for name in REFUSED for path in files if path.as_posix().endswith(f"/{name}")}
    assert named == set(REFUSED)


def test_refused_by_name(files: list[Path]) -> None:
    for path in files:
        why = refusal(path)
        if why is None:
            continue
        kind, words = why
        with pytest.raises(ReadError, match=re.escape(words)) as caught, open_file(path) as opened:
            opened.read(0)
        assert type(caught.value) is kind, path
        assert str(path) in str(caught.value)


def test_evidence_agrees_with_reading(files: list[Path]) -> None:
    for path in files:
        if refusal(path) is None:
            found = evidence(path)
            assert found.suspicious == (path.name in SUSPICIOUS), (path, found)
            assert found.complete != found.suspicious, (path, found)
            assert bool(found.awaited) != found.complete, (path, found)


def luma(rgb: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(rgb[..., :3].astype(np.float64) @ [0.299, 0.587, 0.114])


def same(got: NDArray[Any], want: NDArray[Any], path: Path, colour: bool = False) -> None:
    assert got.shape == want.shape, path
    if not colour:
        np.testing.assert_array_equal(got, want, err_msg=str(path))
        return
    tolerance = 0.5001 if got.dtype.kind in "iu" else 1e-6 * float(np.abs(want).max() or 1)
    assert np.abs(got.astype(np.float64) - want).max() <= tolerance, path


def tiff_pages(path: Path) -> list[tuple[NDArray[Any], bool]]:
    """Pixels by tifffile's own assembly, and whether they were colours."""
    out = []
    with tifffile.TiffFile(path) as opened:
        pages = list(opened.pages) if len(opened.series) > 1 else None
        planes: list[Any] = pages if pages else list(opened.series[0].pages)
        for page in planes:
            pixels = page.asarray()
            key = page.keyframe
            if int(key.photometric) == 3:
                table = np.moveaxis(key.colormap, 0, -1) // 256
                out.append((luma(table[pixels.astype(int)]), True))
            elif key.samplesperpixel >= 3:
                planar = key.planarconfig == 2 and pixels.shape[0] == key.samplesperpixel
                out.append((luma(np.moveaxis(pixels, 0, -1) if planar else pixels), True))
            else:
                if pixels.ndim == 3:
                    pixels = pixels[0] if key.planarconfig == 2 else pixels[..., 0]
                if 262 in key.tags and int(key.photometric) == 0:
                    top = 2**key.bitspersample - 1
                    pixels = ~pixels if pixels.dtype == bool else (top - pixels.astype(np.int64))
                out.append((pixels, False))
    return out


def test_tiff_pixels(files: list[Path]) -> None:
    n_checked = 0
    for path in files:
        if path.suffix not in (".tif", ".tiff") or refusal(path):
            continue
        got, want = read_all(path), tiff_pages(path)
        assert len(got) == len(want), path
        for plane, (pixels, colour) in zip(got, want, strict=True):
            same(plane, pixels, path, colour)
        n_checked += 1
    assert n_checked > 90


def test_same_image_in_many_encodings(files: list[Path]) -> None:
    """The names of these end in a hash of the pixels they hold."""
    groups: dict[str, list[Path]] = {}
    for path in files:
        if match := re.fullmatch(r"seq-.*-([0-9a-f]{8})\.tiff", path.name):
            groups.setdefault(match[1], []).append(path)
    several = [paths for paths in groups.values() if len(paths) > 1 and not refusal(paths[0])]
    assert len(several) == 8
    for paths in several:
        first, *others = (read_all(path)[0] for path in paths)
        for path, other in zip(paths[1:], others, strict=True):
            np.testing.assert_array_equal(first, other, err_msg=str(path))


@pytest.mark.filterwarnings("ignore:Palette images with Transparency")
def test_png_and_jpeg_pixels(files: list[Path]) -> None:
    n_checked = 0
    for path in files:
        if path.suffix not in (".png", ".jpg") or refusal(path):
            continue
        with Image.open(path) as image:
            colour = image.mode not in ("1", "L", "LA", "I", "I;16")
            pixels = np.asarray(image.convert("RGB") if colour else image)
        if pixels.ndim == 3:
            pixels = luma(pixels) if colour else pixels[..., 0]
        (got,) = read_all(path)
        same(got, pixels, path, colour)
        n_checked += 1
    assert n_checked > 70


DM_TYPES = {1: "i2", 2: "f4", 6: "u1", 7: "i4", 9: "i1", 10: "u2", 11: "u4", 12: "f8", 14: "?"}


def test_dm_values_coded_in_the_name(files: list[Path]) -> None:
    """``test-N`` holds 1…4 (2-D) or 1…8 (3-D) as DM's pixel type N."""
    n_checked = 0
    for path in files:
        match = re.fullmatch(r"test-(\d+)\.dm[34]", path.name)
        if not match or refusal(path) or int(match[1]) not in DM_TYPES:
            continue
        dtype = np.dtype(DM_TYPES[int(match[1])])
        got = np.array(read_all(path))
        n_planes = 1 if path.parent.name == "2D" else 2
        assert got.dtype == dtype, path
        assert got.shape == (n_planes, 2, 2), path
        if dtype.kind != "b":
            assert got.ravel().tolist() == list(range(1, 4 * n_planes + 1)), path
        n_checked += 1
    assert n_checked == 21


def test_dm_pixels_as_ncempy(files: list[Path]) -> None:
    n_checked = 0
    for path in files:
        if path.suffix not in (".dm3", ".dm4") or refusal(path):
            continue
        if re.fullmatch(r"test-(8|14|23)\.dm[34]", path.name):
            continue  # colours and booleans, which ncempy does not read
        want = dm.dmReader(str(path))["data"]
        want = want if want.ndim == 3 else want[None]
        got = read_all(path)
        assert len(got) == len(want), path
        for plane, pixels in zip(got, want, strict=True):
            same(plane, pixels, path)
        n_checked += 1
    assert n_checked == 26


def test_dm_colours(files: list[Path]) -> None:
    """Blue, green, red, alpha: read from the bytes where ncempy says they lie."""
    found = [p for p in files if re.fullmatch(r"test-(8|23)\.dm[34]", p.name) and not refusal(p)]
    assert len(found) == 6
    for path in found:
        with dm.fileDM(str(path)) as opened:
            offset = int(opened.dataOffset[1])
            n_planes = int(opened.zSize[1])
        raw = np.fromfile(path, np.uint8, n_planes * 16, offset=offset).reshape(-1, 2, 2, 4)
        for plane, pixels in zip(read_all(path), raw, strict=True):
            same(plane, luma(pixels[..., 2::-1]), path, colour=True)


def test_ser_pixels_as_ncempy(files: list[Path]) -> None:
    n_checked = 0
    for path in files:
        if path.suffix != ".ser" or refusal(path):
            continue
        with ser.fileSER(str(path)) as opened:
            want = [opened.getDataset(i)[0] for i in range(opened.head["ValidNumberElements"])]
        for plane, pixels in zip(read_all(path), want, strict=True):
            same(plane, pixels, path)
        n_checked += 1
    assert n_checked == 12


def test_mrc_pixels(files: list[Path]) -> None:
    n_checked = 0
    for path in files:
        if path.suffix != ".mrc":
            continue
        nx, ny, nz, mode = np.fromfile(path, "<i4", 4)
        want = np.fromfile(path, {2: "<f4", 6: "<u2"}[int(mode)], offset=1024).reshape(nz, ny, nx)
        for plane, pixels in zip(read_all(path), want, strict=True):
            same(plane, pixels, path)
        n_checked += 1
    assert n_checked == 6


EMD = {
    "Camera Ceta Diffraction Micro.emd": ("Data/Image/5c415056c9dc4df8be289b4bf4d63e8c/Data", 2),
    "STEM HAADF Diffraction Micro.emd": ("Data/Image/025eee0d3d0d4bafb553b6571ed810af/Data", 2),
    "FFTComplexEven.emd": ("Data/Image/8874d5e77c3d40eab49d4325dc25f65d/Data", 2),
    "FFTComplexOdd.emd": ("Data/Image/8874d5e77c3d40eab49d4325dc25f65d/Data", 2),
    "SI_empty selection.emd": ("Data/Image/8e128a965174400b822b63050e92e2a9/Data", 2),
    "Test SI 16x16 215 kx.emd": ("Data/Image/f03a0d4a7c05495f95856e6708f94863/Data", 2),
    "EMDReader_SpectrumImage_Si.emd": ("Data/Image/9f4e9989c30045d490f40dcf5ca5cd9d/Data", 2),
    "example_metadata.emd": ("signals/This is a test!/data", None),
    "example_signal.emd": ("signals/__unnamed__/data", 0),
    "example_axis_len_1.emd": ("test_group/data_group/data", 0),
    "Si100_3D.emd": (
        "4DSTEM_simulation/data/realslices/virtual_detector_depth0000/realslice",
        2,
    ),
}


def test_emd_pixels(files: list[Path]) -> None:
    n_checked = 0
    for path in files:
        if path.name not in EMD:
            continue
        name, axis = EMD[path.name]
        with h5py.File(path) as opened:
            want = opened[name][()]
        want = want[None] if axis is None else np.moveaxis(want, axis, 0)
        for plane, pixels in zip(read_all(path), want, strict=True):
            same(plane, pixels, path)
        n_checked += 1
    assert n_checked == len(EMD)


def test_of_several_detectors_haadf_is_read_and_said(files: list[Path]) -> None:
    path = next(p for p in files if p.name.startswith("STEM HAADF-DF4"))
    with open_file(path) as opened:
        assert opened.note == "detector HAADF, one of 4 images in the file"
