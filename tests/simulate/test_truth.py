from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pychip_live.errors import UsageError
from pychip_live.simulate.truth import TRUTH_FILE, Truth, TruthTable, read_truth

START = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
PHASES = ("amorphous", "crystalline")


def row(k: int) -> Truth:
    share = k / 7919
    fractions = {"crystalline": share, "amorphous": 1 - share}
    return Truth(f"run/frame_{k:05d}.tif", START + timedelta(seconds=k), fractions)


def test_round_trip_is_exact(tmp_path: Path) -> None:
    table = TruthTable(tmp_path / "new", PHASES)
    rows = [row(k) for k in range(5)]
    for truth in rows:
        table.append(truth)
    assert read_truth(tmp_path / "new") == rows


def test_columns(tmp_path: Path) -> None:
    TruthTable(tmp_path, PHASES).append(row(0))
    assert (tmp_path / TRUTH_FILE).read_text().splitlines() == [
        "frame,time,amorphous,crystalline",
        "run/frame_00000.tif,2026-01-02T03:04:05.678901+00:00,1.0,0.0",
    ]


@pytest.mark.parametrize("torn", ["", "frame,ti", "frame,time,a\n", "frame,time,a\nf.tif,2026-"])
def test_a_line_that_is_not_finished_is_not_read(tmp_path: Path, torn: str) -> None:
    (tmp_path / TRUTH_FILE).write_text(torn)
    assert read_truth(tmp_path) == []


def test_reading_while_it_is_written(tmp_path: Path) -> None:
    table = TruthTable(tmp_path, PHASES)
    rows = [row(k) for k in range(200)]

    def write() -> None:
        for truth in rows:
            table.append(truth)
            time.sleep(0.002)

    writer = threading.Thread(target=write)
    writer.start()
    lengths = set()
    while writer.is_alive():
        seen = read_truth(tmp_path)
        assert seen == rows[: len(seen)]
        lengths.add(len(seen))
    writer.join()
    assert read_truth(tmp_path) == rows
    assert len(lengths) > 2


def test_an_earlier_table_is_never_mixed_with_another(tmp_path: Path) -> None:
    TruthTable(tmp_path, PHASES)
    with pytest.raises(UsageError, match=r"truth\.csv.*empty folder"):
        TruthTable(tmp_path, PHASES)


def test_a_folder_without_a_table(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"truth\.csv does not exist"):
        read_truth(tmp_path)
