"""OpenVINO as the runtime: the fastest on a CPU.

The network is converted through PyTorch once and then kept in the user's cache folder, so that a
later start (and every worker process) needs neither torch nor timm.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from pychip_live.embed.runtime import Stage
from pychip_live.embed.weights import cache_dir

if TYPE_CHECKING:
    from torch import nn

log = logging.getLogger(__name__)

COMPILED = 12
"""Compiled networks kept, one for each shape of input."""

Build = Callable[[], "tuple[nn.Module, list[Stage]]"]


class OpenVinoRuntime:
    """Runs a converted network on the CPU.

    Parameters
    ----------
    build
        Makes the PyTorch network where it was not converted before.
    key
        What the network depends on; names the converted file.
    example
        Shapes of inputs to convert with.
    threads
        CPU threads; None for all cores.
    """

    def __init__(
        self, build: Build, key: str, example: list[tuple[int, ...]], threads: int | None
    ) -> None:
        self._core = ov.Core()
        self._model, self.stages = _converted(self._core, build, key, example)
        # bf16 only where the processor has it: emulated it is slower and changes from chip to chip
        native = "BF16" in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        self._precision = "bf16" if native else "f32"
        self._config: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_PRECISION_HINT": self._precision,
        }
        if threads:
            self._config["INFERENCE_NUM_THREADS"] = str(threads)
        self._compiled: OrderedDict[tuple[tuple[int, ...], ...], Any] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def description(self) -> dict[str, str]:
        """Device, runtime, precision and library versions."""
        return {
            "runtime": "openvino",
            "device": str(self._core.get_property("CPU", "FULL_DEVICE_NAME")).strip(),
            "precision": self._precision,
            "openvino": ov.__version__,
        }

    def run(self, *inputs: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Feed the inputs of the network; give its outputs in float32."""
        with self._lock:
            request = self._request(tuple(i.shape for i in inputs))
            request.infer([np.ascontiguousarray(i) for i in inputs], share_inputs=True)
            return [np.array(t.data, np.float32) for t in request.output_tensors]

    def _request(self, shapes: tuple[tuple[int, ...], ...]) -> Any:
        if shapes in self._compiled:
            self._compiled.move_to_end(shapes)
            return self._compiled[shapes]
        self._model.reshape(dict(enumerate(map(list, shapes))))
        request = self._core.compile_model(self._model, "CPU", self._config).create_infer_request()
        self._compiled[shapes] = request
        if len(self._compiled) > COMPILED:
            self._compiled.popitem(last=False)
        return request


def _converted(
    core: Any, build: Build, key: str, example: list[tuple[int, ...]]
) -> tuple[Any, list[Stage]]:
    """Load the converted network, or convert and keep it."""
    name = hashlib.sha256(f"{key} {ov.__version__}".encode()).hexdigest()[:24]
    path = cache_dir() / "openvino" / f"{name}.xml"
    try:
        meta = json.loads(path.with_suffix(".json").read_bytes())
        if meta["sha256"] == _digest(path):
            return core.read_model(path), [Stage(**s) for s in meta["stages"]]
        log.warning("%s does not match its hash: converted anew", path)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError):
        pass  # not there yet, or not ours: convert
    module, stages = build()
    model = _convert(module, example)
    try:
        _keep(model, path, stages)
        return core.read_model(path), stages
    except (OSError, RuntimeError) as error:
        log.warning("%s cannot be written (%s): converted again at every start", path, error)
        return model, stages


def _convert(module: nn.Module, example: list[tuple[int, ...]]) -> Any:
    import torch
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    # not ov.convert_model: that reports each use to its maker over the network
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # tracing is deprecated, and warns of fixed shapes
        inputs = tuple(torch.zeros(shape) for shape in example)
        decoder = TorchScriptPythonDecoder(module, example_input=inputs)
        front = FrontEndManager().load_by_framework("pytorch")
        return front.convert(front.load(decoder))


def _keep(model: Any, path: Path, stages: list[Stage]) -> None:
    """Write the converted network so that a reader sees all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.stem}.{os.getpid()}.xml")
    suffixes = (".bin", ".xml", ".json")
    try:
        ov.save_model(model, part, compress_to_fp16=False)
        meta = {"sha256": _digest(part), "stages": [asdict(s) for s in stages]}
        part.with_suffix(".json").write_text(json.dumps(meta))
        for suffix in suffixes:
            part.with_suffix(suffix).replace(path.with_suffix(suffix))
    finally:
        # what a full disk, or a reader on Windows, did not let through
        for suffix in suffixes:
            part.with_suffix(suffix).unlink(missing_ok=True)


def _digest(path: Path) -> str:
    digest = hashlib.sha256(path.read_bytes())
    digest.update(path.with_suffix(".bin").read_bytes())
    return digest.hexdigest()
