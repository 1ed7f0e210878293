"""ONNX Runtime with int8 weights. Activations are quantised dynamically, so nothing has to be calibrated."""

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from clipdiy.errors import ConfigError
from clipdiy.runtimes.runtime import Engine, Inputs


class OnnxRuntime:
    """Executes files with int8 matrix products."""

    ending = ".onnx"
    least_cosine = 0.97

    def __init__(self) -> None:
        """Import the library.

        Raises:
            ConfigError: If it is not installed.
        """
        try:
            import onnx  # noqa: F401, what quantises needs it
            import onnxruntime
        except ImportError as err:
            raise ConfigError(
                f"runtime onnxruntime is not installed ({err}): pip install 'clip-diy-label-studio[onnxruntime]'"
            ) from err
        self._library = onnxruntime
        self.version = str(onnxruntime.__version__)

    def convert(self, onnx: Path, target: Path, samples: Sequence[Inputs]) -> None:
        """Store the weights of all matrix products as int8, one scale an output channel."""
        from onnxruntime.quantization import QuantType, quantize_dynamic
        from onnxruntime.quantization.shape_inference import quant_pre_process

        # Its warning on the root logger asks for the preprocessing that has just been done.
        level = logging.getLogger().level
        logging.getLogger().setLevel(logging.ERROR)
        try:
            with tempfile.TemporaryDirectory(dir=target.parent) as folder:
                ready = Path(folder) / "ready.onnx"
                quant_pre_process(onnx, ready, skip_symbolic_shape=True)
                quantize_dynamic(
                    ready,
                    target,
                    op_types_to_quantize=["MatMul", "Gemm"],
                    weight_type=QuantType.QInt8,
                    per_channel=True,
                )
        finally:
            logging.getLogger().setLevel(level)

    def load(self, path: Path) -> Engine:
        """Load a file; the session may be run from any thread."""
        options = self._library.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        session = self._library.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        names = [entry.name for entry in session.get_inputs()]

        def run(*inputs: Tensor) -> Tensor:
            arrays = {name: tensor.contiguous().numpy() for name, tensor in zip(names, inputs, strict=True)}
            return torch.from_numpy(session.run(None, arrays)[0])

        return run
