"""Kill -9 in a loop: nothing lost, nothing twice, the record intact.

A run is started with ``--resume``, killed at a random instant (while it starts, works or waits)
and started again, while a writer goes on: single frames that grow, and stacks of several planes.
Half-way, the profile is edited, so that kills hit re-labelling too. At the end the record must
hold one result a frame and revision, and equal a fresh ``analyze``.

::

    python -m benchmarks.kill_loop --kills 100
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pychip_live.core.result import FrameResult
from pychip_live.core.support import Example
from pychip_live.engine.rehearsal import make_profile
from pychip_live.errors import RecordError
from pychip_live.settings import Settings
from pychip_live.simulate.dm4 import encode_dm4
from pychip_live.simulate.folder import play
from pychip_live.simulate.specimen import Specimen
from pychip_live.store.history import History, open_history
from pychip_live.store.profiles import ProfileFolder

SIZE = 128
RATE = 8.0
PLANES = 6
STACK_PERIOD_S = 0.7
LONGEST_LIFE_S = 4.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the loop found; ``faults`` is empty where all is as it must be."""

    kills: int
    resumed: int
    frames: int
    stacks: int
    seconds: float
    faults: tuple[str, ...]


def kill_loop(place: Path, profile: Path, *, kills: int, seed: int) -> Outcome:
    """Run the loop in an empty folder with a profile that is edited half-way.

    Parameters
    ----------
    place
        Empty folder.
    profile
        With chips of at most ``SIZE`` px.
    kills
        How many.
    seed
        Of the instants.
    """
    begin = time.perf_counter()
    chance = random.Random(seed)
    frames, runs = place / "frames", place / "runs"
    own = Path(shutil.copytree(profile, place / "profile"))
    stop = threading.Event()
    writers = [
        threading.Thread(
            target=play,
            args=(frames / "singles",),
            kwargs={
                "frames": int(RATE * (2 * LONGEST_LIFE_S * kills + 60)),
                "rate": RATE,
                "size": SIZE,
                "behaviour": "grow",
                "seed": seed,
                "stop": stop,
            },
        ),
        threading.Thread(target=_write_stacks, args=(frames / "stacks", seed, stop)),
    ]  # fmt: skip
    frames.mkdir(parents=True)
    for writer in writers:
        writer.start()
    watch = ["run", str(own), "--watch", str(frames), "--runs", str(runs), "--resume", "--json"]
    try:
        for kill in range(kills):
            if kill == kills // 2:
                _edit(own)
            process = _start(*watch)
            try:
                process.wait(chance.uniform(0.05, LONGEST_LIFE_S))
                raise RuntimeError(f"the run ended by itself: {process.communicate()[1]}")
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    last = _finish(*watch, "--until-idle", "2")
    fresh = _finish("analyze", str(own), str(frames), "--runs", str(place / "batch"), "--json")
    faults, resumed = _compare(runs, Path(last["run"]), Path(fresh["run"]), frames)
    stacks = len(list((frames / "stacks").glob("*.dm4")))
    seconds = time.perf_counter() - begin
    return Outcome(kills, resumed, fresh["frames"], stacks, seconds, tuple(faults))


def _write_stacks(folder: Path, seed: int, stop: threading.Event) -> None:
    specimen = Specimen((SIZE, SIZE), seed + 1, "crystallisation")
    folder.mkdir(parents=True)
    number = 0
    while not stop.is_set():
        start = number / 20 % 0.9
        stack = [specimen.frame(start + 0.01 * k)[0] for k in range(PLANES)]
        temporary = folder / f"stack_{number:04d}.part"
        temporary.write_bytes(encode_dm4(np.stack(stack)))
        temporary.rename(temporary.with_suffix(".dm4"))
        number += 1
        stop.wait(STACK_PERIOD_S)


def _edit(profile: Path) -> None:
    folder = ProfileFolder(profile)
    loaded = folder.load()
    support = loaded.support.add_example(
        Example(
            class_id=loaded.support.classes[0].id,
            reference=folder.references()[0].name,
            x=1,
            y=1,
            size=loaded.options.grid.chip,
        )
    )
    folder.save_support(support)


