from __future__ import annotations

import errno
import logging
import multiprocessing
import os
import random
import shutil
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from watchdog.observers import Observer

from pychip_live import readers
from pychip_live.errors import UsageError
from pychip_live.sources import Arrival
from pychip_live.sources.backlog import LOOKAHEAD
from pychip_live.sources.folder import FolderSource
from pychip_live.sources.tree import signature_of
from tests.sources.conftest import Make, collect, drain, tiff, until


def names(arrivals: list[Arrival]) -> list[str]:
    return [arrival.name for arrival in arrivals]


def write_frames(folder: str, prefix: str, count: int) -> None:
    """Write frames as fast as possible, half of them by renaming (runs in a process)."""
    data = tiff(1)
    for number in range(count):
        path = Path(folder) / f"{prefix}_{number}.tif"
        if number % 2:
            path.write_bytes(data)
        else:
            part = path.with_suffix(".part")
            part.write_bytes(data)
            part.replace(path)


def test_burst_from_two_processes_gives_every_file_once(tmp_path: Path, make: Make) -> None:
    source = make(tmp_path)
    spawn = multiprocessing.get_context("spawn")
    writers = [
        spawn.Process(target=write_frames, args=(str(tmp_path), prefix, 200)) for prefix in "ab"
    ]
    for writer in writers:
        writer.start()
    arrivals = collect(source, 400, timeout=30)
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    arrivals += drain(source)
    assert Counter(names(arrivals)) == Counter(f"{p}_{n}.tif" for p in "ab" for n in range(200))
    for arrival in arrivals:
        assert arrival.path == tmp_path / arrival.name
        assert arrival.signature == signature_of(arrival.path.stat())
        assert 0 <= time.time() - arrival.seen_at < 60


