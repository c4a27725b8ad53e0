from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pychip_live.embed.geometry import TILE_PX, mirror, pooling, resize, spans, tile


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 3000), chip_px=st.integers(4, 512))
def test_tiles_cover_every_chip_and_are_alike(n: int, chip_px: int) -> None:
    found = spans(n, chip_px)
    assert {k for s in found for k in range(s.start, s.stop)} == set(range(n))
    assert len({(s.stop - s.start, s.halo) for s in found}) == 1
    assert len({(s.start * chip_px - s.margin) % 32 for s in found}) == 1  # in step
    assert (found[0].stop - found[0].start) * chip_px <= max(TILE_PX, chip_px)


@pytest.mark.parametrize(
    ("chip_px", "stride", "offset"), [(16, 4, 0.0), (24, 16, -2.5), (5, 8, 1.5), (4, 16, 0.5)]
)
def test_pooling_averages_a_ramp_at_the_middle_of_each_chip(
    chip_px: int, stride: int, offset: float
) -> None:
    weights = pooling(6, 32, chip_px, stride, 40, offset)
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-6)
    # brute force: paint every feature pixel over the network pixels it stands for, 10 a pixel
    fine = (np.arange((40 * stride + 64) * 10) + 0.5) / 10 - 32
    pixel = np.floor((fine - offset) / stride)
    for chip in range(6):
        inside = (fine >= 32 + chip * chip_px) & (fine < 32 + (chip + 1) * chip_px)
        expected = np.bincount(pixel[inside].astype(int), minlength=40) / inside.sum()
        np.testing.assert_allclose(weights[chip], expected, atol=1e-6)


def test_a_tile_inside_is_a_cut_of_the_whole() -> None:
    rng = np.random.default_rng(0)
    values = rng.random((1200, 2500), np.float32)
    down, across = spans(120, 16), spans(250, 16)
    assert len(down) > 1
    assert len(across) > 2
    whole = resize(values, 120 * 16, 250 * 16)
    for row in down:
        for col in across:
            got = tile(values, 10, 16, row, col, 16)
            top, left = row.margin, col.margin
            core = got[top:, left:][: (row.stop - row.start) * 16, : (col.stop - col.start) * 16]
            expected = whole[row.start * 16 : row.stop * 16, col.start * 16 : col.stop * 16]
            np.testing.assert_allclose(core, expected, atol=1e-5)


def test_shrinking_averages_and_mirroring_repeats() -> None:
    stripes = np.tile(np.array([0, 1], np.float32), (8, 8))
    np.testing.assert_allclose(resize(stripes, 4, 8), 0.5)  # no aliasing
    small = np.arange(2, dtype=np.float32)[None]
    assert mirror(small, 0, 0, 5, 5)[0].tolist() == [0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1]
