"""The ready profiles: whole, up to date, and right about a specimen they have not seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pychip_live.core.frame import Frame
from pychip_live.core.result import FrameIdentity
from pychip_live.engine.recipe import Recipe
from pychip_live.engine.step import embed, label, prepare
from pychip_live.settings import Settings
from pychip_live.simulate.specimen import Specimen
from pychip_live.store.profiles import ProfileFolder

PROFILES = sorted(p.parent for p in (Path(__file__).parents[1] / "profiles").glob("*/profile.toml"))


def test_there_are_at_least_two() -> None:
    assert len(PROFILES) >= 2


@pytest.mark.parametrize("path", PROFILES, ids=lambda p: p.name)
def test_the_fit_is_that_of_the_present_embedding(path: Path) -> None:
    """Otherwise run ``python profiles/make.py``."""
    recipe = Recipe.open(path, Settings())
    kept = ProfileFolder(path).load_fit()
    assert kept is not None
    assert kept.recipe == recipe.embedder.recipe(recipe.chip)


@pytest.mark.parametrize("path", PROFILES, ids=lambda p: p.name)
def test_pure_chips_of_another_specimen_are_told_apart(path: Path) -> None:
    recipe = Recipe.open(path, Settings())
    support = recipe.profile.support
    prototypes = recipe.prototypes(support, support.revision)
    assert prototypes is not None
    specimen = Specimen((512, 512), 5, path.name)
    right = []
    for t in (0.2, 0.5, 0.9):
        pixels, phase_map = specimen.frame(t)
        prepared = prepare(
            Frame(pixels), FrameIdentity("frame", None), recipe, seen_at=0.0, read_s=0.0
        )
        grid = prepared.grid
        result = label(embed(prepared, recipe), None, grid.rows, grid.cols, prototypes)
        for number, phase in enumerate(specimen.phases):
            pure = grid.share_per_chip(phase_map == number) >= 0.95
            found = result.labels.reshape(-1)[pure] == support.named(phase).id
            right.append(found)
    assert np.concatenate(right).mean() > 0.9