def test_growing_file_arrives_when_it_is_whole(tmp_path: Path, make: Make) -> None:
    source = make(tmp_path)
    data = tiff(side=128)
    path = tmp_path / "slow.tif"
    with path.open("wb", buffering=0) as file:
        for place in range(0, len(data), len(data) // 8):
            assert source.take(0.05) is None
            file.write(data[place : place + len(data) // 8])
    (arrival,) = collect(source, 1)
    assert arrival.signature[0] == len(data)
    assert drain(source) == []


def test_growing_file_is_pending_with_what_is_awaited_and_keeps_the_source_busy(
    tmp_path: Path, make: Make
) -> None:
    source = make(tmp_path)
    data = tiff(side=128)
    began = time.time()
    path = tmp_path / "slow.tif"
    path.write_bytes(data[:5000])
    until(lambda: source.status().pending_count == 1)
    (pending,) = source.status().pending
    assert pending.name == "slow.tif"
    assert pending.awaited
    assert began - 1 <= pending.since <= time.time()
    until(lambda: source.idle_s() > 0.2)
    with path.open("ab") as file:
        file.write(data[5000:6000])
    until(lambda: source.idle_s() < 0.2)
    (leftover,) = source.leftovers()
    assert leftover.path == path
    assert leftover.signature[0] == 6000
    assert leftover.awaited


def test_preallocated_file_arrives_when_it_is_filled(tmp_path: Path, make: Make) -> None:
    source = make(tmp_path, settle_s=0.6)
    data = tiff(side=128)
    step = len(data) // 5 + 1
    with (tmp_path / "copy.tif").open("wb", buffering=0) as file:
        file.truncate(len(data))
        for place in range(0, len(data), step):
            file.seek(place)
            file.write(data[place : place + step])
            if place + step < len(data):
                assert source.take(0.15) is None
                assert source.idle_s() == 0.0 or source.leftovers()[0].awaited
    (arrival,) = collect(source, 1)
    assert arrival.path.read_bytes() == data


def test_black_end_is_believed_after_a_quiet_time(tmp_path: Path, make: Make) -> None:
    source = make(tmp_path, settle_s=0.4)
    began = time.monotonic()
    (tmp_path / "black.tif").write_bytes(tiff(side=256, black_tail=True))
    until(lambda: source.status().pending_count == 1)
    while (arrival := source.take(0.02)) is None:
        assert source.idle_s() == 0.0  # the run must not end before this is decided
        assert time.monotonic() < began + 10
    assert 0.4 <= time.monotonic() - began < 2.0
    assert time.time() - arrival.seen_at >= 0.3  # the quiet time counts as lag


def test_renamed_into_place_and_out_of_temporary_names(tmp_path: Path, make: Make) -> None:
    source = make(tmp_path)
    (tmp_path / "x.tif.part").write_bytes(tiff(1))
    (tmp_path / ".y.tif").write_bytes(tiff(2))
    assert drain(source) == []
    (tmp_path / "x.tif.part").rename(tmp_path / "x.tif")
    (tmp_path / ".y.tif").rename(tmp_path / "y.tif")
    assert sorted(names(collect(source, 2))) == ["x.tif", "y.tif"]
    assert drain(source) == []


@pytest.mark.parametrize("how", ["in place", "renamed over", "touched"])
def test_replaced_file_is_a_new_arrival(tmp_path: Path, make: Make, how: str) -> None:
    source = make(tmp_path)
    path = tmp_path / "live.tif"
    path.write_bytes(tiff(0))
    (first,) = collect(source, 1)
    for seed in (1, 2, 3):
        time.sleep(0.02)  # another tick of the file system's clock
        if how == "in place":
            path.write_bytes(tiff(seed))
        elif how == "renamed over":
            (tmp_path / "new.tmp").write_bytes(tiff(seed))
            (tmp_path / "new.tmp").replace(path)
        else:
            os.utime(path, ns=(0, first.signature[1] + seed))
        (arrival,) = collect(source, 1)
        assert arrival.name == "live.tif"
        assert arrival.signature == signature_of(path.stat())
    assert drain(source) == []


def test_deleted_while_pending_is_dropped_with_a_word(tmp_path: Path, make: Make) -> None:
    source = make(tmp_path)
    (tmp_path / "half.tif").write_bytes(tiff()[:2000])
    until(lambda: source.status().pending_count == 1)
    (tmp_path / "half.tif").unlink()
    until(lambda: source.status().pending_count == 0)
    assert source.status().vanished == 1
    assert "half.tif was deleted" in source.status().last_event
    assert source.leftovers() == []


def test_deleted_or_replaced_while_ready(tmp_path: Path, make: Make) -> None:
    for number in range(3):
        (tmp_path / f"{number}.tif").write_bytes(tiff(number))
    source = make(tmp_path, rescan_s=60, events=False)
    until(lambda: source.status().waiting == 3)
    (tmp_path / "0.tif").unlink()
    (tmp_path / "1.tif").write_bytes(tiff(7, side=96))
    arrivals = collect(source, 2)
    assert sorted(names(arrivals)) == ["1.tif", "2.tif"]
    assert {a.name: a.signature[0] for a in arrivals}["1.tif"] == len(tiff(7, side=96))
    until(lambda: source.status().vanished == 1)
    assert source.take(0.1) is None


def test_locked_file_is_tried_again(tmp_path: Path, make: Make) -> None:
    locked = threading.Event()
    locked.set()

    def evidence(path: Path) -> readers.Evidence:
        if locked.is_set():
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return readers.evidence(path)

    source = make(tmp_path, evidence=evidence)
    (tmp_path / "x.tif").write_bytes(tiff())
    until(lambda: source.status().pending)
    assert "Permission denied" in source.status().pending[0].awaited
    assert source.take(0.2) is None
    locked.clear()
    assert names(collect(source, 1)) == ["x.tif"]


def test_file_given_back_comes_again_after_growing_pauses(tmp_path: Path, make: Make) -> None:
    source = make(tmp_path)
    (tmp_path / "x.tif").write_bytes(tiff())
    pauses = []
    (arrival,) = collect(source, 1)
    assert drain(source) == []  # late events would bring it back sooner
    for _ in range(3):
        began = time.monotonic()
        source.retry(arrival, "the rest of strip 7")
        assert source.leftovers()[0].awaited == "the rest of strip 7"
        (again,) = collect(source, 1)
        pauses.append(time.monotonic() - began)
        assert (again.path, again.signature) == (arrival.path, arrival.signature)
    assert 0.1 <= pauses[0] < pauses[1] < pauses[2] < 2
    (tmp_path / "x.tif").unlink()
    source.retry(arrival, "the rest of strip 7")
    until(lambda: source.status().vanished == 1)
    assert drain(source) == []


def test_file_that_changes_while_it_is_read_is_not_given_twice(tmp_path: Path, make: Make) -> None:
    source = make(tmp_path)
    path = tmp_path / "x.tif"
    path.write_bytes(tiff(0))
    (arrival,) = collect(source, 1)
    path.write_bytes(tiff(1, side=96))
    source.retry(arrival, "it changed")
    (again,) = collect(source, 1)
    assert again.signature == signature_of(path.stat()) != arrival.signature
    assert drain(source) == []


def test_file_that_changes_while_it_is_examined_is_examined_again(
    tmp_path: Path, make: Make
) -> None:
    sizes = []

    def evidence(path: Path) -> readers.Evidence:
        found = readers.evidence(path)
        sizes.append(path.stat().st_size)
        if len(sizes) == 1:
            path.write_bytes(tiff(1, side=96)[:-10])
        elif len(sizes) == 3:
            path.write_bytes(tiff(1, side=96))
        return found

    (tmp_path / "x.tif").write_bytes(tiff(0))
    source = make(tmp_path, evidence=evidence)
    (arrival,) = collect(source, 1)
    assert arrival.signature[0] == len(tiff(1, side=96)) == sizes[-1]
    assert len(sizes) >= 4


def test_unusable_file_is_refused_once_a_state(tmp_path: Path, make: Make) -> None:
    source = make(tmp_path, settle_s=0.2)
    path = tmp_path / "x.tif"
    path.write_bytes(b"this is no image at all, whatever its name says")
    assert drain(source) == []
    (refused,) = source.refused()
    assert (refused.path, refused.name) == (path, "x.tif")
    assert refused.signature == signature_of(path.stat())
    assert "belong to no format" in refused.awaited
    assert source.refused() == source.leftovers() == []
    path.write_bytes(tiff())
    assert names(collect(source, 1)) == ["x.tif"]
    path.write_bytes(b"broken again and longer than any image could be expected to be")
    source.wait(5)
    assert len(source.refused()) == 1


def test_failing_reader_refuses_one_file_and_the_source_goes_on(tmp_path: Path, make: Make) -> None:
    def evidence(path: Path) -> readers.Evidence:
        if path.stem == "bad":
            raise ZeroDivisionError("division by zero")
        return readers.evidence(path)

    source = make(tmp_path, evidence=evidence, settle_s=0.1)
    (tmp_path / "bad.tif").write_bytes(tiff())
    (tmp_path / "good.tif").write_bytes(tiff())
    assert names(collect(source, 1)) == ["good.tif"]
    drain(source)
    (refused,) = source.refused()
    assert "ZeroDivisionError" in refused.awaited


def test_missing_folder_is_waited_for_and_losing_it_loses_nothing(
    tmp_path: Path, make: Make
) -> None:
    folder = tmp_path / "share"
    source = make(folder)
    until(lambda: source.status().missing_folders == (folder,))
    assert "missing" in source.status().last_event

    (folder / "a").mkdir(parents=True)
    for number in range(3):
        (folder / "a" / f"{number}.tif").write_bytes(tiff(number))
    half = folder / "half.tif"
    half.write_bytes(tiff(9)[:3000])
    assert sorted(names(collect(source, 3))) == ["a/0.tif", "a/1.tif", "a/2.tif"]
    assert source.status().missing_folders == ()
    until(lambda: source.status().pending_count == 1)

    folder.rename(tmp_path / "unmounted")
    until(lambda: source.status().missing_folders == (folder,))
    until(lambda: "come back" in source.leftovers()[0].awaited)
    with (tmp_path / "unmounted" / "half.tif").open("ab") as file:
        file.write(tiff(9)[3000:])
    (tmp_path / "unmounted" / "a" / "3.tif").write_bytes(tiff(3))
    (tmp_path / "unmounted").rename(folder)
    assert sorted(names(collect(source, 2))) == ["a/3.tif", "half.tif"]
    assert drain(source) == []

    shutil.copytree(folder, tmp_path / "backup")  # keeps the times, not the inodes
    shutil.rmtree(folder)
    (tmp_path / "backup").rename(folder)
    (folder / "a" / "4.tif").write_bytes(tiff(4))
    assert names(collect(source, 1)) == ["a/4.tif"]
    assert drain(source) == []


def test_events_come_again_from_a_folder_that_was_away(tmp_path: Path) -> None:
    folder = tmp_path / "share"
    with FolderSource([folder], rescan_s=0.1) as source:
        for number in range(3):
            folder.mkdir()
            until(lambda: source.status().missing_folders == ())
            (folder / f"{number}.tif").write_bytes(tiff(number))
            assert names(collect(source, 1)) == [f"{number}.tif"]
            shutil.rmtree(folder)
            until(lambda: source.status().missing_folders == (folder,))
        folder.mkdir()
        hints = source._hints
        assert hints is not None
        until(lambda: str(folder) in hints._watches)
        noted = threading.Event()
        hints._wake = noted.set
        (folder / "9.tif").write_bytes(tiff(9))
        assert noted.wait(5)


def test_only_new_files_count(tmp_path: Path, make: Make) -> None:
    for number in range(3):
        (tmp_path / f"{number}.tif").write_bytes(tiff(number))
    growing = tmp_path / "growing.tif"
    growing.write_bytes(tiff(9)[:3000])
    source = make(tmp_path, existing="new")
    assert {path.name for path, _ in source.baseline()} == {
        "0.tif",
        "1.tif",
        "2.tif",
        "growing.tif",
    }
    growing.write_bytes(tiff(9))
    (tmp_path / "3.tif").write_bytes(tiff(3))
    assert sorted(names(collect(source, 2))) == ["3.tif", "growing.tif"]
    assert drain(source) == []


def test_resumed_run_finds_what_arrived_meanwhile(tmp_path: Path, make: Make) -> None:
    (tmp_path / "old.tif").write_bytes(tiff(0))
    first = make(tmp_path, existing="new")
    (tmp_path / "recorded.tif").write_bytes(tiff(1))
    (arrival,) = collect(first, 1)
    first.stop()
    (tmp_path / "meanwhile.tif").write_bytes(tiff(2))
    examined = set()

    def evidence(path: Path) -> readers.Evidence:
        examined.add(path.name)
        return readers.evidence(path)

    second = make(
        tmp_path,
        existing="new",
        baseline=first.baseline(),
        done={arrival.path: arrival.signature},
        evidence=evidence,
    )
    assert names(collect(second, 1)) == ["meanwhile.tif"]
    assert drain(second) == []
    assert second.baseline() == first.baseline()
    assert examined == {"meanwhile.tif"}


def test_nested_and_repeated_folders_give_a_file_once(
    tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner, other = tmp_path / "a" / "b", tmp_path / "c"
    inner.mkdir(parents=True)
    other.mkdir()
    (inner / "1.tif").write_bytes(tiff(1))
    (other / "2.tif").write_bytes(tiff(2))
    monkeypatch.chdir(tmp_path)
    source = make(inner, tmp_path / "a", Path("a"), other, other / "later")
    assert sorted(names(drain(source))) == ["2.tif", "b/1.tif"]
    assert source.status().missing_folders == (other / "later",)


def test_newest_first_when_behind_then_the_backlog_in_order(tmp_path: Path, make: Make) -> None:
    count = LOOKAHEAD + 20
    for number in range(count):
        path = tmp_path / f"frame_{number}.tif"
        path.write_bytes(tiff(number))
        os.utime(path, ns=(0, 10**18 + number))
    source = make(tmp_path)
    until(lambda: source.status().waiting == count)
    until(lambda: len(source._backlog._ready) >= LOOKAHEAD)
    assert names(collect(source, 4)) == [
        f"frame_{count - 1}.tif",
        "frame_0.tif",
        "frame_1.tif",
        "frame_2.tif",
    ]
    path = tmp_path / f"frame_{count}.tif"
    path.write_bytes(tiff(count))
    until(lambda: source._backlog._ready[-1].name == path.name)
    assert names(collect(source, count - 3)) == [
        path.name,
        *(f"frame_{number}.tif" for number in range(3, count - 1)),
    ]


def test_few_waiting_files_come_in_order(tmp_path: Path, make: Make) -> None:
    source = make(tmp_path, rescan_s=60, events=False)
    until(lambda: source._verified > 0)
    for number in (1, 2):
        (tmp_path / f"frame_{number}.tif").write_bytes(tiff(number))
    source._apply(source._scanner.scan())
    assert names(collect(source, 2)) == ["frame_1.tif", "frame_2.tif"]


def test_gatan_tree_that_grows_gives_every_frame_and_the_backlog_in_order(
    tmp_path: Path, make: Make
) -> None:
    source = make(tmp_path)
    expected = []

    def acquire() -> None:
        for second in range(58, 66):
            minute, second = divmod(second, 60)
            folder = tmp_path / "run" / "Hour_00" / f"Minute_{minute:02}" / f"Second_{second:02}"
            folder.mkdir(parents=True)
            for frame in range(10):
                name = f"run_Hour_00_Minute_{minute:02}_Second_{second:02}_Frame_{frame:04}.tif"
                (folder / name).write_bytes(tiff(frame))
                expected.append((folder / name).relative_to(tmp_path).as_posix())
            time.sleep(0.05)

    writer = threading.Thread(target=acquire)
    writer.start()
    live = collect(source, 30)
    writer.join()
    until(lambda: source.status().waiting == 50)
    backlog = drain(source)
    assert sorted(names(live + backlog)) == expected
    assert names(backlog[1:]) == sorted(names(backlog[1:]))


@pytest.mark.parametrize("fault", ["start", "schedule"])
def test_without_events_from_the_system_files_are_found_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "inotify watch limit reached")

    monkeypatch.setattr(Observer, fault, fail)
    with FolderSource([tmp_path], rescan_s=0.03) as source:
        (tmp_path / "x.tif").write_bytes(tiff())
        assert names(collect(source, 1)) == ["x.tif"]
        until(lambda: "inotify watch limit reached" in caplog.text)


def test_an_error_inside_is_logged_and_the_source_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    source = FolderSource([tmp_path], rescan_s=0.03, events=False)
    scan = source._scanner.scan
    faults = iter([MemoryError("none left")])

    def fail_once() -> Any:
        for fault in faults:
            raise fault
        return scan()

    monkeypatch.setattr(source._scanner, "scan", fail_once)
    (tmp_path / "x.tif").write_bytes(tiff())
    with caplog.at_level(logging.ERROR), source:
        assert names(collect(source, 1)) == ["x.tif"]
    assert "none left" in caplog.text


def test_idle_time_counts_from_the_last_change(tmp_path: Path, make: Make) -> None:
    source = make(tmp_path)
    until(lambda: source.idle_s() > 0.2)
    (tmp_path / "x.tif").write_bytes(tiff())
    until(lambda: source.status().waiting == 1)
    assert source.idle_s() == 0.0
    collect(source, 1)
    assert source.idle_s() < 0.2
    until(lambda: source.idle_s() > 0.3)


def test_stop_ends_waiting_and_leaves_what_is_ready(tmp_path: Path, make: Make) -> None:
    source = make(tmp_path)
    answers: list[Arrival | None] = []
    thread = threading.Thread(target=lambda: answers.append(source.take(60)))
    thread.start()
    source.stop()
    thread.join(timeout=5)
    assert answers == [None]
    began = time.monotonic()
    source.wait(60)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("folders", "options", "word"),
    [
        ([], {}, "no folder"),
        (["file.tif"], {}, "is a file"),
        (["."], {"settle_s": 0}, "settle_s is 0"),
        (["."], {"rescan_s": -1.0}, "rescan_s is -1.0"),
        (["."], {"sweep_s": float("nan")}, "sweep_s is nan"),
    ],
)
def test_bad_options_are_refused(
    tmp_path: Path, folders: list[str], options: dict[str, Any], word: str
) -> None:
    (tmp_path / "file.tif").touch()
    with pytest.raises(UsageError, match=word):
        FolderSource([tmp_path / folder for folder in folders], **options)


def test_a_source_is_started_once(tmp_path: Path, make: Make) -> None:
    with pytest.raises(UsageError, match="make a new one"):
        make(tmp_path).start()


def vandalise(folder: Path, seed: int, steps: int) -> None:
    """Write, rewrite, rename over, delete and move files and directories at random."""
    chance = random.Random(seed)
    for step in range(steps):
        inner = folder / f"d{chance.randrange(4)}" / f"e{chance.randrange(2)}"
        inner.mkdir(parents=True, exist_ok=True)
        path = inner / f"frame_{chance.randrange(6)}.tif"
        data = tiff(step, side=chance.choice((32, 48, 64)))
        deed = chance.randrange(10)
        if deed < 4:
            path.write_bytes(data)
        elif deed < 6:
            path.with_suffix(".tmp").write_bytes(data)
            path.with_suffix(".tmp").replace(path)
        elif deed < 7:
            with path.open("wb", buffering=0) as file:
                file.write(data[:900])
                time.sleep(0.01)
                file.write(data[900:])
        elif deed < 8:
            path.unlink(missing_ok=True)
        elif deed < 9:
            shutil.rmtree(inner)
        else:
            (folder / f"m{step}").mkdir()
            inner.rename(folder / f"m{step}" / "moved")
        time.sleep(0.005)


@pytest.mark.parametrize("seed", [1, 2])
def test_after_any_history_every_file_was_given_in_its_last_state_and_no_state_twice(
    tmp_path: Path, make: Make, seed: int
) -> None:
    source = make(tmp_path, settle_s=0.1)
    writer = threading.Thread(target=vandalise, args=(tmp_path, seed, 200))
    writer.start()
    arrivals = []
    while writer.is_alive():
        if (arrival := source.take(0.02)) is not None:
            arrivals.append(arrival)
    writer.join()
    arrivals += drain(source, idle_s=0.5)
    given = Counter((arrival.path, arrival.signature) for arrival in arrivals)
    there = {(path, signature_of(path.stat())) for path in tmp_path.rglob("*.tif")}
    assert len(there) > 10
    assert there <= given.keys()
    assert set(given.values()) == {1}
    assert source.leftovers() == source.refused() == []
