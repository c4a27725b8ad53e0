from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pychip_live.core.grid import Grid
from pychip_live.errors import GridError


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    height, width = draw(st.integers(1, 60)), draw(st.integers(1, 60))
    return Grid(draw(st.integers(1, min(height, width))), height, width)


@given(grids())
def test_chips_tile_the_frame_but_for_the_remainder(grid: Grid) -> None:
    covered = np.zeros((grid.height, grid.width), int)
    for x, y in grid.corners():
        covered[y : y + grid.chip, x : x + grid.chip] += 1
    bottom, right = grid.cropped
    assert 0 <= bottom < grid.chip
    assert 0 <= right < grid.chip
    assert (covered[: grid.height - bottom, : grid.width - right] == 1).all()
    assert covered.sum() == grid.n_chips * grid.chip**2


@given(grids())
def test_corners_run_row_by_row(grid: Grid) -> None:
    one_by_one = [grid.corner(r, c) for r in range(grid.rows) for c in range(grid.cols)]
    np.testing.assert_array_equal(grid.corners(), one_by_one)


@given(grids(), st.integers(0, 2**32))
def test_share_of_a_mask_in_each_chip(grid: Grid, seed: int) -> None:
    mask = np.random.default_rng(seed).random((grid.height, grid.width)) < 0.3
    expected = [mask[y : y + grid.chip, x : x + grid.chip].mean() for x, y in grid.corners()]
    share = grid.share_per_chip(mask)
    assert share.dtype == np.float32
    np.testing.assert_allclose(share, expected, rtol=1e-6)


def test_chip_as_large_as_the_frame() -> None:
    grid = Grid(64, 64, 64)
    assert (grid.rows, grid.cols, grid.cropped) == (1, 1, (0, 0))
    assert Grid(1, 1, 1).n_chips == 1


def test_remainder_is_reported() -> None:
    assert Grid(95, 3042, 3044).cropped == (2, 4)


@pytest.mark.parametrize(("chip", "height", "width"), [(0, 5, 5), (-3, 5, 5), (6, 5, 9), (6, 9, 5)])
def test_chip_that_does_not_fit_names_the_sizes(chip: int, height: int, width: int) -> None:
    with pytest.raises(GridError) as caught:
        Grid(chip, height, width)
    assert str(chip) in str(caught.value)
    if chip > 0:
        assert f"{width} × {height}" in str(caught.value)
        assert "at most 5 px" in str(caught.value)


@pytest.mark.parametrize(("row", "col"), [(-1, 0), (0, -1), (2, 0), (0, 3)])
def test_chip_outside_the_grid_is_refused(row: int, col: int) -> None:
    with pytest.raises(GridError, match="rows run 0…1, columns 0…2"):
        Grid(10, 25, 35).corner(row, col)