def _start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "pychip_live", *arguments],
        env={**os.environ, "PYCHIP_THREADS": "1", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def _finish(*arguments: str) -> dict[str, Any]:
    process = _start(*arguments)
    out, err = process.communicate(timeout=600)
    if process.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: exit {process.returncode}\n{err}")
    line: dict[str, Any] = json.loads(out.splitlines()[-1])
    return line


def _compare(runs: Path, last: Path, fresh: Path, frames: Path) -> tuple[list[str], int]:
    faults = []
    for folder in runs.iterdir():
        if folder == last:
            continue
        try:
            with open_history(folder) as other:
                faults.append(f"{folder.name} holds {other.count()[0]} frames of another run")
        except RecordError:
            pass  # killed before there was a record
    with sqlite3.connect(last / "run.sqlite") as connection:
        (intact,) = connection.execute("PRAGMA integrity_check").fetchone()
        dangling = connection.execute("PRAGMA foreign_key_check").fetchall()
        twice = connection.execute(
            "SELECT name, count(*) FROM frames GROUP BY path, plane HAVING count(*) > 1"
        ).fetchall()
        apart = connection.execute(
            "SELECT count(*) FROM results r FULL JOIN labels l USING (frame, revision)"
            " WHERE r.frame IS NULL OR l.frame IS NULL"
        ).fetchone()[0]
        bare = connection.execute(
            "SELECT count(*) FROM frames f LEFT JOIN embeddings e ON e.frame = f.sequence"
            " WHERE NOT skipped AND e.frame IS NULL"
        ).fetchone()[0]
    connection.close()
    faults += [f"integrity: {intact}"] * (intact != "ok")
    faults += [f"dangling rows: {dangling}"] * bool(dangling)
    faults += [f"recorded twice: {twice}"] * bool(twice)
    faults += [f"{apart} results without labels, or the other way round"] * bool(apart)
    faults += [f"{bare} frames without embeddings"] * bool(bare)
    with open_history(last) as mine, open_history(fresh) as theirs:
        resumed = len(mine.events("resumed"))
        status = mine.info.status
        skipped = mine.count()[1]
        found, expected = _results(mine), _results(theirs)
    faults += [f"status {status}"] * (status != "done")
    faults += [f"{skipped} skipped"] * bool(skipped)
    singles = len(list((frames / "singles").glob("*.tif")))
    stacks = len(list((frames / "stacks").glob("*.dm4")))
    if not (singles and stacks) or len(expected) != singles + PLANES * stacks:
        faults.append(f"analyze found {len(expected)} of {singles} frames + {stacks} stacks")
    faults += [f"missing: {name}" for name in sorted(expected.keys() - found.keys())]
    faults += [f"unexpected: {name}" for name in sorted(found.keys() - expected.keys())]
    faults += [
        f"different: {name}"
        for name in sorted(expected.keys() & found.keys())
        if not _same(found[name], expected[name])
    ]
    return faults, resumed


def _results(history: History) -> dict[str, FrameResult | None]:
    number = history.current_revision()
    if number is None:
        return {}
    return {name: history.result(sequence, number) for sequence, name, *_ in history.index()}


def _same(a: FrameResult | None, b: FrameResult | None) -> bool:
    return (
        a is not None
        and b is not None
        and np.array_equal(a.labels, b.labels)
        and np.array_equal(a.probabilities, b.probabilities)
        and all(
            np.array_equal(getattr(a.fractions, key), getattr(b.fractions, key), equal_nan=True)
            for key in ("share", "low", "high")
        )
    )


def main() -> None:
    """Run the loop and print one line; exit 1 where something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as made:
        place = Path(made)
        profile = make_profile(
            place / "made", "crystallisation", size=256, chip=16, seed=1,
            settings=Settings(threads=1),
        )  # fmt: skip
        outcome = kill_loop(place, profile.path, kills=options.kills, seed=options.seed)
    for fault in outcome.faults:
        print(f"FAULT {fault}")
    print(
        f"{outcome.kills} kills, {outcome.resumed} resumed, {outcome.frames} frames with "
        f"{outcome.stacks} stacks of {PLANES}, {outcome.seconds:.0f} s: "
        f"{'all once, identical to analyze' if not outcome.faults else 'FAILED'}"
    )
    sys.exit(1 if outcome.faults else 0)


if __name__ == "__main__":
    main()
