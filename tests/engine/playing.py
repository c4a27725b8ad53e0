"""Runs in this process over real files, and what they recorded."""

from __future__ import annotations

import math
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from pychip_live.core.result import FrameResult
from pychip_live.core.support import Example
from pychip_live.engine.relabel import Relabelled, relabel
from pychip_live.engine.run import Done, Run
from pychip_live.engine.start import open_edited, open_own, open_run, register
from pychip_live.settings import Settings
from pychip_live.simulate.folder import play
from pychip_live.simulate.specimen import Specimen
from pychip_live.sources.files import FileSource
from pychip_live.sources.folder import FolderSource
from pychip_live.store.codec import StoredFrame
from pychip_live.store.history import open_history
from pychip_live.store.profiles import ProfileFolder
from pychip_live.store.record import RunRecord
from tests.store.making import same_result

SIZE, CHIP = 128, 16
PATIENCE_S = 20.0


class Witness:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.frames: list[Done] = []
        self.states: list[str] = []

    def frame(self, done: Done) -> None:
        self.frames.append(done)

    def state(self, text: str) -> None:
        self.states.append(text)


class Background(threading.Thread):
    """A writer beside the run; what it raises is raised again by `finish`."""

    def __init__(self, work: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self._work = work
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            self._error = error

    def finish(self) -> None:
        self.join(PATIENCE_S)
        assert not self.is_alive()
        if self._error is not None:
            raise self._error


def analysed(profile: Path, paths: Sequence[Path], settings: Settings) -> Path:
    """Analyse files and return the run folder."""
    opened = open_run(profile, paths, settings, command="analyze")
    with opened.record as record:
        Run(
            FileSource(paths), record, opened.recipe, opened.prototypes, Witness(),
            opened.first_frame,
        ).go(threading.Event(), 0.0)  # fmt: skip
        record.finish("done", now=datetime.now(UTC))
    return record.folder


def watched(
    profile: Path | None,
    folder: Path,
    settings: Settings,
    write: Callable[[], object] = lambda: None,
    *,
    witness: Witness | None = None,
    resume: bool = False,
    done: bool = True,
    until_idle: float = 0.5,
) -> Path:
    """Watch a folder while ``write`` works on it, until all is quiet; returns the run folder."""
    opened = open_run(profile, [folder], settings, resume=resume)
    with opened.record as record:
        source = FolderSource(
            [folder], rescan_s=0.1, settle_s=settings.settle_s, done=record.done()
        )
        writer = Background(write)
        Run(
            source, record, opened.recipe, opened.prototypes, witness or Witness(),
            opened.first_frame,
        ).go(threading.Event(), until_idle, writer.is_alive)  # fmt: skip
        writer.finish()
        record.finish("done" if done else "stopped", now=datetime.now(UTC))
    return record.folder


def labelled_again(run: Path, settings: Settings, profile: Path | None = None) -> Relabelled:
    with RunRecord.reopen(run) as record:
        recipe = open_edited(run, profile, settings) if profile else open_own(run, settings)
        prototypes = register(record, recipe)
        assert prototypes is not None
        return relabel(record, recipe, prototypes)


def results(run: Path, revision: int | None = None) -> dict[str, FrameResult]:
    """Results by frame name, of the frames that count, at the current revision if not given."""
    with open_history(run) as history:
        number = history.current_revision() if revision is None else revision
        if number is None:
            return {}
        found = {}
        for sequence, name, *_ in history.index():
            result = history.result(sequence, number)
            if result is not None:
                assert name not in found
                found[name] = result
        return found


def recorded(run: Path) -> list[StoredFrame]:
    with open_history(run) as history:
        return list(history.frames())


def reasons(run: Path) -> dict[str, str]:
    """Why each skipped file (that counts) was skipped, by name."""
    frames = recorded(run)
    return {f.identity.name: f.reason for f in frames if not f.facts and not f.superseded_by}


def assert_same(a: dict[str, FrameResult], b: dict[str, FrameResult]) -> None:
    """Same frames, bit-identical labels, probabilities and fractions."""
    assert a.keys() == b.keys()
    # the same support set may have another number in another run
    different = [n for n in a if not same_result(replace(a[n], revision=b[n].revision), b[n])]
    assert not different, different


def simulate(folder: Path, frames: int, *, seed: int = 2, size: int = SIZE) -> list[str]:
    """Write frames at once; returns their names."""
    return [w.frame for w in play(folder, frames=frames, rate=math.inf, size=size, seed=seed)]


def copy_profile(profile: Path, target: Path) -> Path:
    return Path(shutil.copytree(profile, target))


def add_example(profile: Path, class_name: str, x: int, y: int, reference: str = "") -> None:
    """Add an example (and the class) to a profile, as one edit."""
    folder = ProfileFolder(profile)
    loaded = folder.load()
    support = loaded.support
    if class_name not in {c.name for c in support.classes}:
        support = support.add_class(class_name)
    example = Example(
        class_id=support.named(class_name).id,
        reference=reference or folder.references()[0].name,
        x=x,
        y=y,
        size=loaded.options.grid.chip,
    )
    support = support.add_example(example)
    folder.save_support(support.model_copy(update={"revision": loaded.support.revision + 1}))


def write_tiff(path: Path, pixels: NDArray[Any]) -> Path:
    """Write one plain file; returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, pixels, photometric="minisblack")
    return path


@lru_cache(maxsize=8)
def _base(number: int) -> NDArray[Any]:
    return Specimen((256, 256), 20 + number, "crystallisation").frame(0.4 + 0.1 * number)[0]


def picture(
    seed: int, shape: tuple[int, ...] = (SIZE, SIZE), dtype: str = "uint16"
) -> NDArray[Any]:
    """Pixels of one frame or stack of the specimen; every seed and plane shows another part."""
    *planes, height, width = shape
    base = _base(seed % 5)
    parts = [
        base[np.ix_((at + np.arange(height)) % 256, (at + np.arange(width)) % 256)]
        for at in 37 * seed + 29 * np.arange(math.prod(planes))
    ]
    found = np.stack(parts).reshape(shape)
    return (found // 256 + 1 if dtype == "uint8" else found).astype(dtype)


def until(condition: Callable[[], object], patience: float = PATIENCE_S) -> None:
    """Wait for a condition; fail when it does not come."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
