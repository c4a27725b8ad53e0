"""``run`` and ``analyze`` as a user or a script calls them."""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from pathlib import Path

import pytest

from pychip_live.errors import RecordError
from pychip_live.settings import Settings
from pychip_live.store.history import open_history
from tests.cli.calling import Process, call, flat, summary
from tests.engine.playing import (
    add_example,
    analysed,
    assert_same,
    copy_profile,
    picture,
    reasons,
    recorded,
    results,
    simulate,
    until,
    watched,
    write_tiff,
)

posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no such signal")


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    simulate(tmp_path / "frames", 4)
    return tmp_path / "frames"


def status(run: str | Path) -> str | None:
    with open_history(Path(run)) as history:
        return history.info.status


def begun(place: Settings) -> int:
    """Rows in the record of the only run; 0 until it is made."""
    try:
        return sum(len(recorded(run)) for run in place.runs.glob("*"))
    except RecordError:
        return 0


@pytest.mark.slow
def test_run_beside_a_microscope_of_its_own(
    simulated_profile: Path, place: Settings, tmp_path: Path
) -> None:
    frames = tmp_path / "frames"
    microscope = Process(
        "simulate", "folder", frames, "--frames", 12, "--rate", 5, "--size", 128,
        "--behaviour", "gatan", "--format", "dm4",
    )  # fmt: skip
    daemon = Process(
        "run", simulated_profile, "--watch", frames, "--until-idle", 3, "--no-dashboard", "--json"
    )
    assert microscope.end() == ""
    found = daemon.summary()
    assert (found["frames"], found["skipped"]) == (12, 0)
    assert "12 frames, 0 skipped" in flat(daemon.err)
    run = Path(found["run"])
    assert run.parent == place.runs
    assert status(run) == "done"
    names = list(results(run))
    assert all(
        n.startswith("crystallisation/Hour_00/Minute_00/Second_0") and n.endswith(".dm4")
        for n in names
    )
    assert_same(results(run), results(analysed(simulated_profile, [frames], place)))


def test_analyze_files_and_folders(
    simulated_profile: Path, place: Settings, frames: Path, tmp_path: Path
) -> None:
    write_tiff(frames / "deep" / "er" / "stack.tif", picture(1, (2, 64, 64)))
    (frames / "bad.tif").write_text("no picture")
    lone = write_tiff(tmp_path / "lone.tif", picture(2))
    done = call("analyze", simulated_profile, frames, lone, "--json")
    found = summary(done.stdout)
    assert (found["frames"], found["skipped"]) == (7, 1)
    run = Path(found["run"])
    assert {"deep/er/stack.tif#0", "deep/er/stack.tif#1", "lone.tif"} < set(results(run))
    assert reasons(run).keys() == {"bad.tif"}
    assert "bad.tif" in done.stderr
    assert status(run) == "done"
    order = [f.identity.name for f in recorded(run)]
    assert order[-1] == "lone.tif"
    quiet = call("analyze", simulated_profile, lone, "--runs", tmp_path / "elsewhere")
    assert quiet.stdout == ""
    assert [p.is_dir() for p in (tmp_path / "elsewhere").iterdir()] == [True]


def test_existing_new_ignores_what_was_there(
    simulated_profile: Path, place: Settings, frames: Path
) -> None:
    daemon = Process(
        "run", simulated_profile, "--watch", frames, "--existing", "new", "--json",
    )  # fmt: skip
    daemon.says("running")
    write_tiff(frames / "new.tif", picture(1))
    daemon.says("new.tif")
    daemon.kill()
    write_tiff(frames / "while_away.tif", picture(2))
    again = call(
        "run", simulated_profile, "--watch", frames, "--existing", "new", "--resume",
        "--until-idle", 0.5, "--json",
    )  # fmt: skip
    found = summary(again.stdout)
    assert set(results(Path(found["run"]))) == {"new.tif", "while_away.tif"}


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_ends_cleanly_and_is_gone_on_with(
    number: signal.Signals, simulated_profile: Path, place: Settings, frames: Path
) -> None:
    daemon = Process("run", simulated_profile, "--watch", frames, "--json")
    daemon.says("running")
    until(lambda: begun(place) == 4)
    (run,) = place.runs.iterdir()
    daemon.process.send_signal(number)
    found = daemon.summary()
    assert found["frames"] == 4
    assert "Traceback" not in daemon.err
    assert status(run) == "stopped"
    write_tiff(frames / "late.tif", picture(1))
    again = summary(
        call(
            "run", simulated_profile, "--watch", frames, "--resume", "--until-idle", 0.5, "--json"
        ).stdout
    )
    assert (again["run"], again["frames"]) == (found["run"], 5)
    assert status(run) == "done"
    fresh = call(
        "run", simulated_profile, "--watch", frames, "--resume", "--until-idle", 0.5, "--json"
    )
    assert summary(fresh.stdout)["run"] != found["run"]


@posix
def test_an_interrupted_analysis_ends_cleanly(
    simulated_profile: Path, place: Settings, tmp_path: Path
) -> None:
    stack = write_tiff(tmp_path / "stack.tif", picture(1, (3000, 64, 64)))
    work = Process("analyze", simulated_profile, stack, "--json")
    until(lambda: begun(place))
    (run,) = place.runs.iterdir()
    work.process.send_signal(signal.SIGINT)
    found = work.summary()
    assert 0 < found["frames"] < 3000
    assert status(run) == "stopped"


