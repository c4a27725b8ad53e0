"""Where a network runs: PyTorch on a GPU or the CPU, or OpenVINO on the CPU."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from pychip_live.core.profile import EmbeddingOptions
from pychip_live.embed.weights import Weights
from pychip_live.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

BUILD = 2
"""Of ``network.py``, for converted networks that are kept; raise it when the network changes."""


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
    """Load a network where it runs fastest, or where it is told to run.

    Raises
    ------
    UsageError
        If OpenVINO is asked for and not installed, or for a device that is not the CPU.
    """
    if _use_openvino(device, runtime):
        from pychip_live.embed.openvino_runtime import OpenVinoRuntime

        key = f"{BUILD} {options.model_dump_json()} {weights.sha256}"
        on_cpu = OpenVinoRuntime(lambda: _build(options, weights), key, _example(options), threads)
        return on_cpu, on_cpu.stages
    module, stages = _build(options, weights)
    from pychip_live.embed.torch_runtime import TorchRuntime

    return TorchRuntime(module, device, threads), stages


def _build(options: EmbeddingOptions, weights: Weights) -> tuple[nn.Module, list[Stage]]:
    from pychip_live.embed.network import build

    return build(options, weights)


def _use_openvino(device: str, runtime: str) -> bool:
    installed = importlib.util.find_spec("openvino") is not None
    if runtime == "openvino":
        if not installed:
            raise UsageError("OpenVINO is not installed; install it with: pip install openvino")
        if device not in ("auto", "cpu"):
            raise UsageError(f"runtime 'openvino' runs on the CPU, not on device {device!r}")
        return True
    if runtime == "torch" or not installed or device not in ("auto", "cpu"):
        return False
    return device == "cpu" or not _has_cuda()


def _has_cuda() -> bool:
    """Whether torch could find a GPU, without the seconds that importing torch takes."""
    if os.name == "nt":
        return _torch_sees_cuda()
    driver = Path("/proc/driver/nvidia").exists() or Path("/dev/nvidiactl").exists()
    return driver and _torch_sees_cuda()


def _torch_sees_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def _example(options: EmbeddingOptions) -> list[tuple[int, ...]]:
    """Shapes of inputs that fit together, to trace the network with."""
    if options.method == "chip":
        return [(2, 1, options.chip_px, options.chip_px)]
    size = 8 * 2 ** max(options.stages)
    pooled = [(3, size // 2**stage) for stage in options.stages]
    return [(1, 1, size, size), *pooled, *pooled]
