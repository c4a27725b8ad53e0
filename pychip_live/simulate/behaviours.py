"""How a file reaches the acquisition folder: the habits of real writers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

Behaviour = Literal["atomic", "grow", "preallocate", "replace", "direct", "gatan"]
"""atomic: a temporary name, then renamed; the file is whole when its name appears.
grow: appended piece by piece under its name.
preallocate: full size first (zeros), then filled piece by piece.
replace: another file first, later replaced under the same name.
direct: one plain write.
gatan: one plain write, in the tree of Gatan in-situ (:func:`gatan_name`)."""

TEMPORARY_SUFFIX = ".part"
"""Appended to the name of a file that is not there yet."""

_PIECES = 8
_RENAME_PATIENCE_S = 10.0

Pause = Callable[[float], object]
"""Sleeps that many seconds, or returns earlier when everything shall end."""


def deliver(
    path: Path,
    data: bytes,
    behaviour: Behaviour,
    *,
    duration_s: float,
    draft: bytes,
    pause: Pause = time.sleep,
) -> None:
    """Bring one file into the folder; it is complete on return.

    Parameters
    ----------
    path
        Final name; missing folders above it are made.
    data
        Final content.
    behaviour
        How.
    duration_s
        Time from the first byte to the last, s, of the behaviours that take time.
    draft
        What ``replace`` shows first.
    pause
        Sleep; one that returns at once turns the rest into a plain write.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    step = duration_s / _PIECES
    size = max(1, -(-len(data) // _PIECES))
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    match behaviour:
        case "atomic":
            _rename_into_place(path, data)
        case "grow":
            with path.open("wb") as file:
                for piece in pieces:
                    file.write(piece)
                    file.flush()
                    pause(step)
        case "preallocate":
            with path.open("wb") as file:
                file.truncate(len(data))
                for piece in pieces:
                    pause(step)
                    file.write(piece)
                    file.flush()
        case "replace":
            path.write_bytes(draft)
            pause(duration_s)
            _rename_into_place(path, data)
        case "direct" | "gatan":
            path.write_bytes(data)


def gatan_name(name: str, index: int, rate: float, suffix: str) -> Path:
    """Relative path of a frame in the tree of Gatan in-situ.

    ``name/Hour_00/Minute_00/Second_00/name_Hour_00_Minute_00_Second_00_Frame_0000.dm4``; the
    frame's number starts again in each Second folder.

    Parameters
    ----------
    name
        Of the series.
    index
        Number of the frame from the start of the series.
    rate
        Frames per second.
    suffix
        File name suffix with its dot.
    """
    # the tolerance is for rates that are no binary fraction
    second = int(index / rate + 1e-9)
    first = math.ceil((second - 1e-9) * rate) if second else 0
    hours, minutes, seconds = second // 3600, second // 60 % 60, second % 60
    folders = [f"Hour_{hours:02d}", f"Minute_{minutes:02d}", f"Second_{seconds:02d}"]
    file = "_".join([name, *folders, f"Frame_{index - first:04d}"]) + suffix
    return Path(name, *folders, file)


def _rename_into_place(path: Path, data: bytes) -> None:
    """Write under a temporary name, then take the final one in one step."""
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    temporary.write_bytes(data)
    deadline = time.monotonic() + _RENAME_PATIENCE_S
    while True:
        try:
            temporary.replace(path)
        except PermissionError:
            # Windows refuses while a reader has the old file open
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return
