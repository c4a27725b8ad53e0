"""``profile new|add|import|show|check``: make and look at profiles."""

from __future__ import annotations

import getpass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.markup import escape
from rich.table import Table

from pychip_live.cli.options import Download, Weights
from pychip_live.cli.screen import ERROR_CONSOLE, answer
from pychip_live.core.frame import Frame
from pychip_live.core.grid import Grid
from pychip_live.core.profile import (
    EmbeddingOptions,
    GridOptions,
    Profile,
    ProfileOptions,
    WindowOptions,
)
from pychip_live.core.support import Example, SupportSet
from pychip_live.engine.chips import import_chips
from pychip_live.engine.recipe import Recipe, ensure_fit, load_embedder
from pychip_live.errors import ProfileError, ReadError, UsageError
from pychip_live.readers import open_file
from pychip_live.settings import load_settings
from pychip_live.store.profiles import ProfileFolder

app = typer.Typer(no_args_is_help=True, help="Make and look at profiles.")

FolderArgument = Annotated[Path, typer.Argument(help="Profile folder.")]
ChipOption = Annotated[int, typer.Option("--chip", min=1, help="Edge of a chip, px.")]
FrameOption = Annotated[Path, typer.Option("--frame", help="Reference frame.")]
ChipPx = typer.Option("--chip-px", help="Edge of a chip as the network sees it, px.")
Clahe = typer.Option("--clahe", help="Equalise contrast locally.")


@app.command()
def new(
    folder: FolderArgument,
    frame: FrameOption,
    chip: ChipOption,
    name: Annotated[str | None, typer.Option(help="Name; default: the folder's.")] = None,
    backbone: Annotated[str | None, typer.Option(help="Network.")] = None,
    method: Annotated[str | None, typer.Option(help="dense or chip.")] = None,
    chip_px: Annotated[int, ChipPx] = 16,
    clahe: Annotated[bool, Clahe] = False,
    weights: Weights = None,
    allow_download: Download = False,
) -> None:
    """Make a profile from a reference frame."""
    picture = _read(frame)
    Grid(chip, *picture.shape)
    settings = load_settings(weights=weights, allow_download=allow_download)
    options = _options(folder, chip, name, backbone, method, chip_px=chip_px, clahe=clahe)
    # the network is loaded first: a missing weights file must leave no half-made profile
    embedder = load_embedder(_bare(options), settings)
    stored = ProfileFolder(folder)
    stored.create(options)
    stored.add_reference(picture, frame.stem)
    ensure_fit(stored, stored.load(), embedder)
    typer.echo(str(folder))


@app.command()
def add(
    folder: FolderArgument,
    class_name: Annotated[str, typer.Option("--class", help="Class; made if it is new.")],
    frame: FrameOption,
    chips: Annotated[str, typer.Option("--chips", help='Rows and columns: "0,3 7,12".')],
    color: Annotated[str | None, typer.Option(help="Colour of a new class, #rrggbb.")] = None,
) -> None:
    """Add example chips of a frame to a class."""
    stored = ProfileFolder(folder)
    profile = stored.load()
    picture = _read(frame)
    grid = Grid(profile.options.grid.chip, *picture.shape)
    corners = [grid.corner(row, col) for row, col in _parse_chips(chips)]
    support = profile.support
    if not any(c.name.casefold() == class_name.strip().casefold() for c in support.classes):
        support = support.add_class(class_name, color)
    phase = support.named(class_name)
    reference = stored.add_reference(picture, frame.stem)
    for x, y in corners:
        support = support.add_example(
            Example(
                class_id=phase.id,
                reference=reference,
                x=x,
                y=y,
                size=grid.chip,
                who=_user(),
                when=datetime.now(UTC),
            )
        )
    for other in profile.support.classes:
        moved = profile.support.count(other.id) - support.count(other.id)
        if moved > 0:
            note = f"{moved} of them moved here from {other.name!r}: a chip shows one class"
            ERROR_CONSOLE.print(f"[yellow]{escape(note)}[/]")
    # one command is one edit
    stored.save_support(support.model_copy(update={"revision": profile.support.revision + 1}))
    typer.echo(f"{phase.name}: {support.count(phase.id)} examples")


