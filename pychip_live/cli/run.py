"""``run``, ``analyze``, ``relabel``, ``export``: frames in, record and figures out."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.markup import escape

from pychip_live.cli import options
from pychip_live.cli.screen import ERROR_CONSOLE, Screen, progress_bar
from pychip_live.core.prototypes import Prototypes
from pychip_live.core.support import SupportSet
from pychip_live.engine.recipe import Recipe
from pychip_live.engine.relabel import Relabelled
from pychip_live.engine.relabel import relabel as relabel_run
from pychip_live.engine.run import Done, Listener, Run
from pychip_live.engine.start import Opened, open_edited, open_own, open_run, register
from pychip_live.errors import EmptySupportError, PychipError, RecordError, UsageError
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


NAMED = 3
"""Frames named in a message about many."""

ProfileArgument = Annotated[Path, typer.Argument(help="Profile folder.")]


def run(
    profile: Annotated[
        Path | None,
        typer.Argument(help="Profile folder; without one, frames are recorded unlabelled."),
    ] = None,
    watch: Annotated[
        list[Path] | None, typer.Option("--watch", help="Folder to watch, with its subfolders.")
    ] = None,
    runs: options.Runs = None,
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
    weights: options.Weights = None,
    allow_download: options.Download = False,
    json: options.Json = False,
) -> None:
    """Watch folders and analyse every new frame."""
    if not watch:
        raise UsageError("nothing to watch: name the acquisition folder with --watch FOLDER")
    if dashboard:
        raise UsageError("this version has no dashboard yet; run with --no-dashboard")
    for folder in watch:
        if folder.is_file():
            raise UsageError(f"{folder} is a file; name the folder it lies in")
    settings = load_settings(runs=runs, weights=weights, allow_download=allow_download)
    with interruptible() as stop:
        opened = open_run(profile, watch, settings, resume=resume)
        with opened.record as record:
            _relabel_if_needed(opened, stop)
            source = FolderSource(
                watch,
                # what came while nobody watched is new too: the baseline is the first process's
                existing="all" if record.watched else existing.value,
                done=[*record.done(), *record.ignored()],
                settle_s=settings.settle_s,
            )
            with Screen(_support(opened)) as screen:
                go(opened, source, screen, stop, until_idle, json=json)


def analyze(
    profile: ProfileArgument,
    paths: Annotated[list[Path], typer.Argument(help="Files or folders.")],
    runs: options.Runs = None,
    cluster: Annotated[
        str | None, typer.Option("--cluster", help="Not in this version yet.", hidden=True)
    ] = None,
    weights: options.Weights = None,
    allow_download: options.Download = False,
    json: options.Json = False,
) -> None:
    """Analyse files or folders, in order."""
    if cluster:
        raise UsageError("this version cannot use a cluster yet; leave --cluster out")
    settings = load_settings(runs=runs, weights=weights, allow_download=allow_download)
    source = FileSource(paths)
    with interruptible() as stop:
        opened = open_run(profile, paths, settings, command="analyze")
        with opened.record, progress_bar() as bar:
            task = bar.add_task("analyse", total=source.total)

            class _Bar:
                def frame(self, done: Done) -> None:
                    if done.reason:
                        text = f"skipped {done.identity.name}: {done.reason}"
                        bar.console.print(escape(text), soft_wrap=True)
                    bar.update(task, completed=source.taken)

                def state(self, text: str) -> None:
                    if text != "running":
                        bar.console.print(escape(text), soft_wrap=True)

            go(opened, source, _Bar(), stop, 0.0, json=json)


def relabel(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    profile: Annotated[
        Path | None, typer.Option("--profile", help="Profile folder; default: the run's own.")
    ] = None,
    weights: options.Weights = None,
    allow_download: options.Download = False,
    json: options.Json = False,
) -> None:
    """Label a whole run again from its stored embeddings."""
    settings = load_settings(weights=weights, allow_download=allow_download)
    with interruptible() as stop, RunRecord.reopen(run) as record:
        recipe = open_edited(run, profile, settings) if profile else open_own(run, settings)
        prototypes = register(record, recipe)
        if prototypes is None:
            raise EmptySupportError(
                f"{recipe.folder.path}: no class has an example; add chips with "
                "'pychip-live profile add'"
            )
        done = _relabel(record, recipe, prototypes, stop)
        if json:
            summary = RunSummary(
                run=str(run),
                frames=done.labelled,
                skipped=len(done.lost),
                seconds=round(done.seconds, 3),
            )
            typer.echo(summary.line())


def export(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    # text, not a path: an ending separator says that it is a folder
    out: Annotated[str, typer.Argument(help="File, or folder to put it in.")],
    what: Annotated[
        str, typer.Option(help="fractions, chips, labels, overlay or chart.")
    ] = "fractions",
    format: Annotated[
        str | None, typer.Option(help="csv, parquet, tif, png, svg or h5; default: by OUT.")
    ] = None,
) -> None:
    """Write results of a run as tables and figures."""
    exported = export_run(run, out, what, format)
    for note in exported.notes:
        ERROR_CONSOLE.print(escape(note), style="yellow", soft_wrap=True)
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
    expecting: Callable[[], bool] = lambda: False,
) -> None:
    """Run to the end, write how it ended, print the summary."""
    record = opened.record
    start = time.perf_counter()
    work = Run(source, record, opened.recipe, opened.prototypes, listener, opened.first_frame)
    try:
        work.go(stop, until_idle, expecting)
    except Exception as error:
        reason = str(error) if isinstance(error, PychipError) else repr(error)
        # the record may be the very thing that failed
        with suppress(RecordError):
            record.finish("failed", reason, now=datetime.now(UTC))
        raise
    status: Literal["stopped", "done"] = "stopped" if stop.is_set() else "done"
    work.persist(lambda: record.finish(status, now=datetime.now(UTC)), stop)
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
        markup=False,
    )
    if json:
        typer.echo(summary.line())


def _relabel_if_needed(opened: Opened, stop: threading.Event) -> None:
    """Bring frames of an earlier process to the support set in force."""
    if opened.recipe and opened.prototypes and opened.resumed:
        _relabel(opened.record, opened.recipe, opened.prototypes, stop)


def _relabel(
    record: RunRecord, recipe: Recipe, prototypes: Prototypes, stop: threading.Event
) -> Relabelled:
    with progress_bar() as bar:
        task = bar.add_task("relabel", total=None)
        done = relabel_run(
            record, recipe, prototypes, lambda n: bar.update(task, completed=n), stop.is_set
        )
        bar.update(task, total=done.labelled, visible=done.labelled > 0)
    if done.lost:
        few = ", ".join(done.lost[:NAMED]) + (", …" if len(done.lost) > NAMED else "")
        text = (
            f"{len(done.lost)} frames keep their old labels: neither their embeddings nor their "
            f"files are there any more ({few})"
        )
        ERROR_CONSOLE.print(escape(text), style="yellow", soft_wrap=True)
    if done.labelled:
        ERROR_CONSOLE.print(f"{done.labelled} frames labelled in {done.seconds:.2f} s")
    if not done.complete:
        ERROR_CONSOLE.print("stopped before all frames were labelled; repeat it to go on")
    return done


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
