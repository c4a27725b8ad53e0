"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Runs = Annotated[Path | None, typer.Option("--runs", help="Folder for run folders; default: runs.")]
Weights = Annotated[Path | None, typer.Option("--weights", help="Weights file of the backbone.")]
Download = Annotated[
    bool, typer.Option("--allow-download", help="Let torchvision fetch its published weights.")
]
Json = Annotated[bool, typer.Option("--json", help="End stdout with one JSON line.")]
