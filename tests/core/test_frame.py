from __future__ import annotations

import numpy as np
import pytest

from pychip_live.core.frame import Calibration, Frame, Metadata, digest


@pytest.mark.parametrize(
    "dtype", ["bool", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"]
)
def test_every_real_type_is_a_frame(dtype: str) -> None:
    frame = Frame(np.zeros((2, 3), dtype))
    assert frame.shape == (2, 3)
    assert frame.calibration is None
    assert frame.metadata == Metadata()


@pytest.mark.parametrize(
    ("pixels", "names"),
    [
        (np.zeros(3), "(3,)"),
        (np.zeros((1, 2, 3)), "(1, 2, 3)"),
        (np.zeros((0, 3)), "(0, 3)"),
        (np.zeros((3, 0)), "(3, 0)"),
        (np.zeros((2, 2), np.complex64), "complex64"),
        (np.zeros((2, 2), "S1"), "S1"),
        (np.zeros((2, 2), np.dtype("f4").newbyteorder("S")), "byte order"),
    ],
    ids=["1-D", "3-D", "no rows", "no columns", "complex", "bytes", "foreign byte order"],
)
def test_what_is_no_frame_is_refused_by_name(pixels: np.ndarray, names: str) -> None:
    with pytest.raises(ValueError, match="frame") as caught:
        Frame(pixels)
    assert names in str(caught.value)


@pytest.mark.parametrize("size", [0.0, -1.0, float("nan"), float("inf")])
def test_pixel_size_is_a_positive_number(size: float) -> None:
    with pytest.raises(ValueError, match="positive number"):
        Calibration(size, "nm")


def test_calibration_needs_a_unit() -> None:
    with pytest.raises(ValueError, match="unit"):
        Calibration(1.0, "")
    assert Calibration(0.5, "1/nm") == Calibration(0.5, "1/nm")


def test_frame_does_not_change() -> None:
    frame = Frame(np.zeros((2, 2)))
    with pytest.raises(AttributeError):
        frame.calibration = Calibration(1, "nm")  # type: ignore[misc]


def test_digest_is_that_of_type_shape_and_pixels() -> None:
    pixels = np.arange(6, dtype=np.uint16).reshape(2, 3)
    changed = pixels.copy()
    changed[1, 2] = 0
    digests = {
        digest(pixels),
        digest(changed),
        digest(pixels.reshape(3, 2)),
        digest(pixels.view(np.int16)),
        digest(pixels.astype(np.uint32)),
    }
    assert len(digests) == 5
    assert digest(np.asfortranarray(pixels)) == digest(pixels)
    assert digest(pixels > 2) != digest(pixels > 3)
