"""The true phase fractions of a simulated run, as a table beside the frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pychip_live.errors import UsageError

TRUTH_FILE = "truth.csv"
"""Name of the table in the folder of the frames."""


@dataclass(frozen=True, slots=True)
class Truth:
    """One frame.

    Parameters
    ----------
    frame
        Path relative to the folder, with forward slashes.
    time
        Start of the acquisition, aware.
    fractions
        Share of the frame's pixels by phase, summing to 1.
    """

    frame: str
    time: datetime
    fractions: Mapping[str, float]


class TruthTable:
    """Appends to ``truth.csv``: columns ``frame,time``, then one a phase.

    A line appears as a whole: it is one write that ends in a line break, and :func:`read_truth`
    ignores a line without one.

    Parameters
    ----------
    folder
        Folder of the frames; made if missing.
    phases
        Names of the phases, in the order of the columns.

    Raises
    ------
    UsageError
        If the folder holds a table already.
    """

    def __init__(self, folder: Path, phases: tuple[str, ...]) -> None:
        self.path = folder / TRUTH_FILE
        self._phases = phases
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with self.path.open("xb") as file:
                file.write(",".join(["frame", "time", *phases]).encode() + b"\n")
        except FileExistsError:
            raise UsageError(
                f"{self.path} holds the truth of an earlier simulation; choose an empty folder"
            ) from None

    def append(self, truth: Truth) -> None:
        """Add one frame; on disk when this returns, as far as other processes can see."""
        shares = [repr(truth.fractions[phase]) for phase in self._phases]
        line = ",".join([truth.frame, truth.time.isoformat(), *shares]) + "\n"
        # unbuffered, so that the line is one system call
        with self.path.open("ab", buffering=0) as file:
            file.write(line.encode())


def read_truth(folder: Path) -> list[Truth]:
    """Read the table, also while it is being written.

    Parameters
    ----------
    folder
        Folder of the frames.

    Returns
    -------
    list of Truth
        In the order of acquisition.

    Raises
    ------
    UsageError
        If the folder has no table.
    """
    path = folder / TRUTH_FILE
    try:
        whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
    except FileNotFoundError:
        raise UsageError(
            f"{path} does not exist; only folders filled by a simulated specimen have it"
        ) from None
    header, *lines = whole.split("\n")
    phases = header.split(",")[2:]
    rows = []
    for line in lines:
        frame, time, *shares = line.split(",")
        fractions = dict(zip(phases, map(float, shares), strict=True))
        rows.append(Truth(frame, datetime.fromisoformat(time), fractions))
    return rows
