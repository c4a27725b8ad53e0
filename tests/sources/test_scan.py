from __future__ import annotations

import os
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pychip_live.sources import scan
from pychip_live.sources.scan import HOT_DIRECTORIES, HOT_FILES, PATROL_STEPS, TreeScanner
from pychip_live.sources.tree import Changes

SUFFIXES = frozenset({".tif", ".dm4"})


def names(changes: Changes) -> list[str]:
    return sorted(sighting.name for sighting in changes.seen.values())


def scanner(*folders: Path, **options: Any) -> TreeScanner:
    return TreeScanner([str(folder) for folder in folders], SUFFIXES, **options)


class CountingOs:
    """The module ``os``, counting the calls that ask the file system."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        if name in ("stat", "lstat", "listdir"):
            self.calls[name] += 1
        return getattr(os, name)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts the system calls of scans; the patrol takes its least number of steps."""
    counting = CountingOs()
    monkeypatch.setattr(scan, "os", counting)
    monkeypatch.setattr(scan, "PATROL_S", 0.0)
    return counting.calls


@pytest.fixture
def no_patrol(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TreeScanner, "_go_on_patrol", lambda self: None)


def settle(tree: TreeScanner) -> None:
    """Make believe that the last change of every directory is long ago."""
    for directory in tree._directories:
        directory.changed_at -= 60


def test_first_scan_finds_all_and_the_second_nothing(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name in ("x.tif", "a/y.DM4", "a/b/z.tif", "a/notes.txt"):
        (tmp_path / name).write_bytes(b"1")
    tree = scanner(tmp_path)
    first = tree.scan()
    assert names(first) == ["a/b/z.tif", "a/y.DM4", "x.tif"]
    assert first.appeared == [str(tmp_path)]
    status = (tmp_path / "x.tif").stat()
    assert first.seen[str(tmp_path / "x.tif")].signature == (1, status.st_mtime_ns)
    assert tree.scan() == Changes()


@pytest.mark.parametrize(
    "name",
    [".x.tif", "~x.tif", "~$x.tif", "x.tif~", "x.tif.part", "x.tif.tmp", "x.crdownload", "x.txt"],
)
def test_hidden_temporary_and_other_names_are_ignored(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"1")
    (tmp_path / ".snapshot").mkdir()
    (tmp_path / ".snapshot" / "x.tif").write_bytes(b"1")
    tree = scanner(tmp_path)
    assert tree.scan().seen == {}
    assert tree.look([str(tmp_path / name), str(tmp_path / ".snapshot" / "x.tif")]).seen == {}


def test_new_changed_renamed_and_gone_files_and_directories(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    file = tmp_path / "a" / "1.tif"
    file.write_bytes(b"1")
    tree = scanner(tmp_path)
    tree.scan()

    file.write_bytes(b"22")
    assert names(tree.scan()) == ["a/1.tif"]
    file.rename(tmp_path / "a" / "2.tif")
    changes = tree.scan()
    assert (names(changes), changes.gone) == (["a/2.tif"], {str(file)})
    (tmp_path / "a").rename(tmp_path / "b")
    changes = tree.scan()
    assert (names(changes), changes.gone) == (["b/2.tif"], {str(tmp_path / "a" / "2.tif")})
    shutil.rmtree(tmp_path / "b")
    assert tree.scan() == Changes(gone={str(tmp_path / "b" / "2.tif")})


@pytest.mark.usefixtures("no_patrol")
def test_a_directory_made_anew_under_its_name_is_looked_at_anew(tmp_path: Path) -> None:
    inner = tmp_path / "a"
    inner.mkdir()
    (inner / "1.tif").write_bytes(b"1")
    (inner / "2.tif").write_bytes(b"1")
    tree = scanner(tmp_path)
    tree.scan()
    tree._recent_files.clear()
    inner.rename(tmp_path.parent / f"{tmp_path.name}-away")
    inner.mkdir()
    (inner / "1.tif").write_bytes(b"333")
    changes = tree.scan()
    assert names(changes) == ["a/1.tif"]
    assert changes.gone == {str(inner / "2.tif")}


def test_folder_that_is_missing_comes_goes_and_comes_back_as_another(tmp_path: Path) -> None:
    folder = tmp_path / "share"
    tree = scanner(folder)
    assert (tree.scan(), tree.missing) == (Changes(), [str(folder)])
    folder.mkdir()
    (folder / "1.tif").write_bytes(b"1")
    changes = tree.scan()
    assert (names(changes), changes.appeared, tree.missing) == (["1.tif"], [str(folder)], [])
    folder.rename(tmp_path / "away")
    assert (tree.scan(), tree.missing) == (Changes(), [str(folder)])
    (tmp_path / "away").rename(folder)
    assert names(tree.scan()) == ["1.tif"]
    folder.rename(tmp_path / "away")  # replaced between two scans
    folder.mkdir()
    (folder / "1.tif").write_bytes(b"22")
    changes = tree.scan()
    assert (names(changes), changes.appeared) == (["1.tif"], [str(folder)])


def test_folder_that_cannot_be_listed_is_missing_until_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "1.tif").write_bytes(b"1")
    tree = scanner(tmp_path)

    def refuse(path: str) -> list[str]:
        raise PermissionError(13, "Permission denied", path)

    with monkeypatch.context() as patch:
        patch.setattr("os.listdir", refuse)
        tree.scan()
        tree.scan()
        assert tree.missing == [str(tmp_path)]
    assert len(caplog.records) == 1
    assert str(tmp_path) in caplog.text
    assert names(tree.scan()) == ["1.tif"]
    assert tree.missing == []


def test_hints_find_files_in_new_directories_without_a_scan(tmp_path: Path) -> None:
    tree = scanner(tmp_path)
    tree.scan()
    file = tmp_path / "a" / "b" / "1.tif"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"1")
    assert names(tree.look([str(file)])) == ["a/b/1.tif"]
    file.write_bytes(b"22")
    assert names(tree.look([str(file)])) == ["a/b/1.tif"]
    assert tree.look([str(file)]) == Changes()
    file.unlink()
    assert tree.look([str(file)]) == Changes(gone={str(file)})
    assert tree.look([str(tmp_path.parent), "/elsewhere/1.tif"]) == Changes()


