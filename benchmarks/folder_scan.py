"""Cost of one re-scan of a watched folder that holds many old files and gets ten new ones.

Run ``python benchmarks/folder_scan.py``. Prints, per number of old files, the median time of a
re-scan, of a look at ten hinted paths, and of a naive walk (``os.scandir`` and a stat of every
file), each with its ratio to the smallest number.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pychip_live.readers import SUFFIXES
from pychip_live.sources.scan import TICK_S, TreeScanner

NEW = 10
ROUNDS = 7
PER_DIRECTORY = 25  # frames in a Second_.. folder of an in-situ tree


def flat(folder: Path, first: int, count: int) -> list[Path]:
    return [folder / f"frame_{number:06}.dm4" for number in range(first, first + count)]


def in_situ(folder: Path, first: int, count: int) -> list[Path]:
    paths: list[Path] = []
    for number in range(first, first + count):
        second, frame = divmod(number, PER_DIRECTORY)
        minute, second = divmod(second, 60)
        hour, minute = divmod(minute, 60)
        place = folder / f"Hour_{hour:02}" / f"Minute_{minute:02}" / f"Second_{second:02}"
        if frame == 0 or not paths:
            place.mkdir(parents=True, exist_ok=True)
        paths.append(place / f"frame_{frame:04}.dm4")
    return paths


def walk(folder: str) -> Iterator[tuple[str, tuple[int, int]]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from walk(entry.path)
            else:
                status = entry.stat()
                yield entry.path, (status.st_size, status.st_mtime_ns)


def measure(act: Callable[[], int], prepare: Callable[[], None]) -> float:
    """Median time of finding the ten files that ``prepare`` makes, s."""
    times = []
    for _ in range(ROUNDS):
        prepare()
        start = time.perf_counter()
        found = act()
        times.append(time.perf_counter() - start)
        if found != NEW:
            raise RuntimeError(f"{found} of {NEW} new files were found")
    return statistics.median(times)


def case(layout: Callable[[Path, int, int], list[Path]], old: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        count = 0
        newest: list[Path] = []

        def add(number: int = NEW) -> None:
            nonlocal count, newest
            newest = layout(folder, count, number)
            for path in newest:
                path.touch()
            count += number

        add(old)
        scanner = TreeScanner([temporary], SUFFIXES)
        start = time.perf_counter()
        scanner.scan()
        first = time.perf_counter() - start
        time.sleep(TICK_S)
        scanner.scan()
        rescan = measure(lambda: len(scanner.scan().seen), add)
        hints = measure(lambda: len(scanner.look(map(str, newest)).seen), add)
        known = dict(walk(temporary))

        def naive() -> int:
            now = dict(walk(temporary))
            changed = [path for path, signature in now.items() if known.get(path) != signature]
            known.update(now)
            return len(changed)

        walked = measure(naive, add)
        scanner.scan()
        time.sleep(TICK_S)
        scanner.scan()
        quiet = statistics.median(_timed(scanner.scan) for _ in range(ROUNDS))
    return {
        "first scan": first,
        "re-scan, 10 new": rescan,
        "re-scan, nothing new": quiet,
        "10 hints": hints,
        "naive walk": walked,
    }


def _timed(act: Callable[[], object]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--old", type=int, nargs="+", default=[1_000, 10_000, 50_000])
    sizes = parser.parse_args().old
    for layout in (flat, in_situ):
        rows = [case(layout, old) for old in sizes]
        print(f"\n{layout.__name__}: ms (times the first row)")
        print("old files".rjust(10), *(name.rjust(22) for name in rows[0]))
        for old, row in zip(sizes, rows, strict=True):
            cells = (f"{1e3 * v:.2f} ({v / rows[0][k]:.1f}x)".rjust(22) for k, v in row.items())
            print(f"{old:10,}", *cells)


if __name__ == "__main__":
    main()
