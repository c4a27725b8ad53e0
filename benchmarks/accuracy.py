"""How right the label maps and phase fractions are, on labelled micrographs.

Protocol: five examples a class are drawn at random from the pure chips (at least 90 % one class)
of ONE reference frame; references are taken in turn from the frames that have at least five pure
chips of most classes; twelve draws, seeded. Scored on all frames of the set except the reference:
balanced accuracy of pure chips, of all chips (majority label), and the mean absolute error of the
phase fraction against the labelled pixels (mean over frames and classes), all in %. Classes
without a pure chip in the reference are left out of examples, chips and truth.

Run: python benchmarks/accuracy.py [DATA]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pychip_live.core.classify import classify
from pychip_live.core.embedding import Embedding, project
from pychip_live.core.fractions import phase_fractions
from pychip_live.core.grid import Grid
from pychip_live.core.profile import DecisionOptions, EmbeddingOptions, WindowOptions
from pychip_live.core.prototypes import Strictness, fit_prototypes
from pychip_live.core.support import UNKNOWN
from pychip_live.embed import Embedder

CHIPS = {
    "nasa_superalloy": 16,
    "uhcs_spheroidite": 16,
    "nasa_ebc": 32,
    "ardagen_alumina_pt_haadf": 16,
    "msaem_np_bftem": 24,
}
"""Edge of a chip in each set, px."""

EXAMPLES, DRAWS, PURE = 5, 12, 0.9
METHODS = {
    "default": (EmbeddingOptions(), WindowOptions()),
    "default, window mode frame": (EmbeddingOptions(), WindowOptions(mode="frame")),
    "paper's way (chip by chip, 64 px, Lite0, window mode frame)": (
        EmbeddingOptions(method="chip", chip_px=64),
        WindowOptions(mode="frame"),
    ),
}


@dataclass(frozen=True)
class Labelled:
    """One frame and the share of each class in each of its chips, ``(n_chips, classes)``."""

    pixels: NDArray[np.generic]
    grid: Grid
    shares: NDArray[np.float32]

    @property
    def majority(self) -> NDArray[np.intp]:
        """``(n_chips,)`` class with the largest share."""
        return np.asarray(self.shares.argmax(axis=1))

    @property
    def pure(self) -> NDArray[np.bool_]:
        """``(n_chips,)`` chips that are (almost) of one class."""
        return np.asarray(self.shares.max(axis=1) >= PURE)


def load(folder: Path, chip: int) -> list[Labelled]:
    frames = []
    for path in sorted((folder / "images").iterdir()):
        pixels = np.asarray(Image.open(path))
        labels = np.asarray(Image.open(folder / "labels" / path.name))
        grid = Grid(chip, *pixels.shape)
        shares = np.stack([grid.share_per_chip(labels == c) for c in range(8)], axis=1)
        frames.append(Labelled(pixels, grid, shares))
    return frames


def references(frames: list[Labelled]) -> list[int]:
    """Frames with enough pure chips of as many classes as any frame has."""
    counts = [
        sum(int(((f.majority == c) & f.pure).sum()) >= EXAMPLES for c in range(8)) for f in frames
    ]
    return [k for k, n in enumerate(counts) if n == max(counts)]


def embedded(
    embedder: Embedder, frames: list[Labelled], chip: int
) -> Callable[[int], list[Embedding]]:
    """Embeddings of all frames by reference frame, each made once."""
    own_window = embedder.window_options.mode != "frozen"
    features: list[list[NDArray[np.float32]]] = []
    made: dict[int, list[Embedding]] = {}

    def by_reference(reference: int) -> list[Embedding]:
        if reference not in made:
            fit = embedder.fit([frames[reference].pixels], chip)
            if not (own_window and features):  # features depend on the reference by its window only
                features[:] = [
                    embedder.features(embedder.window(f.pixels, fit.limits), f.grid) for f in frames
                ]
            made[reference] = [project(f, fit) for f in features]
        return made[reference]

    return by_reference


def balanced(predicted: NDArray[Any], truth: NDArray[Any]) -> float:
    return float(np.mean([np.mean(predicted[truth == c] == c) for c in np.unique(truth)]))


def score(
    frames: list[Labelled],
    by_reference: Callable[[int], list[Embedding]],
    unknown: Strictness,
) -> dict[str, float]:
    """Means over the draws, %."""
    rng = np.random.default_rng(0)
    candidates = references(frames)
    rows = []
    for draw in range(DRAWS):
        reference = candidates[draw % len(candidates)]
        here, embeddings = frames[reference], by_reference(reference)
        chosen: list[int] = []
        for c in range(8):
            pool = np.flatnonzero(here.pure & (here.majority == c))
            chosen += rng.choice(pool, min(EXAMPLES, pool.size), replace=False).tolist()
        classes = here.majority[chosen].tolist()
        kept = sorted(set(classes))
        prototypes = fit_prototypes(
            embeddings[reference].vectors[chosen], embeddings[reference].residual[chosen], classes,
            all_classes=kept, embedding_id=embeddings[reference].id, revision=0, unknown=unknown,
        )  # fmt: skip
        predicted, truth, pure, errors, covered = [], [], [], [], []
        for k, frame in enumerate(frames):
            if k == reference:
                continue
            result = classify(embeddings[k], prototypes)
            fractions = phase_fractions(embeddings[k], result, prototypes)
            actual = frame.shares[:, kept].sum(axis=0) / frame.shares[:, kept].sum()
            errors.append(np.abs(fractions.share - actual).mean())
            covered.append(((fractions.low <= actual) & (actual <= fractions.high)).mean())
            scored = np.isin(frame.majority, kept)
            predicted.append(result.labels[scored])
            truth.append(frame.majority[scored])
            pure.append(frame.pure[scored])
        p, t, u = (np.concatenate(x) for x in (predicted, truth, pure))
        rows.append(
            (balanced(p[u], t[u]), balanced(p, t), np.nanmean(errors), np.mean(covered),
             np.mean(p[u] == UNKNOWN))
        )  # fmt: skip
    names = ("pure", "all", "fraction_error", "covered", "unknown")
    return dict(zip(names, (100 * np.mean(rows, axis=0)).tolist(), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    beside = Path(__file__).resolve().parents[2] / "shared" / "data" / "labelled"
    parser.add_argument("data", type=Path, nargs="?", default=beside)
    data = parser.parse_args().data
    print("balanced accuracy of pure / of all chips / error of the phase fraction, %;")
    print("[share of pure chips called unknown; cover of the 95 % intervals, %]\n")
    print("| set (chip px) | " + " | ".join(METHODS) + " |")
    print("| --- " * (1 + len(METHODS)) + "|")
    for name, chip in CHIPS.items():
        frames = load(data / name, chip)
        cells = [f"{name} ({chip})"]
        for options, window in METHODS.values():
            start = time.perf_counter()
            by_reference = embedded(Embedder(options, window), frames, chip)
            off = score(frames, by_reference, "off")
            default = score(frames, by_reference, DecisionOptions().unknown)
            cells.append(
                f"{off['pure']:.1f} / {off['all']:.1f} / {off['fraction_error']:.1f} "
                f"[{default['unknown']:.2f}; {off['covered']:.0f}] "
                f"({time.perf_counter() - start:.0f} s)"
            )
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
