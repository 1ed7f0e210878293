"""What a runtime has to do. Every runtime fits this, and none knows another or who uses it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from torch import Tensor

Engine = Callable[..., Tensor]
Inputs = tuple[Tensor, ...]


class Runtime(Protocol):
    """Something that executes an ONNX file on the CPU.

    Attributes:
        version: Changes when a converted file may no longer load, or may compute something else.
        ending: Of a converted file's name.
        least_cosine: Smallest cosine to float32 that any crop's embedding may have.
    """

    version: str
    ending: str
    least_cosine: float

    def convert(self, onnx: Path, target: Path, samples: Sequence[Inputs]) -> None:
        """Write the runtime's own file; `samples` are typical inputs to calibrate with."""

    def load(self, path: Path) -> Engine:
        """Return what runs a converted file, from any thread; float32 in and out."""
