"""PyTorch as the runtime: CUDA in bf16 where there is a GPU, else the CPU in float32."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pychip_live.errors import UsageError


class TorchRuntime:
    """Runs a module on one device.

    Parameters
    ----------
    module
        The network.
    device
        ``auto`` (CUDA, else the CPU) or a torch device.
    threads
        CPU threads; None for torch's default.
    """

    def __init__(self, module: nn.Module, device: str, threads: int | None) -> None:
        name = device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
        try:
            self._device = torch.device(name)
            self._module = module.to(self._device)
            self._module = self._module.to(memory_format=torch.channels_last)
        except (RuntimeError, AssertionError) as error:
            raise UsageError(
                f"device {device!r} cannot be used ({error}); choose cpu, cuda or auto"
            ) from error
        if threads and self._device.type == "cpu":
            torch.set_num_threads(threads)
        self._half = self._device.type == "cuda" and torch.cuda.is_bf16_supported()
        if self._device.type == "cuda":
            # the fastest algorithm is chosen by timing otherwise, and may change from run to run
            torch.backends.cudnn.benchmark = False
            torch.backends.cudnn.deterministic = True

    @property
    def description(self) -> dict[str, str]:
        """Device, runtime, precision and library versions."""
        cuda = self._device.type == "cuda"
        return {
            "runtime": "torch",
            "device": torch.cuda.get_device_name(self._device) if cuda else "cpu",
            "precision": "bf16" if self._half else "f32",
            "torch": torch.__version__,
        }

    def run(self, *inputs: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Feed the inputs of the network; give its outputs in float32."""
        with torch.inference_mode():
            tensors = [torch.from_numpy(i).to(self._device) for i in inputs]
            tensors[0] = tensors[0].contiguous(memory_format=torch.channels_last)
            with torch.autocast(self._device.type, torch.bfloat16, enabled=self._half):
                outputs = self._module(*tensors)
            return [o.float().contiguous().cpu().numpy() for o in outputs]
