from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pychip_live.core.embedding import project
from pychip_live.core.grid import Grid
from pychip_live.core.profile import EmbeddingOptions, WindowOptions
from pychip_live.core.window import Limits
from pychip_live.embed import Embedder, geometry
from pychip_live.errors import EmbeddingError, UsageError

RUNTIMES: tuple[Literal["torch", "openvino"], ...] = ("torch", "openvino")


def texture(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Two textures side by side, so that features differ from chip to chip."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    wave = np.where(x < width // 2, np.sin(x / 2), np.sin((x + y) / 5))
    return np.asarray(120 + 60 * wave + rng.normal(0, 12, (height, width)), np.uint8)


def embedder(runtime: Literal["torch", "openvino"] = "openvino", **options: object) -> Embedder:
    return Embedder(
        EmbeddingOptions.model_validate(options), WindowOptions(), device="cpu", runtime=runtime
    )


def cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Lowest cosine of chips, after taking out the mean they share."""
    a, b = a - a.mean(axis=0), b - a.mean(axis=0)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(((a * b).sum(axis=1) / norms).min())


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("method", ["dense", "chip"])
def test_features_at_equals_features_on_the_grid(
    runtime: Literal["torch", "openvino"], method: str
) -> None:
    made = embedder(runtime, method=method, chip_px=16)
    windowed = made.window(texture(150, 210), Limits(0, 255))
    grid = Grid(20, 150, 210)
    every = made.features(windowed, grid)
    some = np.array([3, 41, 0, 69])
    for whole, part in zip(
        every, made.features_at(windowed, grid.corners()[some], 20), strict=True
    ):
        assert whole.shape[0] == grid.n_chips
        assert np.array_equal(whole[some], part)
    off_grid = made.features_at(windowed, np.array([[7, 13], [20, 40], [190, 130]]), 20)
    assert all(np.isfinite(f).all() and f.shape[0] == 3 for f in off_grid)
    row = 2 * grid.cols + 1
    assert all(np.array_equal(f[1], e[row]) for f, e in zip(off_grid, every, strict=True))


CHILD = """
import sys, hashlib
sys.path.insert(0, {tests!r})
from tests.embed.test_embedder import *
made = embedder({runtime!r})
fit = made.fit([texture(256, 320)], 32)
e = made.embed(made.window(texture(256, 320, 1), fit.limits), Grid(32, 256, 320), fit)
print(hashlib.sha256(e.vectors.tobytes() + e.residual.tobytes()).hexdigest(), fit.embedding_id)
"""


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_calls_and_processes_agree_bit_for_bit(runtime: Literal["torch", "openvino"]) -> None:
    code = CHILD.format(tests=str(Path(__file__).parents[2]), runtime=runtime)
    there = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    made = embedder(runtime)
    fit = made.fit([texture(256, 320)], 32)
    for _ in range(3):
        e = made.embed(made.window(texture(256, 320, 1), fit.limits), Grid(32, 256, 320), fit)
        made.features(made.window(texture(300, 300), fit.limits), Grid(30, 300, 300))  # other shape
        here = hashlib.sha256(e.vectors.tobytes() + e.residual.tobytes()).hexdigest()
        assert [here, fit.embedding_id] == there


def test_runtimes_agree_on_a_real_frame(shared_data: Path) -> None:
    path = shared_data / "labelled" / "msaem_np_bftem" / "images" / "test_00.png"
    pixels = np.asarray(Image.open(path))
    grid = Grid(24, *pixels.shape)
    on_torch, on_openvino = (embedder(r) for r in RUNTIMES)
    fit = on_torch.fit([pixels], 24)
    assert on_torch.recipe(24) == on_openvino.recipe(24)
    a, b = (e.embed(e.window(pixels, fit.limits), grid, fit) for e in (on_torch, on_openvino))
    x, y = a.vectors.astype(np.float32), b.vectors.astype(np.float32)
    assert cosine(x, y) > 0.99
    # prototypes of the darkest and brightest chips: the same labels but for chips on the fence
    level = np.array([c.mean() for c in _chips(pixels, grid)])
    order = level.argsort()
    means = np.stack([x[order[:5]].mean(axis=0), x[order[-5:]].mean(axis=0)])
    labels = [((v[:, None] - means) ** 2).sum(axis=2).argmin(axis=1) for v in (x, y)]
    assert 0 < labels[0].sum() < grid.n_chips
    assert (labels[0] == labels[1]).mean() >= 0.99


def _chips(pixels: NDArray[np.uint8], grid: Grid) -> list[NDArray[np.uint8]]:
    return [pixels[y : y + grid.chip, x : x + grid.chip] for x, y in grid.corners()]


def test_tiles_agree_with_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    made = embedder("torch")
    windowed = made.window(texture(640, 640), Limits(0, 255))
    grid = Grid(16, 640, 640)
    whole = made.features(windowed, grid)
    monkeypatch.setattr(geometry, "TILE_PX", 320)
    tiled = made.features(windowed, grid)
    fit = made.fit([texture(640, 640)], 16)
    a, b = (project(f, fit).vectors.astype(np.float32) for f in (whole, tiled))
    # the deepest stage sees further than the halo: chips at the seams agree less, but agree
    similar = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert similar.min() > 0.9
    assert np.median(similar) > 0.999


def test_features_follow_the_pixels_they_stand_for() -> None:
    """A bright spot is seen by the chip it lies in, at every stride up to a chip: no shift."""
    made = embedder("torch", stages=(1, 2, 3, 4))
    flat = np.full((336, 336), 100, np.uint8)
    spot = flat.copy()
    spot[160:176, 160:176] = 200  # chip 10, 10 of 21 × 21: the middle
    grid = Grid(16, 336, 336)
    a, b = (made.features(made.window(p, Limits(0, 255)), grid) for p in (flat, spot))
    for before, after in zip(a, b, strict=True):
        change = np.linalg.norm(after - before, axis=1).reshape(21, 21)
        assert np.unravel_index(change.argmax(), change.shape) == (10, 10)


def test_awkward_frames_go_through() -> None:
    made = embedder("openvino")
    for height, width, chip in [(1, 1, 1), (7, 40, 7), (95, 95, 95), (33, 65, 3)]:
        grid = Grid(chip, height, width)
        windowed = made.window(np.zeros((height, width), np.uint16), Limits(0, 0))
        features = made.features(windowed, grid)
        assert all(f.shape[0] == grid.n_chips and np.isfinite(f).all() for f in features)
    nan = np.full((64, 64), np.nan, np.float32)
    assert all(
        np.isfinite(f).all()
        for f in made.features(made.window(nan, Limits(0, 1)), Grid(16, 64, 64))
    )


def test_recipe_names_what_matters_and_nothing_of_the_machine() -> None:
    made = embedder("openvino")
    recipe = made.recipe(32)
    assert recipe != made.recipe(16)
    assert recipe != embedder("openvino", chip_px=32).recipe(32)
    assert "openvino" not in recipe
    assert made.description["runtime"] == "openvino"
    assert made.description["weights_sha256"] in recipe


def test_clahe_spreads_local_contrast() -> None:
    made = Embedder(
        EmbeddingOptions(), WindowOptions(mode="fixed", low=0, high=255, clahe=True), device="cpu"
    )
    pixels = texture(256, 256) // 8 + 100
    assert made.window(pixels, Limits(0, 255)).values.std() > 2 * (pixels / 255).std()


def test_wrong_choices_say_what_to_do() -> None:
    with pytest.raises(UsageError, match="runs on the CPU"):
        Embedder(EmbeddingOptions(), WindowOptions(), device="cuda", runtime="openvino")
    with pytest.raises(UsageError, match="choose cpu, cuda or auto"):
        Embedder(EmbeddingOptions(), WindowOptions(), device="abacus", runtime="torch")


def test_a_damaged_cache_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    windowed = embedder().window(texture(64, 64), Limits(0, 255))
    first = embedder().features(windowed, Grid(16, 64, 64))
    kept = next(tmp_path.rglob("*.bin"))
    kept.write_bytes(kept.read_bytes()[:-100] + bytes(100))
    again = embedder().features(windowed, Grid(16, 64, 64))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


def test_a_cache_that_cannot_be_written_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    windowed = embedder().window(texture(64, 64), Limits(0, 255))
    first = embedder().features(windowed, Grid(16, 64, 64))
    note = next(tmp_path.rglob("*.json"))
    note.unlink()
    note.mkdir()
    again = embedder().features(windowed, Grid(16, 64, 64))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert "cannot be written" in caplog.text
    assert not [p for p in tmp_path.rglob("*") if str(os.getpid()) in p.name]


def test_stage_that_the_backbone_lacks() -> None:
    from torch import nn

    from pychip_live.embed import network

    class Fake(nn.Module):
        feature_info = ({"reduction": 4},)

    with pytest.raises(EmbeddingError, match="no stage 1"):
        network.dense(Fake(), [1])
