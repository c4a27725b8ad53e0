"""``export`` writes the columns of the contract; usage errors exit with 2."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from pychip_live.settings import Settings
from tests.cli.calling import call, flat
from tests.engine.playing import analysed, copy_profile, picture, results, simulate, write_tiff


@pytest.fixture
def run(simulated_profile: Path, place: Settings, tmp_path: Path) -> Path:
    frames = tmp_path / "frames"
    simulate(frames, 3)
    write_tiff(frames / "z" / "stack.tif", picture(1, (2, 64, 64)))
    (frames / "bad.tif").write_text("no picture")
    return analysed(simulated_profile, [frames], place)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_fractions(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "f.csv"
    done = call("export", run, out)
    assert done.stdout.strip() == str(out)
    assert "1 skipped" in done.stderr
    rows = table(out)
    fixed = ["sequence", "frame", "acquired_at", "recorded_at", "revision", "n_chips", "unknown"]
    assert list(rows[0])[:7] == fixed
    names = list(rows[0])[7::3]
    assert list(rows[0])[7:] == [f"{n}{end}" for n in names for end in ("", "_low", "_high")]
    assert [row["frame"] for row in rows][-2:] == ["z/stack.tif#0", "z/stack.tif#1"]
    for row in rows:
        shares = [float(row[name]) for name in names if row[name]]
        assert not shares or sum(shares) == pytest.approx(1)
        assert 0 <= float(row["unknown"]) <= 1
        assert row["n_chips"] == ("16" if "stack" in row["frame"] else "64")


def test_chips(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "c.csv"
    call("export", run, out, "--what", "chips")
    rows = table(out)
    assert len(rows) == 3 * 64 + 2 * 16
    fixed = ["sequence", "frame", "row", "col", "x", "y", "prediction", "confidence"]
    assert list(rows[0])[:8] == fixed
    names = [key.removeprefix("p_") for key in list(rows[0])[8:]]
    assert {row["prediction"] for row in rows} <= {"unknown", *names}
    assert rows[9]["x"] == "16" and rows[9]["y"] == "16"
    labels = results(run)["z/stack.tif#1"].labels.reshape(-1)
    last = [row["prediction"] for row in rows][-16:]
    assert [label == -1 for label in labels] == [word == "unknown" for word in last]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["x.parquet"], "x.parquet"),
        (["x.h5", "--what", "labels"], "x.h5"),
        (["folder/", "--what", "chart"], "folder/chart.svg"),
        (["chart.png", "--what", "chart"], "chart.png"),
        (["pictures", "--what", "overlay"], "pictures"),
    ],
)
def test_every_kind(arguments: list[str], expected: str, run: Path, tmp_path: Path) -> None:
    out = f"{tmp_path}/{arguments[0]}"
    done = call("export", run, out, *arguments[1:])
    assert (tmp_path / expected).exists()
    assert all(Path(line).exists() for line in done.stdout.splitlines())


def test_usage_errors(run: Path, tmp_path: Path) -> None:
    for arguments, says in (
        (["--what", "everything"], "no export of 'everything'"),
        (["--format", "svg"], "cannot be exported as 'svg'"),
        (["--format", "docx", "--what", "chips"], "cannot be exported as 'docx'"),
    ):
        refused = call("export", run, tmp_path / "out", *arguments, code=2)
        assert says in flat(refused.stderr)


def test_a_folder_that_is_no_run(tmp_path: Path, simulated_profile: Path) -> None:
    for folder in (tmp_path / "gone", copy_profile(simulated_profile, tmp_path / "p")):
        for command in (["export", folder, tmp_path / "x.csv"], ["relabel", folder]):
            refused = call(*command, code=1)
            assert "is not a run folder" in flat(refused.stderr)
