"""OpenVINO: bfloat16 where the processor has it, or int8 weights and activations, calibrated once."""

import contextlib
import io
import logging
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clipdiy.errors import ConfigError
from clipdiy.processor import read_processor
from clipdiy.runtimes.runtime import Engine, Inputs


class OpenVino:
    """Executes files in bfloat16 or int8."""

    ending = ".xml"

    def __init__(self, *, int8: bool) -> None:
        """Import the libraries.

        Raises:
            ConfigError: If one is not installed.
        """
        # OpenVINO's tools report their use to a web service if they can import this package. Here they cannot.
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
        try:
            import openvino

            if int8:
                import nncf  # noqa: F401
        except ImportError as err:
            raise ConfigError(
                f"runtime openvino is not installed ({err}): pip install 'clip-diy-label-studio[openvino]'"
            ) from err
        self._library = openvino
        self._int8 = int8
        self.least_cosine = 0.97 if int8 else 0.995
        self.version = str(openvino.__version__)

    def convert(self, onnx: Path, target: Path, samples: Sequence[Inputs]) -> None:
        """Write OpenVINO's own format; with int8, measure the activations' ranges on the samples first."""
        model = self._library.Core().read_model(str(onnx))
        if self._int8:
            model = _quantised(model, samples)
        self._library.save_model(model, str(target), compress_to_fp16=True)

    def load(self, path: Path) -> Engine:
        """Compile a file. Every thread gets an inference request of its own, as one cannot be run twice at once."""
        core = self._library.Core()
        hints = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "INFERENCE_PRECISION_HINT": "f32" if read_processor().lacks_bfloat16 else "bf16",
        }
        # In a thread that ends: OpenVINO gives the compiling thread a stack for signals, and frees it with the model,
        # whoever drops that. The next Ctrl-C would end the process.
        with ThreadPoolExecutor(1) as pool:
            compiled = pool.submit(core.compile_model, str(path), "CPU", hints).result()
        local = threading.local()

        def run(*inputs: Tensor) -> Tensor:
            if not hasattr(local, "request"):
                local.request = compiled.create_infer_request()
            arrays = [tensor.contiguous().numpy() for tensor in inputs]
            # Copied: the request writes its next result into the same memory.
            output = local.request.infer(arrays, share_inputs=True)[0]
            return torch.from_numpy(output.copy())

        return run


def _quantised(model: Any, samples: Sequence[Inputs]) -> Any:
    import nncf

    names = [entry.get_any_name() for entry in model.inputs]
    data = [{name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)} for inputs in samples]
    logging.getLogger("nncf").setLevel(logging.ERROR)  # its own way sets the level of whoever listens to it, too
    with contextlib.redirect_stdout(io.StringIO()):  # its progress bars
        return nncf.quantize(
            model,
            nncf.Dataset(data),
            model_type=nncf.ModelType.TRANSFORMER,
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(data),
        )
