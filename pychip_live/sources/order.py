"""The order in which files were acquired, from their names and modification times.

Names are trusted within a series, times between series:

- A *series* is the files of one directory whose names differ in their last number only
  (``frame_2.dm4`` before ``frame_10.dm4``). A whole Gatan in-situ tree,
  ``<name>/Hour_00/Minute_00/Second_00/<name>_…_Frame_0000.dm4``, is one series too, ordered by
  (hour, minute, second, frame).
- Series are merged by modification time. A file whose time contradicts its number (a copy that
  did not keep times, a frame written late) takes the time of its neighbour in the series, so
  numbers always win over times.
- Equal times are broken by the natural order of the name.
- A file that was replaced after it had been handed out is ordered by its time alone: its
  number says nothing about when the new content was made (a ring of ten file names).

Modification times are compared with each other only, never with this computer's clock.
"""

from __future__ import annotations

import re
from bisect import bisect_left

OrderKey = tuple[int, tuple[str | int, ...], str]

_NUMBER = re.compile("([0-9]+)")
_GATAN = re.compile(r"(.*/)?Hour_([0-9]+)/Minute_([0-9]+)/Second_([0-9]+)", re.IGNORECASE)


def natural(name: str) -> tuple[str | int, ...]:
    """Return a sort key that compares numbers in ``name`` as numbers, letters without case."""
    parts = _NUMBER.split(name.casefold())
    return tuple(int(part) if index % 2 else part for index, part in enumerate(parts))


def series_and_counter(path: str) -> tuple[str, tuple[int, ...]]:
    """Split a path into its series and its place in it.

    Parameters
    ----------
    path
        Absolute path with ``/`` as separator.

    Returns
    -------
    series
        The path with the counting numbers replaced by ``#``.
    counter
        The numbers that count: (hour, minute, second, frame) in a Gatan tree, else the last
        number of the name; empty where the name has none.
    """
    folder, _, name = path.rpartition("/")
    stem, dot, suffix = name.rpartition(".")
    if not stem:
        stem, dot, suffix = name, "", ""
    gatan = _GATAN.fullmatch(folder)
    numbers = list(_NUMBER.finditer(stem))
    if gatan:
        tree, hour, minute, second = gatan.groups()
        frame = int(numbers[-1][0]) if numbers else 0
        pattern = _NUMBER.sub("#", stem)
        return f"{tree or ''}#/{pattern}{dot}{suffix}", (int(hour), int(minute), int(second), frame)
    if not numbers:
        return path, ()
    last = numbers[-1]
    pattern = f"{stem[: last.start()]}#{stem[last.end() :]}"
    return f"{folder}/{pattern}{dot}{suffix}", (int(last[0]),)


class AcquisitionOrder:
    """Gives each file a sort key that never changes afterwards (see the module's rules)."""

    def __init__(self) -> None:
        # Per series: (counter, time in ns) in the order of the counter; times never descend.
        self._series: dict[str, list[tuple[tuple[int, ...], int]]] = {}

    def key(self, path: str, mtime_ns: int, *, replaced: bool = False) -> OrderKey:
        """Return the sort key of a file; equal only for equal paths and times.

        Parameters
        ----------
        path
            Absolute path with ``/`` as separator.
        mtime_ns
            Modification time, ns, on whatever clock the file system uses.
        replaced
            The path had been handed out before with other content.
        """
        if replaced:
            return mtime_ns, natural(path), path
        series, counter = series_and_counter(path)
        line = self._series.setdefault(series, [])
        place = bisect_left(line, (counter,))
        if place < len(line) and line[place][0] == counter:
            return line[place][1], natural(path), path
        if place < len(line):
            mtime_ns = min(mtime_ns, line[place][1])
        if place:
            mtime_ns = max(mtime_ns, line[place - 1][1])
        line.insert(place, (counter, mtime_ns))
        return mtime_ns, natural(path), path
