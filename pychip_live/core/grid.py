"""The grid: square chips from the top left corner, the remainder cropped and reported."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pychip_live.errors import GridError


@dataclass(frozen=True, slots=True)
class Grid:
    """Chips of ``chip`` × ``chip`` pixels over a frame of ``height`` × ``width``.

    Parameters
    ----------
    chip
        Edge of a chip, frame pixels, ≥ 1.
    height, width
        Shape of the frame, pixels.

    Raises
    ------
    GridError
        If not a single chip fits.
    """

    chip: int
    height: int
    width: int

    def __post_init__(self) -> None:
        if self.chip < 1:
            raise GridError(f"a chip is at least 1 px wide, not {self.chip}")
        if self.chip > min(self.height, self.width):
            raise GridError(
                f"a chip of {self.chip} px does not fit a frame of {self.width} × {self.height} px "
                f"(width × height); choose at most {min(self.height, self.width)} px"
            )

    @property
    def rows(self) -> int:
        """Number of chips from top to bottom."""
        return self.height // self.chip

    @property
    def cols(self) -> int:
        """Number of chips from left to right."""
        return self.width // self.chip

    @property
    def n_chips(self) -> int:
        """Number of chips."""
        return self.rows * self.cols

    @property
    def cropped(self) -> tuple[int, int]:
        """Pixels left over at the bottom and at the right."""
        return self.height - self.rows * self.chip, self.width - self.cols * self.chip

    def corner(self, row: int, col: int) -> tuple[int, int]:
        """Left and top pixel ``(x, y)`` of a chip; GridError where there is none."""
        if not (0 <= row < self.rows and 0 <= col < self.cols):
            raise GridError(
                f"there is no chip {row},{col}: rows run 0…{self.rows - 1}, "
                f"columns 0…{self.cols - 1} (chip {self.chip} px, "
                f"frame {self.width} × {self.height} px)"
            )
        return col * self.chip, row * self.chip

    def corners(self) -> NDArray[np.int64]:
        """Left and top pixels of all chips, row by row, ``(n_chips, 2)`` as x, y."""
        rows, cols = np.divmod(np.arange(self.n_chips), self.cols)
        return np.stack([cols * self.chip, rows * self.chip], axis=1)

    def share_per_chip(self, mask: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Share of True pixels in each chip, ``(n_chips,)``, of a ``(height, width)`` mask."""
        c = self.chip
        inside = mask[: self.rows * c, : self.cols * c]
        blocks = inside.reshape(self.rows, c, self.cols, c)
        share: NDArray[np.float32] = blocks.mean(axis=(1, 3), dtype=np.float32).reshape(-1)
        return share
