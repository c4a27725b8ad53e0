"""Wrong usage exits with 2, says what to do, leaves stdout clean and no run behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from pychip_live.settings import Settings
from tests.cli.calling import Process, call, flat
from tests.engine.playing import simulate

CASES: dict[str, tuple[list[str], str]] = {
    "nothing to watch": (["run", "PROFILE"], "--watch"),
    "a file to watch": (["run", "PROFILE", "--watch", "FRAME"], "is a file"),
    "no such profile": (["run", "GONE", "--watch", "FRAMES"], "is not a profile"),
    "the dashboard, not there yet": (
        ["run", "PROFILE", "--watch", "FRAMES", "--dashboard"], "--no-dashboard",
    ),
    "a wrong choice": (["run", "PROFILE", "--watch", "FRAMES", "--existing", "old"], "old"),
    "a negative time": (
        ["run", "PROFILE", "--watch", "FRAMES", "--until-idle", "-1"], "--until-idle",
    ),
    "nothing to analyse": (["analyze", "PROFILE"], "Missing argument"),
    "an empty folder": (["analyze", "PROFILE", "EMPTY"], "no frame in"),
    "no such file": (["analyze", "PROFILE", "GONE"], "does not exist"),
    "no profile": (["analyze", "FRAMES", "FRAMES"], "is not a profile"),
    "a cluster": (["analyze", "PROFILE", "FRAMES", "--cluster", "x"], "--cluster"),
    "an unknown option": (["analyze", "PROFILE", "FRAMES", "--jsn"], "--jsn"),
    "an unknown command": (["analyse"], "analyse"),
    "an unknown specimen": (["simulate", "folder", "OUT", "--preset", "cheese"], "cheese"),
    "an unknown behaviour": (["simulate", "folder", "OUT", "--behaviour", "odd"], "odd"),
    "no frames to simulate": (["simulate", "folder", "OUT", "--frames", "0"], "at least 1"),
    "a folder that holds frames": (["simulate", "folder", "FRAMES", "--frames", "1"], "exists"),
    "a dashboard in the demo": (["demo", "--dashboard"], "--no-dashboard"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_wrong_usage(case: str, simulated_profile: Path, place: Settings, tmp_path: Path) -> None:
    arguments, says = CASES[case]
    (tmp_path / "empty").mkdir()
    frames = tmp_path / "frames"
    names = {
        "PROFILE": simulated_profile,
        "FRAMES": frames,
        "FRAME": frames / simulate(frames, 1)[0],
        "EMPTY": tmp_path / "empty",
        "GONE": tmp_path / "gone",
        "OUT": tmp_path / "out",
    }
    refused = call(*(names.get(a, a) for a in arguments), code=2)
    assert says in flat(refused.stderr), refused.stderr
    assert refused.stdout == ""
    assert not place.runs.exists()
    assert not names["OUT"].exists()


def test_an_error_shows_names_as_they_are(tmp_path: Path) -> None:
    done = call("profile", "show", r"D:\[in situ]\[bold]steel", code=2)
    assert r"error: D:\[in situ]\[bold]steel is not a profile" in flat(done.stderr)


def test_exit_codes_of_the_process(tmp_path: Path) -> None:
    assert Process("analyze", tmp_path / "gone", tmp_path).end(code=2) == ""
    assert Process("export", tmp_path / "gone", tmp_path / "x.csv").end(code=1) == ""
    assert "Usage" in Process("--help").end()


@pytest.mark.parametrize(
    ("command", "says"),
    {
        "analyze": "default: runs",
        "relabel": "default: the run's own",
        "export": "default: by OUT",
        "profile new": "default: the folder's",
        "simulate folder": "default: 120, or all",
    }.items(),
)
def test_help_tells_defaults(command: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands in brackets is markup to the help, and vanishes."""
    monkeypatch.setenv("COLUMNS", "200")
    assert says in flat(call(*command.split(), "--help").stdout)


def test_simulate_plays_a_folder_and_keeps_stdout_clean(tmp_path: Path) -> None:
    names = simulate(tmp_path / "a", 3)
    done = call("simulate", "folder", tmp_path / "b", "--source", tmp_path / "a", "--rate", 0)
    assert done.stdout == ""
    assert "3 frames in" in flat(done.stderr)
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
