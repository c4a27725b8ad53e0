"""Where a network runs: PyTorch on a GPU or the CPU, or OpenVINO on the CPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from pychip_live.core.profile import EmbeddingOptions
from pychip_live.embed.weights import Weights


@dataclass(frozen=True, slots=True)
class Stage:
    """Stride of a stage, and by how much its pixels lie off their middle, network pixels."""

    stride: int
    offset: float


class Runtime(Protocol):
    """Something that runs the loaded network."""

    @property
    def description(self) -> dict[str, str]:
        """Device, runtime, precision and library versions."""

    def run(self, *inputs: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Feed the inputs of the network; give its outputs in float32."""


def open_runtime(
    options: EmbeddingOptions,
    weights: Weights,
    *,
    device: str,
    runtime: Literal["auto", "torch", "openvino"],
    threads: int | None,
) -> tuple[Runtime, list[Stage]]:
    """Load a network where it runs fastest, or where it is told to run."""
    from pychip_live.embed.network import build
    from pychip_live.embed.torch_runtime import TorchRuntime

    module, stages = build(options, weights)
    return TorchRuntime(module, device, threads), stages
