"""Open a run: new, resumed, or without a profile yet; the run keeps its own copy of the profile.

The copy (``<run>/profile``) is what makes a run repeatable after the original was edited or lost.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from pychip_live import __version__
from pychip_live.core.frame import Frame
from pychip_live.core.profile import GridOptions, Profile, ProfileOptions
from pychip_live.core.prototypes import Prototypes
from pychip_live.core.support import SupportSet
from pychip_live.embed import Embedder
from pychip_live.engine.recipe import Recipe, ensure_fit, load_embedder
from pychip_live.errors import EmbeddingMismatchError, ProfileError
from pychip_live.settings import Settings
from pychip_live.store.history import newest_unfinished
from pychip_live.store.profiles import ProfileFolder
from pychip_live.store.record import RunRecord

log = logging.getLogger(__name__)

PROFILE = "profile"
"""Folder inside a run folder that holds the run's own copy of the profile."""
UNTITLED = "untitled"
"""Name of the profile of a run that was started without one."""
FIRST_CHIP = 50
"""Edge of a chip before anyone chose, px (or the frame's edge, if smaller)."""


@dataclass(slots=True)
class Opened:
    """A run that is ready to go.

    Parameters
    ----------
    record
        Open for writing; close it.
    recipe, prototypes
        None until there is a frame, or an example.
    resumed
        Whether the record has frames of an earlier process.
    first_frame
        Makes the recipe of a run without a profile.
    """

    record: RunRecord
    recipe: Recipe | None
    prototypes: Prototypes | None
    resumed: bool
    first_frame: Callable[[Frame, str], Recipe]


def open_run(
    profile: Path | None,
    sources: Sequence[Path],
    settings: Settings,
    *,
    command: Literal["run", "analyze"] = "run",
    resume: bool = False,
) -> Opened:
    """Open a new run, or the newest unfinished one of that profile.

    Parameters
    ----------
    profile
        Profile folder, or None to record unlabelled frames.
    sources
        Folders or files the frames come from, for the record.
    settings
        Of this place.
    command
        What the user asked for; only a ``run`` can be resumed.
    resume
        Go on with the newest unfinished run, if there is one.

    Raises
    ------
    ProfileError, WeightsError, RecordLockedError
        Before anything is written.
    """
    now = datetime.now(UTC)
    original = Recipe.open(profile, settings) if profile else None
    if original is not None:
        # a wrong example must show before there is a run
        original.prototypes(original.profile.support, original.profile.support.revision)
    name = original.profile.options.name if original else UNTITLED
    folder = newest_unfinished(settings.runs, name) if resume else None
    if folder is not None:
        return _resume(RunRecord.resume(folder, now=now), original, settings)
    embedder = original.embedder if original else _untitled_embedder(settings)
    record = RunRecord.create(
        settings.runs,
        profile_name=name,
        profile_hash=original.profile.hash if original else "",
        description={"command": command, **versions(), **embedder.description},
        sources=[str(source.absolute()) for source in sources],
        now=now,
        embedding_budget=int(settings.embedding_budget_gb * 1e9),
    )
    try:
        if original is None:
            return Opened(record, None, None, False, _first_frame(record, embedder))
        recipe = _copy(original, record)
        prototypes = register(record, recipe)
    except BaseException:
        record.close()
        raise
    return Opened(record, recipe, prototypes, False, _first_frame(record, embedder))


def open_own(folder: Path, settings: Settings, embedder: Embedder | None = None) -> Recipe:
    """Load a run's own copy of its profile; its fit is never made anew.

    Raises
    ------
    ProfileError
        If it is missing, or its grid, window or embedding was edited: the stored embeddings would
        not fit any more.
    """
    own = ProfileFolder(folder / PROFILE)
    profile = own.load()
    embedder = embedder or load_embedder(profile, settings)
    fit = own.load_fit()
    recipe = embedder.recipe(profile.options.grid.chip)
    if fit is None:
        raise ProfileError(f"{own.path}: the fit of the embedding is missing; start a new run")
    if fit.recipe != recipe:
        raise ProfileError(
            f"{own.path}: {_changes(fit.recipe, recipe)} since the run began, so its stored "
            "embeddings do not fit; put that back, or analyse the files again with a profile of "
            "their own"
        )
    return Recipe(own, profile, embedder, fit)


