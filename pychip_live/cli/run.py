"""``run``, ``analyze``, ``relabel``, ``export``: frames in, record and figures out."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pychip_live.cli.screen import ERROR_CONSOLE, Screen, progress_bar
from pychip_live.core.support import SupportSet
from pychip_live.engine.recipe import Recipe
from pychip_live.engine.relabel import relabel as relabel_run
from pychip_live.engine.run import Done, Listener, Run
from pychip_live.engine.start import PROFILE, Opened, open_run, register
from pychip_live.errors import EmptySupportError, PychipError, UsageError
from pychip_live.messages import RunSummary
from pychip_live.settings import load_settings
from pychip_live.sources import Source
from pychip_live.sources.files import FileSource
from pychip_live.sources.folder import FolderSource
from pychip_live.store.exports import export as export_run
from pychip_live.store.record import RunRecord


class Existing(StrEnum):
    """Which files count that are there before the run."""

    all = "all"
    new = "new"


ProfileArgument = Annotated[Path, typer.Argument(help="Profile folder.")]
RunsOption = Annotated[
    Path | None, typer.Option("--runs", help="Folder for run folders [default: runs].")
]
JsonOption = Annotated[bool, typer.Option("--json", help="End stdout with one JSON line.")]


def run(
    profile: Annotated[
        Path | None,
        typer.Argument(help="Profile folder; without one, frames are recorded unlabelled."),
    ] = None,
    watch: Annotated[
        list[Path] | None, typer.Option("--watch", help="Folder to watch, with its subfolders.")
    ] = None,
    runs: RunsOption = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the newest unfinished run.")
    ] = False,
    existing: Annotated[
        Existing, typer.Option(help="Analyse the files that are there already, or only new ones.")
    ] = Existing.all,
    until_idle: Annotated[
        float | None,
        typer.Option("--until-idle", min=0, help="End after this many seconds without news."),
    ] = None,
    dashboard: Annotated[
        bool, typer.Option("--dashboard/--no-dashboard", help="Not in this version yet.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Watch folders and analyse every new frame."""
    if not watch:
        raise UsageError("nothing to watch: name the acquisition folder with --watch FOLDER")
    if dashboard:
        raise UsageError("this version has no dashboard yet; run with --no-dashboard")
    settings = load_settings(runs=runs)
    with interruptible() as stop:
        opened = open_run(profile, watch, settings, resume=resume)
        with opened.record as record:
            _relabel_if_needed(opened)
            source = FolderSource(
                watch,
                # what came while nobody watched is new too: the baseline is the first process's
                existing="all" if opened.resumed else existing.value,
                done=[*record.done(), *record.ignored()],
            )
            with Screen(_support(opened)) as screen:
                go(opened, source, screen, stop, until_idle, json=json)


def analyze(
    profile: ProfileArgument,
    paths: Annotated[list[Path], typer.Argument(help="Files or folders.")],
    runs: RunsOption = None,
    cluster: Annotated[
        str | None, typer.Option("--cluster", help="Not in this version yet.", hidden=True)
    ] = None,
    json: JsonOption = False,
) -> None:
    """Analyse files or folders, in order."""
    if cluster:
        raise UsageError("this version cannot use a cluster yet; leave --cluster out")
    settings = load_settings(runs=runs)
    source = FileSource(paths)
    with interruptible() as stop:
        opened = open_run(profile, paths, settings)
        with opened.record, progress_bar() as bar:
            task = bar.add_task("analyse", total=source.total)

            class _Bar:
                def frame(self, done: Done) -> None:
                    if done.reason:
                        bar.console.print(f"skipped {done.identity.name}: {done.reason}")
                    bar.update(task, completed=source.taken)

                def state(self, text: str) -> None:
                    if text != "running":
                        bar.console.print(text)

            go(opened, source, _Bar(), stop, 0.0, json=json)


def relabel(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    profile: Annotated[
        Path | None, typer.Option("--profile", help="Profile folder [default: the run's own].")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Label a whole run again from its stored embeddings."""
    settings = load_settings()
    with RunRecord.resume(run, now=datetime.now(UTC)) as record:
        recipe = Recipe.open(profile or run / PROFILE, settings)
        prototypes = register(record, recipe)
        if prototypes is None:
            raise EmptySupportError(
                f"{recipe.folder.path}: no class has an example; add chips with "
                "'pychip-live profile add'"
            )
        with progress_bar() as bar:
            task = bar.add_task("relabel", total=record.n_frames)
            done = relabel_run(record, recipe, prototypes, lambda n: bar.update(task, completed=n))
        if done.lost:
            ERROR_CONSOLE.print(
                f"[yellow]{done.lost} frames keep their old labels: neither their embeddings nor "
                "their files are there any more[/]"
            )
        record.finish("done", now=datetime.now(UTC))
        if json:
            summary = RunSummary(
                run=str(run), frames=done.labelled, skipped=done.lost, seconds=done.seconds
            )
            typer.echo(summary.model_dump_json())
        else:
            ERROR_CONSOLE.print(f"{done.labelled} frames labelled in {done.seconds:.2f} s")


def export(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    out: Annotated[Path, typer.Argument(help="File, or folder to put it in.")],
    what: Annotated[
        str, typer.Option(help="fractions, chips, labels, overlay or chart.")
    ] = "fractions",
    format: Annotated[
        str | None, typer.Option(help="csv, parquet, tif, png, svg or h5 [default: by OUT].")
    ] = None,
) -> None:
    """Write results of a run as tables and figures."""
    exported = export_run(run, out, what, format)
    for note in exported.notes:
        ERROR_CONSOLE.print(f"[yellow]{note}[/]")
    for path in exported.paths:
        typer.echo(str(path))


def go(
    opened: Opened,
    source: Source,
    listener: Listener,
    stop: threading.Event,
    until_idle: float | None,
    *,
    json: bool,
) -> None:
    """Run to the end, write how it ended, print the summary."""
    record = opened.record
    start = time.perf_counter()
    work = Run(source, record, opened.recipe, opened.prototypes, listener, opened.first_frame)
    try:
        work.go(stop, until_idle)
    except PychipError as error:
        record.finish("failed", str(error), now=datetime.now(UTC))
        raise
    record.finish("stopped" if stop.is_set() else "done", now=datetime.now(UTC))
    seconds = time.perf_counter() - start
    summary = RunSummary(
        run=str(record.folder),
        frames=record.n_frames,
        skipped=record.n_skipped,
        seconds=round(seconds, 3),
    )
    ERROR_CONSOLE.print(
        f"{summary.frames} frames, {summary.skipped} skipped, {seconds:.1f} s, in {summary.run}",
        soft_wrap=True,
    )
    if json:
        typer.echo(summary.model_dump_json())


def _relabel_if_needed(opened: Opened) -> None:
    """Bring frames of an earlier process to the support set in force."""
    if opened.recipe and opened.prototypes and opened.resumed:
        relabel_run(opened.record, opened.recipe, opened.prototypes)


def _support(opened: Opened) -> SupportSet | None:
    return opened.recipe.profile.support if opened.recipe else None


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C (or SIGTERM) into a request to stop; the second interrupts."""
    stop = threading.Event()

    def ask(signum: int, frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    signals = [signal.SIGINT, signal.SIGTERM]
    before = {number: signal.signal(number, ask) for number in signals}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
