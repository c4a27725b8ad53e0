"""Each behaviour, as a thread that watches the folder sees it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import pytest

from pychip_live.simulate.behaviours import (
    TEMPORARY_SUFFIX,
    Behaviour,
    deliver,
    gatan_name,
)

DATA = bytes(range(1, 251)) * 4000  # a megabyte without a zero byte
DRAFT = b"draft" * 1000


class Watcher:
    """What a reader would get from the file, look by look."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seen: list[bytes] = []
        self.looks = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    @contextmanager
    def watching(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._end.set()
            self._thread.join()
            self._look()

    def pause(self, seconds: float) -> None:
        """Sleep, and until a look that began after the call has ended."""
        enough = self.looks + 2
        time.sleep(seconds)
        while self.looks < enough:
            time.sleep(0.001)

    def _watch(self) -> None:
        while not self._end.is_set():
            self._look()
            self.looks += 1
            time.sleep(0.001)

    def _look(self) -> None:
        try:
            content = self.path.read_bytes()
        except (FileNotFoundError, PermissionError):
            return
        if not self.seen or content != self.seen[-1]:
            self.seen.append(content)


def watch(path: Path, behaviour: Behaviour, duration_s: float = 0.1) -> list[bytes]:
    watcher = Watcher(path)
    with watcher.watching():
        deliver(path, DATA, behaviour, duration_s=duration_s, draft=DRAFT, pause=watcher.pause)
    assert watcher.seen[-1] == DATA
    return watcher.seen


def test_atomic_is_never_visible_half_written(tmp_path: Path) -> None:
    for k in range(20):
        assert watch(tmp_path / f"{k}.tif", "atomic") == [DATA]
    assert not list(tmp_path.glob(f"*{TEMPORARY_SUFFIX}"))


def test_grow_is_seen_growing(tmp_path: Path) -> None:
    seen = watch(tmp_path / "a.tif", "grow")
    lengths = [len(content) for content in seen]
    assert lengths == sorted(lengths)
    assert len({n for n in lengths if 0 < n < len(DATA)}) >= 7
    assert all(DATA.startswith(content) for content in seen)


def test_preallocate_has_its_full_size_early_with_zeros(tmp_path: Path) -> None:
    seen = watch(tmp_path / "a.tif", "preallocate")
    full = [content for content in seen if len(content) == len(DATA)]
    # at most the instant between creating and sizing the file is shorter
    assert len(seen) - len(full) <= 1
    assert full[0].count(0) == len(DATA)
    half_zero = [content for content in full if 0 < content.count(0) < len(DATA)]
    assert len(half_zero) >= 7
    for content in half_zero:
        filled = len(content.rstrip(b"\0"))
        assert content[:filled] == DATA[:filled]


def test_replace_shows_another_file_first(tmp_path: Path) -> None:
    seen = [content for content in watch(tmp_path / "a.tif", "replace") if content]
    assert seen == [DRAFT, DATA]
    assert not list(tmp_path.glob(f"*{TEMPORARY_SUFFIX}"))


@pytest.mark.parametrize("behaviour", ["direct", "gatan"])
def test_plain_write(tmp_path: Path, behaviour: Behaviour) -> None:
    path = tmp_path / "new" / "folder" / "a.tif"
    start = time.monotonic()
    assert all(DATA.startswith(content) for content in watch(path, behaviour, 5))
    assert time.monotonic() - start < 1


def test_a_pause_that_returns_at_once_completes_the_file(tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    for behaviour in ("grow", "preallocate", "replace"):
        path = tmp_path / behaviour
        start = time.monotonic()
        deliver(path, DATA, behaviour, duration_s=60, draft=DRAFT, pause=stop.wait)
        assert time.monotonic() - start < 5
        assert path.read_bytes() == DATA


@pytest.mark.parametrize("data", [b"", b"x", b"1234567"])
@pytest.mark.parametrize("behaviour", ["atomic", "grow", "preallocate", "replace", "direct"])
def test_small_files(tmp_path: Path, behaviour: Behaviour, data: bytes) -> None:
    deliver(tmp_path / "a", data, behaviour, duration_s=0, draft=DRAFT)
    assert (tmp_path / "a").read_bytes() == data


@pytest.mark.parametrize(
    ("index", "rate", "hour", "minute", "second", "frame"),
    [
        (0, 4, 0, 0, 0, 0),
        (3, 4, 0, 0, 0, 3),
        (4, 4, 0, 0, 1, 0),
        (4 * 61 + 2, 4, 0, 1, 1, 2),
        (4 * 3725 + 1, 4, 1, 2, 5, 1),
        (3, 0.5, 0, 0, 6, 0),
        (7, float("inf"), 0, 0, 0, 7),
    ],
)
def test_gatan_names(
    index: int, rate: float, hour: int, minute: int, second: int, frame: int
) -> None:
    folders = f"Hour_{hour:02d}", f"Minute_{minute:02d}", f"Second_{second:02d}"
    file = f"cool_{'_'.join(folders)}_Frame_{frame:04d}.dm4"
    assert gatan_name("cool", index, rate, ".dm4") == Path("cool", *folders, file)


@pytest.mark.parametrize("rate", [0.3, 3, 7, 10, 29.97, 30, 400])
def test_gatan_names_are_unique_ordered_and_restart_at_zero(rate: float) -> None:
    names = [gatan_name("cool", k, rate, ".dm4") for k in range(2500)]
    assert len(set(names)) == len(names)
    assert [str(PurePosixPath(n)) for n in names] == sorted(str(PurePosixPath(n)) for n in names)
    by_second: dict[Path, list[str]] = {}
    for name in names:
        by_second.setdefault(name.parent, []).append(name.stem[-4:])
    for frames in by_second.values():
        assert frames == [f"{k:04d}" for k in range(len(frames))]