def test_a_second_daemon_on_the_same_run_is_refused(
    simulated_profile: Path, place: Settings, frames: Path
) -> None:
    daemon = Process("run", simulated_profile, "--watch", frames)
    daemon.says("running")
    try:
        refused = call("run", simulated_profile, "--watch", frames, "--resume", code=2)
        assert "another process works on this run" in flat(refused.stderr)
        (run,) = place.runs.iterdir()
        refused = call("relabel", run, code=2)
        assert "another process works on this run" in flat(refused.stderr)
    finally:
        daemon.kill()


def test_a_folder_that_does_not_exist_is_waited_for(
    simulated_profile: Path, place: Settings, tmp_path: Path
) -> None:
    frames = tmp_path / "later"
    daemon = Process("run", simulated_profile, "--watch", frames, "--until-idle", 4, "--json")
    daemon.says(f"waiting for folder {frames}")
    simulate(frames, 2)
    assert daemon.summary()["frames"] == 2


@pytest.mark.skipif(sys.platform != "linux", reason="needs prlimit")
def test_a_full_disk_pauses_the_run_until_there_is_room(
    simulated_profile: Path, place: Settings, frames: Path
) -> None:
    import resource

    daemon = Process("run", simulated_profile, "--watch", frames, "--until-idle", 3, "--json")
    daemon.says("running")
    (run,) = place.runs.iterdir()
    until(lambda: len(recorded(run)) == 4)
    log = run / "run.sqlite-wal"
    room = log.stat().st_size + 1000
    resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
    simulate(frames / "more", 5, seed=3)
    daemon.says("paused:")
    assert len(recorded(run)) < 9
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, unlimited)
    assert daemon.summary()["frames"] == 9
    assert_same(results(run), results(analysed(simulated_profile, [frames], place)))
    with sqlite3.connect(run / "run.sqlite") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_without_a_profile_frames_wait_for_examples(place: Settings, frames: Path) -> None:
    found = summary(call("run", "--watch", frames, "--until-idle", 0.5, "--json").stdout)
    run = Path(found["run"])
    assert found["frames"] == 4
    assert results(run) == {}
    refused = call("relabel", run, code=2)
    assert "no class has an example" in flat(refused.stderr)
    frame = sorted(frames.glob("*.tif"))[0]
    for name, chips in {"one": "0,0 0,1", "two": "1,0 1,1"}.items():
        call("profile", "add", run / "profile", "--class", name, "--frame", frame, "--chips", chips)
    again = summary(call("relabel", run, "--json").stdout)
    assert (again["run"], again["frames"]) == (str(run), 4)
    assert len(results(run)) == 4
    assert status(run) == "done"


def test_relabel_with_another_profile(
    simulated_profile: Path, place: Settings, frames: Path, tmp_path: Path
) -> None:
    run = watched(simulated_profile, frames, place)
    edited = copy_profile(simulated_profile, tmp_path / "edited")
    add_example(edited, "crust", 5, 7)
    done = call("relabel", run, "--profile", edited)
    assert done.stdout == ""
    assert "4 frames labelled" in flat(done.stderr)
    assert_same(results(run), results(analysed(edited, [frames], place)))
    toml = edited / "profile.toml"
    toml.write_text(toml.read_text(encoding="utf-8").replace("chip = 16", "chip = 32"))
    refused = call("relabel", run, "--profile", edited, code=2)
    assert "cannot be compared" in flat(refused.stderr)


def test_a_class_without_examples_is_left_out_and_said(
    simulated_profile: Path, place: Settings, frames: Path, tmp_path: Path
) -> None:
    profile = copy_profile(simulated_profile, tmp_path / "edited")
    with (profile / "profile.toml").open("a", encoding="utf-8") as file:
        file.write("\n[[classes]]\nname = 'ghost'\ncolor = '#123456'\n")
    done = call("analyze", profile, frames, "--json")
    assert "'ghost' has no example and is left out" in flat(done.stderr)
    run = Path(summary(done.stdout)["run"])
    out = tmp_path / "fractions.csv"
    call("export", run, out)
    header, first, *_ = out.read_text(encoding="utf-8").splitlines()
    assert header.endswith("ghost,ghost_low,ghost_high")
    assert first.endswith(",,,")


def test_names_with_markup_and_brackets(
    simulated_profile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYCHIP_THREADS", "1")
    frames = tmp_path / "[red]frames[-red]"
    write_tiff(frames / "[bold]a[-bold].tif", picture(1))
    (frames / "[broken.tif").write_text("no picture")
    runs = tmp_path / "[blue]runs"
    for command in (
        ["analyze", simulated_profile, frames],
        ["run", simulated_profile, "--watch", frames, "--until-idle", 0.5],
    ):
        done = call(*command, "--runs", runs, "--json")
        found = summary(done.stdout)
        assert (found["frames"], found["skipped"]) == (1, 1)
        assert "[broken.tif" in done.stderr
        assert "[blue]runs" in flat(done.stderr).replace(" ", "")


@posix
def test_names_that_are_no_text(simulated_profile: Path, place: Settings, tmp_path: Path) -> None:
    frames = tmp_path / os.fsdecode(b"caf\xe9")
    try:
        write_tiff(frames / os.fsdecode(b"\xff.tif"), picture(1))
    except OSError as error:
        pytest.skip(f"this file system takes no such name ({error})")
    found = Process("analyze", simulated_profile, frames, "--json").summary()
    assert found["frames"] == 1
    daemon = Process("run", simulated_profile, "--watch", frames, "--until-idle", 1, "--json")
    assert daemon.summary()["frames"] == 1
    out = tmp_path / "f.csv"
    Process("export", found["run"], out).end()
    assert len(out.read_text(encoding="utf-8").splitlines()) == 2
