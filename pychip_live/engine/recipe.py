"""A profile made ready to work: network loaded, fit made, examples embedded."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from pychip_live.core.embedding import Embedding, Fit, project
from pychip_live.core.profile import Profile
from pychip_live.core.prototypes import Prototypes, fit_prototypes
from pychip_live.core.support import Example, SupportSet
from pychip_live.embed import Embedder
from pychip_live.errors import ProfileError
from pychip_live.settings import Settings
from pychip_live.store.profiles import ProfileFolder

log = logging.getLogger(__name__)


def load_embedder(profile: Profile, settings: Settings) -> Embedder:
    """Load the network of a profile on this machine."""
    options = profile.options
    return Embedder(
        options.embedding,
        options.window,
        weights=settings.weights,
        device=settings.device,
        runtime=settings.runtime,
        allow_download=settings.allow_download,
        threads=settings.threads,
    )


def ensure_fit(folder: ProfileFolder, profile: Profile, embedder: Embedder) -> Fit:
    """Return the fit of a profile, made again where the options have changed since.

    Raises
    ------
    ProfileError
        If it must be made and there is no reference frame.
    """
    chip = profile.options.grid.chip
    fit = folder.load_fit()
    if fit is not None and fit.recipe == embedder.recipe(chip):
        return fit
    frames = [folder.read_reference(path.name).pixels for path in folder.references()]
    if not frames:
        raise ProfileError(
            f"{folder.path}: there is no reference frame to fit the embedding on; add one with "
            "'pychip-live profile add'"
        )
    fit = embedder.fit(frames, chip)
    try:
        folder.save_fit(fit)
    except OSError as error:
        log.warning("the fit of %s cannot be kept (%s): made anew next time", folder.path, error)
    return fit


class Recipe:
    """Everything a frame is analysed with.

    Parameters
    ----------
    folder
        The profile's folder; its reference frames are read when examples need them.
    profile, embedder, fit
        What it holds, made ready.
    """

    def __init__(
        self, folder: ProfileFolder, profile: Profile, embedder: Embedder, fit: Fit
    ) -> None:
        self.folder = folder
        self.profile = profile
        self.embedder = embedder
        self.fit = fit
        self._examples: dict[tuple[str, int, int, int], Embedding] = {}

    @classmethod
    def open(cls, path: Path, settings: Settings, embedder: Embedder | None = None) -> Recipe:
        """Load a profile folder and make it ready.

        Raises
        ------
        ProfileError, WeightsError
            Naming file, key and remedy.
        """
        folder = ProfileFolder(path)
        profile = folder.load()
        embedder = embedder or load_embedder(profile, settings)
        return cls(folder, profile, embedder, ensure_fit(folder, profile, embedder))

    def moved(self, folder: ProfileFolder) -> Recipe:
        """Return the same with a copy of its folder; examples are not embedded again."""
        copy = Recipe(folder, self.profile, self.embedder, self.fit)
        copy._examples = dict(self._examples)
        return copy

    @property
    def chip(self) -> int:
        """Edge of a chip, frame px."""
        return self.profile.options.grid.chip

    def prototypes(self, support: SupportSet, revision: int) -> Prototypes | None:
        """Embed what is new in a support set and average; None where no class has an example."""
        if not support.examples:
            return None
        self._embed([e for e in support.examples if e.place not in self._examples])
        embedded = [self._examples[e.place] for e in support.examples]
        return fit_prototypes(
            np.concatenate([e.vectors for e in embedded]),
            np.concatenate([e.residual for e in embedded]),
            [e.class_id for e in support.examples],
            all_classes=[c.id for c in support.classes],
            embedding_id=self.fit.embedding_id,
            revision=revision,
            unknown=self.profile.options.decision.unknown,
        )

    def _embed(self, examples: list[Example]) -> None:
        for name in sorted({e.reference for e in examples}):
            pixels = self.folder.read_reference(name).pixels
            here = [e for e in examples if e.reference == name]
            corners = np.array([e.corner(self.chip, *pixels.shape) for e in here])
            windowed = self.embedder.window(pixels, self.fit.limits)
            features = self.embedder.features_at(windowed, corners, self.chip)
            embedding = project(features, self.fit)
            for i, example in enumerate(here):
                self._examples[example.place] = Embedding(
                    embedding.id, embedding.vectors[i : i + 1], embedding.residual[i : i + 1]
                )
