"""``simulate folder``: a microscope to rehearse with."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from pychip_live.cli.run import interruptible
from pychip_live.cli.screen import ERROR_CONSOLE, progress_bar
from pychip_live.simulate.behaviours import Behaviour
from pychip_live.simulate.files import Format
from pychip_live.simulate.folder import play
from pychip_live.simulate.presets import PRESETS

app = typer.Typer(no_args_is_help=True, help="A microscope to rehearse with.")

PRESET_HELP = f"Simulated specimen: {', '.join(PRESETS)}."


@app.callback()
def _group() -> None:
    """Keep ``folder`` a subcommand though it is the only one."""


@app.command()
def folder(
    directory: Annotated[Path, typer.Argument(help="Acquisition folder to write into.")],
    preset: Annotated[str, typer.Option(help=PRESET_HELP)] = "crystallisation",
    source: Annotated[
        Path | None, typer.Option(help="Folder of images to play instead of a specimen.")
    ] = None,
    frames: Annotated[int | None, typer.Option(help="How many; default: 120, or all.")] = None,
    rate: Annotated[float, typer.Option(help="Frames per second; 0 for as fast as it goes.")] = 1.0,
    size: Annotated[int, typer.Option(help="Edge of a simulated frame, px.")] = 1024,
    format: Annotated[Format, typer.Option(help="File format.")] = "tiff",
    behaviour: Annotated[Behaviour, typer.Option(help="How a file arrives.")] = "atomic",
    burst: Annotated[int, typer.Option(help="Frames that arrive at once.")] = 1,
    seed: Annotated[int, typer.Option(help="Another number is another specimen.")] = 0,
) -> None:
    """Write frames into a folder the way a microscope does, the truth in truth.csv beside them."""
    with interruptible() as stop, progress_bar() as bar:
        task = bar.add_task("simulate", total=frames)
        written = play(
            directory,
            preset=preset,
            source=source,
            frames=frames,
            rate=rate if rate > 0 else math.inf,
            size=size,
            form=format,
            behaviour=behaviour,
            burst=burst,
            seed=seed,
            stop=stop,
            on_frame=lambda _: bar.advance(task),
        )
    ERROR_CONSOLE.print(f"{len(written)} frames in {directory}")
