from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pychip_live.errors import RecordBusyError, RecordError, RecordLockedError
from pychip_live.store.history import newest_unfinished, open_history
from pychip_live.store.record import RunRecord
from tests.store.making import (
    NOW,
    commit,
    enter,
    identity,
    new_record,
    result,
    same_result,
    support,
    write_until_killed,
)

ROOT = Path(__file__).resolve().parents[2]


def check_intact(folder: Path, revision: int) -> int:
    """Every frame is there with all that belongs to it; returns how many there are."""
    with sqlite3.connect(folder / "run.sqlite") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    connection.close()
    with open_history(folder) as history:
        frames = list(history.frames())
        assert [f.sequence for f in frames] == list(range(1, len(frames) + 1))
        assert [f.identity for f in frames] == [identity(i) for i in range(len(frames))]
        assert history.curve(revision).sequence.tolist() == [f.sequence for f in frames]
        assert sum(1 for _ in history.embeddings()) == len(frames)
        for f in frames[-3:]:
            i = f.sequence - 1
            assert same_result(history.result(f.sequence, revision), result(i, revision))
            assert history.thumbnail(f.sequence) == b"picture %d" % i
    return len(frames)


def test_a_killed_writer_leaves_whole_frames_and_the_next_goes_on(tmp_path: Path) -> None:
    record = new_record(tmp_path)
    revision = enter(record, support())
    record.close()
    spawn = multiprocessing.get_context("spawn")
    pause = random.Random(5)
    n = 0
    for _ in range(4):
        process = spawn.Process(target=write_until_killed, args=(record.folder, n))
        process.start()
        deadline = time.monotonic() + 60
        with open_history(record.folder) as history:
            while history.count()[0] <= n:
                assert process.is_alive()
                assert time.monotonic() < deadline
                time.sleep(0.002)
        time.sleep(pause.random() * 0.1)
        process.kill()
        process.join()
        assert newest_unfinished(tmp_path, "a profile") == record.folder
        with open_history(record.folder) as history:  # before anybody repairs anything
            assert history.count()[0] > n
        with RunRecord.resume(record.folder, now=NOW) as resumed:
            assert resumed.current_revision() == revision
            assert len(resumed.done()) == resumed.n_frames
        before, n = n, check_intact(record.folder, revision)
        assert n > before


def test_two_processes_on_one_run_are_refused(tmp_path: Path) -> None:
    with new_record(tmp_path) as record:
        with pytest.raises(RecordLockedError, match="another process works on this run"):
            RunRecord.resume(record.folder, now=NOW)
        code = (
            "import sys; from datetime import UTC, datetime; from pathlib import Path\n"
            "from pychip_live.errors import RecordLockedError\n"
            "from pychip_live.store.record import RunRecord\n"
            "try: RunRecord.resume(Path(sys.argv[1]), now=datetime.now(UTC))\n"
            "except RecordLockedError: sys.exit(42)\n"
        )
        other = subprocess.run([sys.executable, "-c", code, str(record.folder)], check=False)
        assert other.returncode == 42
        assert commit(record, 0, None) == 1  # the owner did not notice
    RunRecord.resume(record.folder, now=NOW).close()


def test_full_disk_pauses_and_the_same_commit_succeeds_later(tmp_path: Path) -> None:
    with new_record(tmp_path) as record:
        revision = enter(record, support())
        commit(record, 0, revision)
        connection = record._database._writer
        assert connection is not None
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")
        n = 1
        with pytest.raises(RecordBusyError, match="disk is full"):
            while n < 500:
                commit(record, n, revision)
                n += 1
        for _ in range(3):
            with pytest.raises(RecordBusyError):
                commit(record, n, revision)
        assert record.n_frames == n  # reading goes on, nothing half written
        connection.execute("PRAGMA max_page_count = 1000000")
        assert commit(record, n, revision) == n + 1
    assert check_intact(record.folder, revision) == n + 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit of file size a process")
