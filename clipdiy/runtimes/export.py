"""From torch modules to ONNX files."""

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from clipdiy.clip import ClipNetwork
from clipdiy.objectness.found import FoundNetwork

OPSET = 17


class ClipImages(nn.Module):
    """CLIP's image tower: (N, 3, S, S) float32, normalised, to (N, D) float32, not normalised."""

    def __init__(self, network: ClipNetwork) -> None:
        super().__init__()
        self.visual = network.visual

    def forward(self, images: Tensor) -> Tensor:
        """Embed."""
        embeddings: Tensor = self.visual(images)
        return embeddings


class FoundNetworkBody(nn.Module):
    """FOUND's backbone up to the last block's keys; see `FoundNetwork.body`.

    The position embedding is an input: interpolated inside an exported graph it would drift from torch's.
    """

    def __init__(self, found: FoundNetwork) -> None:
        super().__init__()
        self.found = found

    def forward(self, images: Tensor, positions: Tensor) -> Tensor:
        """Return queries, keys and values."""
        return self.found.body(images, positions)


def write_onnx(module: nn.Module, example: tuple[Tensor, ...], inputs: dict[str, dict[int, str]], path: Path) -> None:
    """Write a module in evaluation mode, traced with an example.

    Args:
        module: Gives one output.
        example: Inputs of it.
        inputs: Their names, in order, with the names of those axes that may have other lengths.
        path: The file.
    """
    fast_path = torch.backends.mha.get_fastpath_enabled()
    # The fused kernel of nn.MultiheadAttention has no counterpart in ONNX.
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            # The tracing exporter is the one that needs no further package; it says so with every call.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module.eval(),
                tuple(tensor.clone() for tensor in example),
                str(path),
                input_names=list(inputs),
                output_names=["output"],
                dynamic_axes={**inputs, "output": {0: "n", 1: "m"} if len(inputs) > 1 else {0: "n"}},
                opset_version=OPSET,
                dynamo=False,
            )
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
