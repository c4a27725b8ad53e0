"""``demo``: a simulated in-situ experiment and the daemon beside it; nothing else is needed."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from pychip_live.cli.options import Runs
from pychip_live.cli.run import go, interruptible
from pychip_live.cli.screen import ERROR_CONSOLE, Screen
from pychip_live.cli.simulate import PRESET_HELP
from pychip_live.engine.rehearsal import Agreement, compare, make_profile
from pychip_live.engine.start import open_run
from pychip_live.errors import PychipError, UsageError
from pychip_live.settings import load_settings
from pychip_live.simulate.truth import read_truth
from pychip_live.sources.folder import FolderSource
from pychip_live.store.history import open_history

PROFILE_SEED, RUN_SEED = 1, 2
PATIENCE_S = 3.0


def demo(
    duration: Annotated[float, typer.Option(min=1, help="Length of the experiment, s.")] = 60.0,
    rate: Annotated[float, typer.Option(min=0.01, help="Frames per second.")] = 4.0,
    preset: Annotated[str, typer.Option(help=PRESET_HELP)] = "crystallisation",
    size: Annotated[int, typer.Option(min=64, help="Edge of a frame, px.")] = 1024,
    chip: Annotated[int, typer.Option(min=1, help="Edge of a chip, px.")] = 32,
    runs: Runs = None,
    dashboard: Annotated[
        bool, typer.Option("--dashboard/--no-dashboard", help="Not in this version yet.")
    ] = False,
) -> None:
    """Watch a simulated specimen transform, then compare the curve with the truth."""
    if dashboard:
        raise UsageError("this version has no dashboard yet; run with --no-dashboard")
    settings = load_settings(runs=runs)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as made, interruptible() as stop:
        place = Path(made)
        frames = place / "frames"
        ERROR_CONSOLE.print("making a support set of 10 chips a phase on another specimen …")
        profile = make_profile(
            place / "profile",
            preset,
            size=size,
            chip=chip,
            seed=PROFILE_SEED,
            settings=settings,
        )
        opened = open_run(profile.path, [frames], settings)
        # a process of its own, as the microscope is: it must not take the daemon's time
        microscope = subprocess.Popen(
            [
                *(sys.executable, "-m", "pychip_live", "simulate", "folder", str(frames)),
                *("--preset", preset, "--frames", str(max(2, round(duration * rate)))),
                *("--rate", str(rate), "--size", str(size), "--seed", str(RUN_SEED)),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            with opened.record as record:
                with Screen(opened.recipe.profile.support if opened.recipe else None) as screen:
                    go(
                        opened,
                        FolderSource([frames]),
                        screen,
                        stop,
                        PATIENCE_S + 1 / rate,
                        json=False,
                        # a slow machine takes its time to start the microscope
                        expecting=lambda: microscope.poll() is None,
                    )
                if microscope.poll() not in (None, 0):
                    raise PychipError(
                        f"the simulated microscope failed (exit {microscope.returncode}); try "
                        f"'pychip-live simulate folder DIR' to see why"
                    )
        finally:
            microscope.terminate()
            microscope.wait()
        history = open_history(record.folder)
        with history:
            if stop.is_set() and not history.count()[0]:
                return
            _show(compare(history.shares(), read_truth(frames)))


def _show(agreements: list[Agreement]) -> None:
    table = Table(title="measured against the true phase fractions")
    for column in ("phase", "mean error", "worst error", "truth inside the 95 % interval"):
        table.add_column(column, justify="left" if column == "phase" else "right")
    for a in agreements:
        table.add_row(
            a.phase,
            f"{100 * a.mean_error:.1f} %",
            f"{100 * a.worst_error:.1f} %",
            f"{100 * a.covered:.0f} % of {a.frames} frames",
        )
    ERROR_CONSOLE.print(table)
