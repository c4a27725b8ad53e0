"""STO/Ge of the pyChip paper: agreement with the authors' predictions, and time beside their way.

The authors' 15 loose support chips become reference frames of one chip each, as ``profile import``
makes them; then the raw image is cut into 32 × 32 chips of 95 px. Their predictions are a model's
output, not truth. The chips were equalised (CLAHE), the image was not: hence the second row.

The paper's way is timed, not judged: ResNet-18 with RANDOM weights, each chip at 224 px, batches
of 64, PyTorch f32 (no package with ImageNet weights for a ResNet is known).

Run: python benchmarks/sto_ge.py [DATA]
"""

from __future__ import annotations

import argparse
import csv
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from numpy.typing import NDArray
from PIL import Image

from pychip_live.core.classify import classify
from pychip_live.core.embedding import project
from pychip_live.core.grid import Grid
from pychip_live.core.profile import EmbeddingOptions, WindowOptions
from pychip_live.core.prototypes import fit_prototypes
from pychip_live.embed import Embedder

CHIP = 95
CLASSES = ("dots", "other", "snowmen")
METHODS = {
    "default": (EmbeddingOptions(), WindowOptions()),
    "chip_px = 32, window clahe = true": (
        EmbeddingOptions(chip_px=32),
        WindowOptions(clahe=True),
    ),
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    beside = Path(__file__).resolve().parents[2] / "shared" / "data" / "pychip" / "sto_ge"
    parser.add_argument("data", type=Path, nargs="?", default=beside)
    data: Path = parser.parse_args().data
    image = np.asarray(Image.open(data / "STO-Ge-HAADF.jpg").convert("L"))
    grid = Grid(CHIP, *image.shape)
    expected = predictions(data / "authors_predictions.csv")
    support: list[tuple[int, NDArray[Any]]] = [
        (k, np.asarray(Image.open(path)))
        for k, name in enumerate(CLASSES)
        for path in sorted((data / "support_set" / name).iterdir())
    ]
    print("| method | agreement, % | unknown, % | s a frame |\n| --- | --- | --- | --- |")
    ours = 0.0
    for name, (options, window) in METHODS.items():
        embedder = Embedder(options, window)
        fit = embedder.fit([chip for _, chip in support], CHIP)
        examples = [
            project(embedder.features_at(embedder.window(c, fit.limits), np.zeros((1, 2), int),
                                         CHIP), fit)
            for _, c in support
        ]  # fmt: skip
        prototypes = fit_prototypes(
            np.concatenate([e.vectors for e in examples]),
            np.concatenate([e.residual for e in examples]),
            [k for k, _ in support],
            all_classes=range(len(CLASSES)), embedding_id=fit.embedding_id, revision=0,
        )  # fmt: skip
        embedder.embed(embedder.window(image, fit.limits), grid, fit)  # compiles
        start = time.perf_counter()
        embedding = embedder.embed(embedder.window(image, fit.limits), grid, fit)
        labels = classify(embedding, prototypes).labels
        seconds = time.perf_counter() - start
        ours = ours or seconds
        print(
            f"| {name} | {100 * np.mean(labels == expected):.1f} | "
            f"{100 * np.mean(labels == -1):.1f} | {seconds:.3f} |",
            flush=True,
        )
    seconds = papers_way(image, grid)
    print(f"| ResNet-18, random weights, 224 px, batches of 64 | — | — | {seconds:.1f} |")
    print(f"\nthe default is {seconds / ours:.0f} times as fast")


if __name__ == "__main__":
    main()
