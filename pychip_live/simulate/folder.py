"""Play a microscope that writes into an acquisition folder."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

from pychip_live.core.frame import Frame
from pychip_live.errors import PychipError, UsageError
from pychip_live.simulate.behaviours import (
    Behaviour,
    deliver,
    gatan_name,
)
from pychip_live.simulate.files import SUFFIXES, Format, encode
from pychip_live.simulate.specimen import Specimen
from pychip_live.simulate.truth import Truth, TruthTable

DEFAULT_FRAMES = 120
"""Frames of a preset when no number is asked for."""

IMAGE_SUFFIXES = frozenset(
    {".dm3", ".dm4", ".emd", ".ser", ".mrc", ".mrcs", ".rec", ".st"}
    | {".tif", ".tiff", ".btf", ".tf8", ".png", ".jpg", ".jpeg"}
)
"""Files of a source folder that are played."""

_LONGEST_WRITE_S = 0.5
_MOST_WRITERS = 32


@dataclass(frozen=True, slots=True)
class Written:
    """One frame that is in the folder.

    Parameters
    ----------
    path
        The file.
    frame
        Its path relative to the folder, with forward slashes.
    truth
        What is on it, or None where a source folder was copied.
    """

    path: Path
    frame: str
    truth: Truth | None


def play(
    out: Path,
    *,
    preset: str = "crystallisation",
    source: Path | None = None,
    frames: int | None = None,
    rate: float = 1.0,
    size: int = 1024,
    form: Format = "tiff",
    behaviour: Behaviour = "atomic",
    burst: int = 1,
    seed: int = 0,
    stop: threading.Event | None = None,
    on_frame: Callable[[Written], None] | None = None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> list[Written]:
    """Write frames into a folder at a rate, the way a microscope does.

    A frame of a specimen is in ``truth.csv`` before any of its file is visible. Files of a source
    folder are copied byte for byte and keep their relative names, except in Gatan's tree.

    Parameters
    ----------
    out
        The acquisition folder; made if missing.
    preset
        Specimen to simulate, without ``source``.
    source
        Folder whose images are played instead, in the order of their names.
    frames
        How many; default: 120 of a specimen, all of a folder (which cannot give more).
    rate
        Frames per second on average; ``math.inf``: as fast as possible.
    size
        Edge of a simulated frame, px.
    form
        File format of simulated frames.
    behaviour
        How a file reaches the folder. The slow ones take 80 % of the time between two frames, at
        most 0.5 s. The draft of ``replace`` is the frame before; the first frame's is a torn file.
    burst
        Frames that arrive at once, followed by a pause.
    seed
        Of the specimen.
    stop
        Ends the play; a file that is being written is completed first.
    on_frame
        Called in this thread with each frame after its file is complete.
    clock
        Acquisition time.

    Returns
    -------
    list of Written
        In the order of acquisition.

    Raises
    ------
    UsageError
        If an option is out of range, the source has no images, or a file is there already.
    PychipError
        If a file cannot be written.
    """
    _check(rate, frames, burst, behaviour, form)
    stop = stop or threading.Event()
    material = _Folder(source) if source else _Simulation(preset, size, form, seed, clock)
    count = material.count if frames is None else min(frames, material.limit)
    names = [material.name(k) for k in range(count)]
    if behaviour == "gatan":
        names = [gatan_name(material.title, k, rate, name.suffix) for k, name in enumerate(names)]
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; name a folder for the frames")
    for name in names:
        if (out / name).exists():
            raise UsageError(f"{out / name} exists already; choose an empty folder")
    table = TruthTable(out, material.phases) if material.phases else None

    written: list[Written] = []
    draft = b""
    duration = min(_LONGEST_WRITE_S, 0.8 * burst / rate)
    begin = time.monotonic()

    def write(name: Path, data: bytes, draft: bytes) -> None:
        try:
            deliver(out / name, data, behaviour, duration_s=duration, draft=draft, pause=stop.wait)
        except OSError as error:
            raise PychipError(f"{out / name}: cannot be written ({error})") from error

    with ThreadPoolExecutor(min(burst, _MOST_WRITERS)) as pool:
        for first in range(0, count, burst):
            if stop.wait(max(0.0, begin + first / rate - time.monotonic())):
                break
            group = range(first, min(first + burst, count))
            jobs = []
            for k in group:
                data, truth = material.expose(k, count, names[k].as_posix())
                if table and truth:
                    table.append(truth)
                jobs.append((names[k], data, draft or data[: len(data) // 2]))
                written.append(Written(out / names[k], names[k].as_posix(), truth))
                draft = data
            list(pool.map(write, *zip(*jobs, strict=True)))
            if on_frame:
                for k in group:
                    on_frame(written[k])
    return written


def _check(rate: float, frames: int | None, burst: int, behaviour: Behaviour, form: Format) -> None:
    """Refuse options that cannot be carried out."""
    if not rate > 0:
        raise UsageError(f"the rate is a number of frames per second above 0, not {rate}")
    if frames is not None and frames < 1:
        raise UsageError(f"the number of frames is at least 1, not {frames}")
    if burst < 1:
        raise UsageError(f"a burst has at least 1 frame, not {burst}")
    if behaviour not in get_args(Behaviour):
        known = ", ".join(get_args(Behaviour))
        raise UsageError(f"there is no behaviour {behaviour!r}; choose one of {known}")
    if form not in get_args(Format):
        known = ", ".join(get_args(Format))
        raise UsageError(f"there is no format {form!r} to write; choose one of {known}")


class _Simulation:
    """Frames of a specimen."""

    limit = 10**9

    def __init__(
        self, preset: str, size: int, form: Format, seed: int, clock: Callable[[], datetime]
    ) -> None:
        self._specimen = Specimen((size, size), seed, preset)
        self._form = form
        self._clock = clock
        self.count = DEFAULT_FRAMES
        self.title = preset
        self.phases = self._specimen.phases

    def name(self, k: int) -> Path:
        return Path(f"{self.title}_{k:05d}{SUFFIXES[self._form]}")

    def expose(self, k: int, count: int, name: str) -> tuple[bytes, Truth | None]:
        pixels, phase_map = self._specimen.frame(k / max(1, count - 1))
        now = self._clock()
        metadata = replace(self._specimen.metadata, acquired_at=now)
        data = encode(Frame(pixels, self._specimen.calibration, metadata), self._form)
        return data, Truth(name, now, self._specimen.fractions(phase_map))


class _Folder:
    """Images of an existing folder."""

    phases: tuple[str, ...] = ()

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise UsageError(f"{folder} is not a folder; name one with images to play")
        self._folder = folder
        self._names = sorted(
            path.relative_to(folder)
            for path in folder.rglob("*")
            if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
        )
        if not self._names:
            raise UsageError(f"{folder} has no image to play ({' '.join(sorted(IMAGE_SUFFIXES))})")
        self.count = self.limit = len(self._names)
        self.title = folder.resolve().name

    def name(self, k: int) -> Path:
        return self._names[k]

    def expose(self, k: int, count: int, name: str) -> tuple[bytes, Truth | None]:
        return (self._folder / self._names[k]).read_bytes(), None
