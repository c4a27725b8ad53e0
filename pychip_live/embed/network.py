"""The networks, as one module: grey image in, one feature vector a chip and stage out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import timm
import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn
from torch.nn import functional

from pychip_live.core.profile import EmbeddingOptions
from pychip_live.embed.runtime import Stage
from pychip_live.embed.weights import KNOWN, Weights, read
from pychip_live.errors import EmbeddingError, WeightsError


class DenseNetwork(nn.Module):
    """Truncated backbone and pooling.

    ``forward`` takes images ``(1, 1, h, w)`` and, a stage, the pooling weights of rows
    ``(rows, h / stride)`` and columns ``(cols, w / stride)``; it gives ``(rows, cols, channels)``
    a stage.
    """

    def __init__(self, model: nn.Module, indices: Sequence[int]) -> None:
        super().__init__()
        self.model = model
        self.grey = sum(MEAN) / 3
        self.indices = list(indices)

    def forward(self, image: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        """Run the network to its deepest stage, pool each stage over the chips, take signed roots.

        The root keeps a few strong channels from outvoting the rest (power normalisation: Perronnin
        et al., ECCV 2010).
        """
        maps = cast(Any, self.model).forward_intermediates(
            image - self.grey, indices=self.indices, stop_early=True, intermediates_only=True
        )
        down, across = weights[: len(maps)], weights[len(maps) :]
        pooled = (
            torch.matmul(torch.matmul(r, m[0]), c.t()).permute(1, 2, 0)
            for m, r, c in zip(maps, down, across, strict=True)
        )
        return tuple(torch.sign(p) * torch.sqrt(torch.abs(p)) for p in pooled)


class ChipNetwork(nn.Module):
    """Whole backbone; ``(n, 1, h, w)`` in, ``(n, channels)`` of the last layer, pooled, out."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.grey = sum(MEAN) / 3

    def forward(self, images: Tensor) -> tuple[Tensor]:
        """Embed each image alone."""
        return (self.model(images - self.grey),)


class _Padded(nn.Module):
    """A convolution of stride 2 that pads as told instead of as TensorFlow does."""

    def __init__(self, conv: nn.Conv2d, before: int, after: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            conv.in_channels, conv.out_channels, cast(Any, conv.kernel_size), stride=2,
            groups=conv.groups, bias=conv.bias is not None,
        )  # fmt: skip
        self.conv.load_state_dict(conv.state_dict())
        self.pad = (before, after, before, after)

    def forward(self, x: Tensor) -> Tensor:
        padded: Tensor = self.conv(functional.pad(x, self.pad))
        return padded


def build(options: EmbeddingOptions, weights: Weights) -> tuple[nn.Module, list[Stage]]:
    """Build the network of a profile; a chip-wise one has no stages.

    Raises
    ------
    WeightsError
        If the file belongs to another network.
    EmbeddingError
        If the backbone does not exist or lacks a stage.
    """
    model = load(options.backbone, weights)
    if options.method == "chip":
        return ChipNetwork(model).eval(), []
    module, stages = dense(model, options.stages)
    return module.eval(), stages


def load(backbone: str, weights: Weights) -> nn.Module:
    """Build a network and load its weights; the head is dropped.

    Raises
    ------
    WeightsError
        If the file belongs to another network.
    EmbeddingError
        If timm has no such network.
    """
    known = KNOWN.get(backbone)
    name = known.timm_name if known else backbone
    try:
        model = timm.create_model(name, pretrained=False)
    except RuntimeError as error:
        raise EmbeddingError(
            f"timm has no network {name!r} ({error}); choose a name timm.list_models() shows"
        ) from error
    state = dict(read(weights))
    own = model.state_dict()
    if known and known.package and len(state) == len(own):
        # the packaged files use other names in the same order
        state = dict(zip(own, state.values(), strict=True))
    wrong = [k for k in own if k not in state or state[k].shape != own[k].shape]
    if wrong or len(state) != len(own):
        raise WeightsError(
            weights.path,
            f"does not fit {name}: {len(state)} tensors for {len(own)}, first misfit "
            f"{wrong[0] if wrong else next(k for k in state if k not in own)!r}; "
            f"give the weights of {name}",
        )
    model.load_state_dict(state)
    cast(Any, model).reset_classifier(0)
    return _grey(model).eval()


def dense(model: nn.Module, stages: Sequence[int]) -> tuple[DenseNetwork, list[Stage]]:
    """Keep the stages asked for.

    Raises
    ------
    EmbeddingError
        If the backbone lacks one of them.
    """
    info = cast(Any, model).feature_info
    reductions = [int(f["reduction"]) for f in (info.info if hasattr(info, "info") else info)]
    indices = []
    for stage in stages:
        if 2**stage not in reductions:
            raise EmbeddingError(
                f"this backbone has no stage {stage} (stride {2**stage}); its strides are "
                f"{reductions}: change stages in [embedding]"
            )
        indices.append(reductions.index(2**stage))
    offsets = _align(model)
    return DenseNetwork(model, indices), [Stage(2**s, offsets[s - 1]) for s in stages]


MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet, for every backbone; see docs/decisions on the contrast of micrographs."""


def _grey(model: nn.Module) -> nn.Module:
    """Fold three equal channels and their normalisation into the first convolution.

    Exact inside; at the border the padding stands for one grey instead of three means, which the
    mirrored surroundings keep out of every chip's own pixels.
    """
    conv = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    if conv is None or conv.in_channels != 3 or conv.groups != 1:
        raise EmbeddingError(
            "this network does not start with a convolution of three channels; choose another"
        )
    scaled = conv.weight.detach() / torch.tensor(STD)[None, :, None, None]
    shift = sum(MEAN) / 3 - torch.tensor(MEAN)
    bias = (scaled * shift[None, :, None, None]).sum(dim=(1, 2, 3))
    if conv.bias is not None:
        bias = bias + conv.bias.detach()
    conv.in_channels = 1
    conv.weight = nn.Parameter(scaled.sum(dim=1, keepdim=True))
    if bool(bias.any()):
        conv.bias = nn.Parameter(bias)
    return model


def _align(model: nn.Module) -> list[float]:
    """Offsets of stages 1, 2, …: where their pixels lie, off the middle of their stride.

    TensorFlow's padding puts the pixels of every strided convolution half an input pixel too far
    right and down, which adds up to 7.5 network px at stride 16: half a chip. Padding on alternate
    sides instead keeps it within 2.5 px; the filters are untouched.
    """
    strided = [m for m in model.modules() if isinstance(m, nn.Conv2d) and max(m.stride) == 2]
    if not strided or not all(isinstance(m, Conv2dSame) for m in strided):
        # odd kernels, padded alike on both sides, look at the first pixel of each pair
        padded = bool(strided) and strided[0].kernel_size[0] % 2 == 1
        return [-(2**stage - 1) / 2 if padded else 0.0 for stage in range(1, 6)]
    offsets, total = [], 0.0
    for k, conv in enumerate(strided):
        after = k % 2 == 0
        before = (conv.kernel_size[0] - 2 + (0 if after else 1)) // 2
        name = next(n for n, m in model.named_modules() if m is conv)
        parent = model.get_submodule(name.rpartition(".")[0])
        setattr(
            parent, name.rpartition(".")[2], _Padded(conv, before, conv.kernel_size[0] - 2 - before)
        )
        total += (0.5 if after else -0.5) * 2**k
        offsets.append(total)
    return offsets