@pytest.mark.usefixtures("no_patrol")
def test_second_change_within_one_tick_of_the_clock_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "1.tif").write_bytes(b"1")
    tree = scanner(tmp_path)
    tree.scan()
    before = folder.stat()
    (folder / "2.tif").write_bytes(b"1")
    os.utime(folder, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert names(tree.scan()) == ["a/2.tif"]


@pytest.mark.usefixtures("no_patrol")
def test_directories_whose_times_hide_changes_are_swept_and_then_mistrusted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def add_unseen(name: str) -> None:
        before = tmp_path.stat()
        (tmp_path / name).write_bytes(b"1")
        os.utime(tmp_path, ns=(before.st_atime_ns, before.st_mtime_ns))

    tree = scanner(tmp_path, sweep_s=30)
    tree.scan()
    settle(tree)
    add_unseen("1.tif")
    assert tree.scan() == Changes()  # nothing shows it, and no sweep is due
    for directory in tree._directories:
        directory.listed_at -= 31
    settle(tree)
    assert names(tree.scan()) == ["1.tif"]
    assert "do not change the time" in caplog.text
    settle(tree)
    add_unseen("2.tif")
    assert names(tree.scan()) == ["2.tif"]


def test_cost_of_a_scan_of_a_flat_folder_follows_what_is_new(
    tmp_path: Path, calls: Counter[str]
) -> None:
    for number in range(1000):
        (tmp_path / f"{number}.tif").touch()
    tree = scanner(tmp_path)
    tree.scan()
    assert calls["lstat"] == 1000
    for number in range(10):
        (tmp_path / f"new{number}.tif").touch()
    calls.clear()
    assert len(tree.scan().seen) == 10
    assert calls["lstat"] == 10
    assert calls["listdir"] == 1
    assert calls["stat"] <= 2 + HOT_FILES + PATROL_STEPS + 1
    settle(tree)
    calls.clear()
    tree.scan()
    assert calls["listdir"] == calls["lstat"] == 0


def test_cost_of_a_scan_of_a_deep_tree_follows_what_is_new(
    tmp_path: Path, calls: Counter[str]
) -> None:
    for minute in range(40):
        for second in range(30):
            folder = tmp_path / f"Hour_00/Minute_{minute:02}/Second_{second:02}"
            folder.mkdir(parents=True)
            (folder / "0.dm4").touch()
    tree = scanner(tmp_path)
    assert len(tree.scan().seen) == 1200
    settle(tree)
    for place in range(5):
        folder = tmp_path / f"Hour_00/Minute_40/Second_{place:02}"
        folder.mkdir(parents=True)
        (folder / "0.dm4").touch()
        calls.clear()
        assert names(tree.scan()) == [f"Hour_00/Minute_40/Second_{place:02}/0.dm4"]
        assert calls["lstat"] <= 3
        assert calls["listdir"] <= 3 + place + 2  # new ones, and those changed within a tick
        assert calls["stat"] <= 2 + HOT_DIRECTORIES + HOT_FILES + PATROL_STEPS + 1


def test_patrol_finds_an_old_file_rewritten_in_place(tmp_path: Path, calls: Counter[str]) -> None:
    for number in range(500):
        (tmp_path / f"{number}.tif").write_bytes(b"1")
    tree = scanner(tmp_path)
    tree.scan()
    old = next(
        name
        for name in tree._roots[0].directory.entries  # type: ignore[union-attr]
        if (tree._roots[0].directory, name) not in tree._recent_files
    )
    (tmp_path / old).write_bytes(b"22")
    rounds = 0
    while not (found := tree.scan().seen):
        rounds += 1
        assert rounds <= 501 // PATROL_STEPS + 1
    assert list(found) == [str(tmp_path / old)]
    assert calls["listdir"] > 0


def test_patrol_goes_through_a_small_tree_once_a_scan(tmp_path: Path) -> None:
    (tmp_path / "1.tif").write_bytes(b"1")
    tree = scanner(tmp_path)
    tree.scan()
    steps = 0
    patrol = tree._patrol

    def counted() -> Any:
        nonlocal steps
        for step in patrol:
            steps += 1
            yield step

    tree._patrol = counted()
    tree.scan()
    assert steps == 3  # the folder, its file, the end of the round


def link(place: Path, target: Path) -> None:
    try:
        place.symlink_to(target, target_is_directory=True)
    except (OSError, NotImplementedError) as error:
        pytest.skip(f"symbolic links cannot be made here: {error}")


def test_links_neither_loop_nor_give_a_file_twice(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "a").mkdir(parents=True)
    outside.mkdir()
    (root / "a" / "1.tif").write_bytes(b"1")
    (outside / "2.tif").write_bytes(b"1")
    link(root / "a" / "up", root)
    link(root / "twin", root / "a")
    link(root / "above", tmp_path)
    link(root / "out", outside)
    link(root / "out2", outside)
    link(outside / "back", root / "out")
    link(root / "broken", tmp_path / "nowhere")
    tree = scanner(root)
    found = names(tree.scan())
    assert len(found) == 2
    assert found[0] == "a/1.tif"
    assert found[1] in ("out/2.tif", "out2/2.tif")
    assert tree.scan() == Changes()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no named pipes in folders")
def test_a_pipe_named_like_a_frame_is_not_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "1.tif")
    assert scanner(tmp_path).scan().seen == {}


def test_an_error_half_way_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = scanner(tmp_path)
    tree.scan()
    for number in range(4):
        (tmp_path / f"{number}.tif").write_bytes(b"1")
    enter, failures = tree._enter, iter([False, True])

    def fail_at_the_second(directory: Any, name: str) -> bool:
        if next(failures, False):
            raise MemoryError
        return enter(directory, name)

    monkeypatch.setattr(tree, "_enter", fail_at_the_second)
    with pytest.raises(MemoryError):
        tree.scan()
    assert names(tree.scan()) == [f"{number}.tif" for number in range(4)]


def test_patrol_goes_on_after_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(200):
        (tmp_path / f"{number}.tif").write_bytes(b"1")
    tree = scanner(tmp_path)
    tree.scan()
    tree._recent_files.clear()
    with monkeypatch.context() as patch:

        def fail(*_: Any) -> None:
            raise MemoryError

        patch.setattr(tree, "_examine_again", fail)
        with pytest.raises(MemoryError):
            tree.scan()
    for number in range(200):
        (tmp_path / f"{number}.tif").write_bytes(b"22")
    found: list[str] = []
    for _ in range(20):
        found += names(tree.scan())
    assert len(found) == len(set(found)) == 200