def test_writes_that_the_system_refuses(tmp_path: Path) -> None:
    """EFBIG at write(2), in the middle of the log: a real I/O error below SQLite."""
    code = """
import resource, signal, sys
from pathlib import Path
from pychip_live.errors import RecordBusyError
from tests.store.making import commit, enter, new_record, support
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
record = new_record(Path(sys.argv[1]))
revision = enter(record, support())
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, hard))
n = failed = 0
while n < 60:
    try:
        commit(record, n, revision)
        n += 1
    except RecordBusyError:
        failed += 1
        if failed == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
record.close()
print(failed, revision, record.folder)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True, text=True, cwd=ROOT, timeout=60, check=True,
    )  # fmt: skip
    failed, revision, folder = done.stdout.split(maxsplit=2)
    assert failed == "3"
    assert check_intact(Path(folder.strip()), int(revision)) == 60


def test_a_locked_database_is_busy_and_recovers(tmp_path: Path) -> None:
    with new_record(tmp_path) as record:
        revision = enter(record, support())
        blocker = sqlite3.connect(record.folder / "run.sqlite", isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        with pytest.raises(RecordBusyError, match="locked"):
            commit(record, 0, revision)
        blocker.execute("ROLLBACK")
        blocker.close()
        assert commit(record, 0, revision) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not rename folders in use")
def test_a_folder_that_goes_away_and_comes_back(tmp_path: Path) -> None:
    with new_record(tmp_path) as record:
        revision = enter(record, support())
        commit(record, 0, revision)
        away = tmp_path / "away"
        record.folder.rename(away)
        for _ in range(2):
            with pytest.raises(RecordBusyError, match="is gone"):
                commit(record, 1, revision)
            with pytest.raises(RecordBusyError, match="is gone"):
                list(record.embeddings())
        assert not record.folder.exists()  # and no new one was made in its place
        # as after a new mount: the same content, other inodes
        shutil.copytree(away, record.folder)
        assert commit(record, 1, revision) == 2
        with pytest.raises(RecordLockedError):
            RunRecord.resume(record.folder, now=NOW)
        assert len(list(record.embeddings())) == 2
    assert check_intact(record.folder, revision) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not replace files in use")
def test_another_run_under_the_same_name_is_not_written_to(tmp_path: Path) -> None:
    other = new_record(tmp_path)
    other.close()
    with new_record(tmp_path) as record:
        (other.folder / "run.sqlite").replace(record.folder / "run.sqlite")
        with pytest.raises(RecordError, match="replaced by the record of another run"):
            commit(record, 0, None)


@pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() == 0, reason="permissions do not bind this user"
)
def test_a_finished_run_is_read_from_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    with new_record(tmp_path) as record:
        commit(record, 0, enter(record, support()))
    record.folder.chmod(0o500)
    try:
        with open_history(record.folder) as history:
            assert history.count() == (1, 0)
    finally:
        record.folder.chmod(0o700)


def _not_a_run(folder: Path) -> None:
    with sqlite3.connect(folder / "run.sqlite") as connection:
        connection.execute("CREATE TABLE frames (a)")
    connection.close()


def _newer(folder: Path) -> None:
    new_record(folder.parent).close()
    (source,) = (p for p in folder.parent.glob("*_a-profile"))
    shutil.copy(source / "run.sqlite", folder / "run.sqlite")
    connection = sqlite3.connect(folder / "run.sqlite")
    connection.execute("PRAGMA user_version = 999")
    connection.close()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: None, "is not a run folder"),
        (lambda folder: (folder / "run.sqlite").write_bytes(b""), "not the record of a run"),
        (lambda folder: (folder / "run.sqlite").write_bytes(b"x" * 5000), "not a database"),
        (_not_a_run, "not the record of a run"),
        (_newer, "schema version 999"),
    ],
    ids=["empty folder", "empty file", "garbage", "another database", "newer schema"],
)
def test_what_is_no_run_is_refused_by_name(tmp_path: Path, make: object, message: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    assert callable(make)
    make(folder)
    with pytest.raises(RecordError, match=message) as caught:
        open_history(folder)
    assert str(folder) in str(caught.value)
    with pytest.raises(RecordError, match=message):
        RunRecord.resume(folder, now=NOW)
    # and it is not left locked
    with pytest.raises(RecordError, match=message):
        RunRecord.resume(folder, now=NOW)


def test_a_runs_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(RecordError, match="file"):
        new_record(tmp_path / "file" / "runs")


def test_a_damaged_database_is_said_to_be_damaged(tmp_path: Path) -> None:
    with new_record(tmp_path) as record:
        revision = enter(record, support())
        for i in range(100):
            commit(record, i, revision)
    path = record.folder / "run.sqlite"
    content = bytearray(path.read_bytes())
    content[16384 * 2 :] = b"\xff" * (len(content) - 16384 * 2)
    path.write_bytes(content)
    with (
        pytest.raises(RecordError) as caught,
        open_history(record.folder) as history,
    ):
        list(history.frames())
        list(history.embeddings())
    assert not isinstance(caught.value, RecordBusyError)
    assert "run.sqlite" in str(caught.value)


def test_an_interrupt_in_a_transaction_leaves_nothing(tmp_path: Path) -> None:
    with new_record(tmp_path) as record:
        with pytest.raises(KeyboardInterrupt), record._database.transaction() as connection:
            connection.execute("INSERT INTO ignored VALUES ('/x', 1, 1)")
            raise KeyboardInterrupt
        assert record.ignored() == []
        assert commit(record, 0, None) == 1
        assert record.n_frames == 1
