"""STO/Ge of the pyChip paper: agreement with the authors' predictions, and time beside their way.

The authors' 15 loose support chips become a profile through ``import_chips`` (``profile import``);
then the raw image is cut into 32 × 32 chips of 95 px. Their predictions are a model's output, not
truth. The chips were equalised (CLAHE), the image was not.

The paper's way is timed, not judged: ResNet-18 with RANDOM weights, each chip at 224 px, batches
of 64, PyTorch f32 (no package with ImageNet weights for a ResNet is known).

Run: python benchmarks/sto_ge.py [DATA]
"""

from __future__ import annotations

import argparse
import csv
import re
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
import torchvision
from numpy.typing import NDArray
from PIL import Image

from pychip_live.core.frame import Frame
from pychip_live.core.grid import Grid
from pychip_live.core.profile import (
    EmbeddingOptions,
    GridOptions,
    ProfileOptions,
    WindowOptions,
)
from pychip_live.core.result import FrameIdentity
from pychip_live.engine.chips import import_chips
from pychip_live.engine.recipe import Recipe
from pychip_live.engine.step import embed, label, prepare
from pychip_live.settings import Settings
from pychip_live.store.profiles import ProfileFolder

CHIP = 95
CLASSES = ("dots", "other", "snowmen")
METHODS = {
    "profile import, defaults (chip_px = 32)": (EmbeddingOptions(chip_px=32), False),
    "chip_px = 16": (EmbeddingOptions(chip_px=16), False),
    "chip_px = 32, clahe": (EmbeddingOptions(chip_px=32), True),
}


def predictions(path: Path) -> NDArray[np.intp]:
    """Class of each chip, row by row, as the authors' model says."""
    grid = np.full((32, 32), -1)
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            place = re.search(r"(\d+)_(\d+)\.png", row[""])
            if place:
                grid[int(place[1]) - 1, int(place[2]) - 1] = CLASSES.index(row["prediction"])
    return np.asarray(grid.reshape(-1))


def papers_way(image: NDArray[np.uint8], grid: Grid) -> float:
    """Seconds for all chips of the image."""
    network = torchvision.models.resnet18(weights=None).eval()
    start = time.perf_counter()
    chips = np.stack([image[y : y + CHIP, x : x + CHIP] for x, y in grid.corners()])
    with torch.inference_mode():
        for start_chip in range(0, len(chips), 64):
            batch = torch.from_numpy(chips[start_chip : start_chip + 64])
            large = torch.nn.functional.interpolate(
                batch[:, None].float() / 255, (224, 224), mode="bilinear"
            )
            network(large.expand(-1, 3, -1, -1))
    return time.perf_counter() - start


def ours(
    image: NDArray[np.uint8], support: Path, options: EmbeddingOptions, *, clahe: bool
) -> tuple[NDArray[np.int16], float]:
    """Labels of all chips by the imported profile, and seconds for the frame."""
    with tempfile.TemporaryDirectory() as made:
        profile = ProfileOptions(
            schema=1,
            name="sto-ge",
            grid=GridOptions(chip=CHIP),
            window=WindowOptions(clahe=clahe),
            embedding=options,
        )
        folder = ProfileFolder(Path(made) / "profile")
        import_chips(support, folder, profile, now=datetime.now(UTC))
        recipe = Recipe.open(folder.path, Settings())
        prototypes = recipe.prototypes(recipe.profile.support, 1)
        if prototypes is None:
            raise RuntimeError("the support set is empty")
        for _ in range(2):  # the first pass compiles
            start = time.perf_counter()
            prepared = prepare(
                Frame(image), FrameIdentity("sto_ge", None), recipe, seen_at=0.0, read_s=0.0
            )
            grid = prepared.grid
            result = label(embed(prepared, recipe), None, grid.rows, grid.cols, prototypes)
            seconds = time.perf_counter() - start
        names = [recipe.profile.support.named(name).id for name in CLASSES]
        labels = np.full(result.labels.size, -1, np.int16)
        for k, class_id in enumerate(names):
            labels[result.labels.reshape(-1) == class_id] = k
        return labels, seconds


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    beside = Path(__file__).resolve().parents[2] / "shared" / "data" / "pychip" / "sto_ge"
    parser.add_argument("data", type=Path, nargs="?", default=beside)
    data: Path = parser.parse_args().data
    image = np.asarray(Image.open(data / "STO-Ge-HAADF.jpg").convert("L"))
    expected = predictions(data / "authors_predictions.csv")
    print("| method | agreement, % | unknown, % | s a frame |\n| --- | --- | --- | --- |")
    fastest = np.inf
    for name, (options, clahe) in METHODS.items():
        labels, seconds = ours(image, data / "support_set", options, clahe=clahe)
        fastest = min(fastest, seconds)
        print(
            f"| {name} | {100 * np.mean(labels == expected):.1f} | "
            f"{100 * np.mean(labels == -1):.1f} | {seconds:.3f} |",
            flush=True,
        )
    seconds = papers_way(image, Grid(CHIP, *image.shape))
    print(f"| ResNet-18, random weights, 224 px, batches of 64 | — | — | {seconds:.1f} |")
    print(f"\nthe fastest of ours is {seconds / fastest:.0f} times as fast")


if __name__ == "__main__":
    main()
