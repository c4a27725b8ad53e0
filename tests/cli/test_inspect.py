"""``inspect`` says what a file is, one line a path; ``doctor`` says whether a machine is ready."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pychip_live.settings import Settings
from pychip_live.simulate.dm4 import encode_dm4
from tests.cli.calling import Process, call, flat
from tests.engine.playing import picture, simulate, write_tiff

KEYS = [
    "path", "format", "complete", "planes", "shape", "dtype", "pixel_size", "unit",
    "acquired_at", "reason",
]  # fmt: skip


def lines(out: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in out.splitlines()]
    assert all(list(line) == KEYS for line in found)
    return found


def test_one_line_a_path(tmp_path: Path) -> None:
    good = tmp_path / simulate(tmp_path, 1)[0]
    stack = tmp_path / "stack.dm4"
    stack.write_bytes(encode_dm4(picture(1, (3, 40, 50))))
    (tmp_path / "torn.tif").write_bytes(good.read_bytes()[:3000])
    (tmp_path / "text.tif").write_text("no picture")
    (tmp_path / "empty.tif").touch()
    paths = [
        good,
        stack,
        *(tmp_path / n for n in ("torn.tif", "text.tif", "empty.tif", "gone.tif")),
    ]
    done = call("inspect", *paths, "--json")
    found = lines(done.stdout)
    assert done.stderr == ""
    assert [line["path"] for line in found] == [str(path) for path in paths]
    first, second, torn, text, empty, gone = found
    assert (first["complete"], first["shape"], first["dtype"]) == (True, [128, 128], "uint16")
    assert first["pixel_size"] > 0
    assert first["unit"]
    assert first["acquired_at"]
    assert first["reason"] is None
    assert (second["format"], second["planes"], second["shape"]) == ("DM4", 3, [40, 50])
    assert second["pixel_size"] is None
    assert torn["complete"] is False and torn["reason"].startswith("incomplete: ")
    assert "belong to no format" in text["reason"]
    assert empty["reason"] == "incomplete: the file is still empty"
    assert "No such file" in gone["reason"]
    whole = lines(call("inspect", tmp_path, "--json").stdout)
    assert len(whole) == 5
    table = call("inspect", tmp_path)
    assert table.stderr == ""
    (row,) = (line for line in table.stdout.splitlines() if "torn.tif" in line)
    assert str(tmp_path / "torn.tif") in row and "incomplete" in row


def test_zeros_are_believed_once_the_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "dark.tif"
    write_tiff(path, np.zeros((100, 100), np.uint16))
    (fresh,) = lines(call("inspect", path, "--json").stdout)
    assert (fresh["complete"], fresh["shape"]) == (False, [100, 100])
    assert "still zeros" in fresh["reason"]
    hour_ago = time.time() - 3600
    os.utime(path, (hour_ago, hour_ago))
    (left,) = lines(call("inspect", path, "--json").stdout)
    assert (left["complete"], left["reason"]) == (True, None)


@pytest.mark.slow
def test_real_and_hostile_files(shared_data: Path) -> None:
    hostile = sorted((shared_data / "hostile").rglob("*"))
    files = [path for path in hostile if path.is_file()][::4]
    done = Process("inspect", *files, shared_data / "series" / "npg_ductile", "--json")
    found = lines(done.end(patience=200))
    assert [line["path"] for line in found[: len(files)]] == [str(path) for path in files]
    assert all(line["shape"] or line["reason"] for line in found)
    real = found[len(files) :]
    assert len(real) == 9
    assert all(line["complete"] and line["shape"] for line in real)
    assert "Traceback" not in done.err


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_names_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xff.tif")
    try:
        write_tiff(path, picture(1))
    except OSError as error:
        pytest.skip(f"this file system takes no such name ({error})")
    (found,) = lines(Process("inspect", tmp_path, "--json").end())
    assert found["complete"]
    Process("inspect", tmp_path).end()


def test_doctor(place: Settings) -> None:
    done = call("doctor")
    assert "pychip-live 0" in done.stdout
    assert "wrong" not in done.stdout
    assert "ms a frame of 1024²" in flat(done.stdout)


def test_doctor_finds_what_is_wrong(place: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYCHIP_WEIGHTS", "/nowhere/weights.pth")
    done = call("doctor", code=1)
    assert "weights.pth" in flat(done.stdout)


def test_version() -> None:
    assert call("--version").stdout.strip()[0].isdigit()