@app.command("import")
def import_(
    directory: Annotated[Path, typer.Argument(help="Folder with one folder of chips a class.")],
    folder: FolderArgument,
    chip: ChipOption,
    name: Annotated[str | None, typer.Option(help="Name; default: the folder's.")] = None,
    backbone: Annotated[str | None, typer.Option(help="Network.")] = None,
    method: Annotated[str | None, typer.Option(help="dense or chip.")] = None,
    chip_px: Annotated[int, ChipPx] = 32,
    clahe: Annotated[bool, Clahe] = False,
    weights: Weights = None,
    allow_download: Download = False,
) -> None:
    """Make a profile from loose chips, one folder a class (as pyChip and ImageFolder keep them)."""
    settings = load_settings(weights=weights, allow_download=allow_download)
    options = _options(folder, chip, name, backbone, method, chip_px=chip_px, clahe=clahe)
    embedder = load_embedder(_bare(options), settings)
    imported = import_chips(directory, ProfileFolder(folder), options, now=datetime.now(UTC))
    ensure_fit(imported.folder, imported.folder.load(), embedder)
    for note in imported.notes:
        ERROR_CONSOLE.print(f"[yellow]{escape(note)}[/]")
    for phase_name, count in imported.counts.items():
        typer.echo(f"{phase_name}: {count} examples")


@app.command()
def show(folder: FolderArgument) -> None:
    """Show what a profile holds."""
    profile = ProfileFolder(folder).load()
    options, support = profile.options, profile.support
    table = Table(title=escape(f"{options.name}, revision {support.revision}"))
    for column in ("id", "class", "colour", "examples"):
        table.add_column(column)
    for phase in support.classes:
        table.add_row(
            str(phase.id),
            escape(phase.name),
            f"[{phase.color}]■[/] {phase.color}",
            str(support.count(phase.id)),
        )
    answer(table)
    typer.echo(f"chip {options.grid.chip} px")
    for section in (options.window, options.embedding, options.decision):
        for key, value in section.model_dump(exclude_none=True).items():
            typer.echo(f"{key} {value}")


@app.command()
def check(
    folder: FolderArgument, weights: Weights = None, allow_download: Download = False
) -> None:
    """Load a profile with its network, fit and examples, and say what is wrong or weak."""
    recipe = Recipe.open(folder, load_settings(weights=weights, allow_download=allow_download))
    support = recipe.profile.support
    prototypes = recipe.prototypes(support, support.revision)
    weak = [
        f"class {c.name!r} has {n} example{'s' if n != 1 else ''}: "
        + ("it is left out" if n == 0 else "its spread cannot be judged; 3 or more are better")
        for c in support.classes
        if (n := support.count(c.id)) < 2
    ]
    if len(support.classes) < 2:
        weak.append("fewer than two classes: every known chip is the same")
    for line in weak:
        ERROR_CONSOLE.print(f"[yellow]{escape(line)}[/]")
    state = "ready" if prototypes else "has no examples: it records frames unlabelled"
    typer.echo(f"{recipe.profile.options.name}: {state}; embedding {recipe.fit.embedding_id}")


def _options(
    folder: Path,
    chip: int,
    name: str | None,
    backbone: str | None,
    method: str | None,
    *,
    chip_px: int,
    clahe: bool,
) -> ProfileOptions:
    if folder.exists():
        raise ProfileError(f"{folder} exists already; choose another folder, or remove it first")
    given = {"backbone": backbone, "method": method, "chip_px": chip_px}
    try:
        embedding = EmbeddingOptions.model_validate(
            {k: v for k, v in given.items() if v is not None}
        )
        return ProfileOptions(
            schema=1,
            name=name or folder.name,
            grid=GridOptions(chip=chip),
            window=WindowOptions(clahe=clahe),
            embedding=embedding,
        )
    except ValidationError as error:
        first = error.errors()[0]
        key = "-".join(str(part) for part in first["loc"]).replace("_", "-")
        raise UsageError(f"--{key} {first['input']!r}: {first['msg']}") from error


def _bare(options: ProfileOptions) -> Profile:
    return Profile(options=options, support=SupportSet())


def _read(path: Path) -> Frame:
    try:
        with open_file(path) as file:
            return file.read(0)
    except ReadError as error:
        raise UsageError(str(error)) from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror or error})") from error


def _parse_chips(text: str) -> list[tuple[int, int]]:
    chips = []
    for part in text.split():
        row, comma, col = part.partition(",")
        if not (comma and row.strip().isdecimal() and col.strip().isdecimal()):
            raise UsageError(f'--chips: {part!r} is not ROW,COL; write for example "0,3 7,12"')
        chips.append((int(row), int(col)))
    if not chips:
        raise UsageError('--chips is empty; write for example "0,3 7,12"')
    return chips


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""
