"""``inspect`` says what a file is; ``doctor`` says whether this machine is ready."""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.markup import escape
from rich.table import Table

from pychip_live.cli.screen import CONSOLE, answer
from pychip_live.core.grid import Grid
from pychip_live.core.profile import GridOptions, Profile, ProfileOptions
from pychip_live.core.support import SupportSet
from pychip_live.engine.recipe import load_embedder
from pychip_live.engine.start import versions
from pychip_live.errors import PychipError, ReadError
from pychip_live.messages import Inspection
from pychip_live.readers import SUFFIXES, Evidence, evidence, open_file
from pychip_live.settings import Settings, load_settings


def inspect(
    paths: Annotated[list[Path], typer.Argument(help="Files, or folders of them.")],
    json: Annotated[bool, typer.Option("--json", help="One JSON line a path.")] = False,
) -> None:
    """Say what files are: format, complete or not, shape, calibration, time, or the reason."""
    settle_s = load_settings().settle_s
    table = Table("file", "format", "frame", "calibration", "acquired", "remark")
    for path in _files(paths):
        found = inspect_file(path, settle_s)
        if json:
            typer.echo(found.line())
            continue
        planes = f"{found.planes} × " if found.planes and found.planes > 1 else ""
        shape = f"{planes}{found.shape[1]} × {found.shape[0]} {found.dtype}" if found.shape else ""
        size = f"{found.pixel_size:.4g} {found.unit}" if found.pixel_size else ""
        when = found.acquired_at.isoformat(" ", "seconds") if found.acquired_at else ""
        table.add_row(
            escape(found.path), found.format, shape, size, when, escape(found.reason or "")
        )
    if not json:
        answer(table)


def inspect_file(path: Path, settle_s: float) -> Inspection:
    """Look at one file; nothing is raised, the reason is in the answer.

    Zeros in place of pixels are believed, as a watcher would, once the file has been left alone
    for ``settle_s`` seconds.
    """
    try:
        shown = evidence(path)
        if shown.suspicious and time.time() - path.stat().st_mtime > settle_s:
            shown = Evidence(complete=True)
        if not shown.complete and not shown.suspicious:
            return Inspection(path=str(path), reason=f"incomplete: {shown.awaited}")
        with open_file(path) as file:
            frame = file.read(0)
            return Inspection(
                path=str(path),
                format=file.format,
                complete=shown.complete,
                planes=file.n_planes,
                shape=frame.shape,
                dtype=str(frame.pixels.dtype),
                pixel_size=frame.calibration.pixel_size if frame.calibration else None,
                unit=frame.calibration.unit if frame.calibration else None,
                acquired_at=frame.metadata.acquired_at,
                reason=shown.awaited or None,
            )
    except ReadError as error:
        return Inspection(path=str(path), reason=error.reason)
    except OSError as error:
        return Inspection(path=str(path), reason=f"cannot be read ({error.strerror or error})")


def doctor() -> None:
    """Check this machine: versions, network, speed, folders; exit 1 where something is wrong."""
    settings = load_settings()
    for name, value in versions().items():
        typer.echo(f"{name} {value}")
    typer.echo(f"cores {os.cpu_count()}")
    typer.echo(f"openvino {'yes' if importlib.util.find_spec('openvino') else 'no'}")
    checks: list[tuple[str, Callable[[], str]]] = [
        ("network", lambda: _check_network(settings)),
        ("runs folder", lambda: _check_folder(settings.runs)),
        ("temporary folder", lambda: _check_folder(Path(tempfile.gettempdir()))),
    ]
    failed = False
    for what, check in checks:
        try:
            CONSOLE.print(f"[green]ok[/]    {what}: {escape(check())}", soft_wrap=True)
        except (PychipError, OSError) as error:
            failed = True
            CONSOLE.print(f"[red]wrong[/] {what}: {escape(str(error))}", soft_wrap=True)
    if failed:
        raise typer.Exit(1)


def _check_network(settings: Settings) -> str:
    options = ProfileOptions(schema=1, name="doctor", grid=GridOptions(chip=32))
    embedder = load_embedder(Profile(options=options, support=SupportSet()), settings)
    pixels = np.random.default_rng(0).integers(0, 4096, (1024, 1024), np.uint16)
    fit = embedder.fit([pixels], 32)
    windowed, grid = embedder.window(pixels, fit.limits), Grid(32, 1024, 1024)
    embedder.embed(windowed, grid, fit)
    start = time.perf_counter()
    for _ in range(5):
        embedder.embed(windowed, grid, fit)
    each = (time.perf_counter() - start) / 5
    about = ", ".join(f"{k} {v}" for k, v in embedder.description.items())
    return f"{1e3 * each:.0f} ms a frame of 1024² with 1,024 chips ({about})"


def _check_folder(folder: Path) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as made:
        first, second = Path(made) / "a", Path(made) / "b"
        first.write_bytes(b"x")
        first.replace(second)
    return f"{folder.absolute()}, {shutil.disk_usage(folder).free / 1e9:.0f} GB free"


def _files(paths: list[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(
                p for p in path.rglob("*") if p.is_file() and p.suffix.lower() in SUFFIXES
            )
        else:
            yield path