def open_edited(folder: Path, profile: Path, settings: Settings) -> Recipe:
    """Load another profile to label a run again with.

    Raises
    ------
    EmbeddingMismatchError
        If its embedding is not the one the run was recorded with.
    """
    recipe = Recipe.open(profile, settings)
    fit = ProfileFolder(folder / PROFILE).load_fit()
    if fit is None or fit.embedding_id != recipe.fit.embedding_id:
        have = "unknown" if fit is None else fit.embedding_id
        raise EmbeddingMismatchError(have, recipe.fit.embedding_id)
    return recipe


def register(record: RunRecord, recipe: Recipe) -> Prototypes | None:
    """Enter the support set in force into the record; None where it has no example."""
    support = recipe.profile.support
    made = recipe.prototypes(support, support.revision)
    number = record.add_revision(
        support=support,
        profile_hash=recipe.profile.hash,
        prototypes=made,
        now=datetime.now(UTC),
    )
    if made is None:
        log.warning("no class has an example: frames are recorded unlabelled")
        return None
    for class_id in made.excluded:
        log.warning(
            "class %r has no example and is left out; add one with 'pychip-live profile add'",
            support.by_id(class_id).name,
        )
    return replace(made, revision=number)


def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    packages = ("numpy", "torch", "torchvision", "timm", "tifffile")
    return {
        "pychip-live": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        **{package: version(package) for package in packages},
    }


def _resume(record: RunRecord, original: Recipe | None, settings: Settings) -> Opened:
    """Go on with the run's own copy, unless the original was edited since it was copied."""
    try:
        copy = record.folder / PROFILE
        if not (copy / "profile.toml").exists():
            # killed before the first frame of a run without a profile, or while copying
            shutil.rmtree(copy, ignore_errors=True)
            if original is None:
                embedder = _untitled_embedder(settings)
                return Opened(record, None, None, True, _first_frame(record, embedder))
            recipe = _copy(original, record)
        else:
            recipe = open_own(record.folder, settings, original.embedder if original else None)
            if original is not None and original.profile.hash != record.profile_hash:
                recipe = _adopt(original, recipe, record)
        prototypes = register(record, recipe)
    except BaseException:
        record.close()
        raise
    return Opened(record, recipe, prototypes, True, _first_frame(record, recipe.embedder))


def _adopt(original: Recipe, own: Recipe, record: RunRecord) -> Recipe:
    if original.fit.embedding_id != own.fit.embedding_id:
        raise ProfileError(
            f"{original.folder.path}: {_changes(own.fit.recipe, original.fit.recipe)} since "
            f"{record.folder.name} began, so its stored embeddings do not fit; run without "
            "--resume to start a new run"
        )
    recipe = _copy(original, record)
    record.adopt(original.profile.hash)
    return recipe


def _changes(before: str, now: str) -> str:
    """Say which options of a fit changed: ``chip changed from 16 to 20``."""
    old, new = json.loads(before), json.loads(now)
    parts = [
        f"{key} changed from {json.dumps(old.get(key))} to {json.dumps(new.get(key))}"
        for key in sorted({*old, *new})
        if old.get(key) != new.get(key)
    ]
    return " and ".join(parts) or "the fit of its embedding was made anew"


def _copy(original: Recipe, record: RunRecord) -> Recipe:
    folder = original.folder.copy_to(record.folder / PROFILE)
    folder.save_fit(original.fit)
    return original.moved(folder)


def _untitled(chip: int) -> ProfileOptions:
    return ProfileOptions(schema=1, name=UNTITLED, grid=GridOptions(chip=chip))


def _untitled_embedder(settings: Settings) -> Embedder:
    return load_embedder(Profile(options=_untitled(FIRST_CHIP), support=SupportSet()), settings)


def _first_frame(record: RunRecord, embedder: Embedder) -> Callable[[Frame, str], Recipe]:
    def make(frame: Frame, name: str) -> Recipe:
        # made beside and copied whole: a run that is killed here has no profile yet
        draft = ProfileFolder(record.folder / f".draft.{os.getpid()}")
        try:
            draft.create(_untitled(min(FIRST_CHIP, *frame.shape)))
            draft.add_reference(frame, Path(name).stem)
            profile = draft.load()
            made = Recipe(draft, profile, embedder, ensure_fit(draft, profile, embedder))
            return _copy(made, record)
        finally:
            # where it failed (a full disk), it is tried again with the next frame
            shutil.rmtree(draft.path, ignore_errors=True)

    return make
