"""How much memory tensors take at most while something runs: all that torch makes, not those that a test chose."""

import weakref
from collections.abc import Callable

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class _Watch(TorchDispatchMode):
    """Counts the bytes of every storage from its first tensor to the end of its last."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._tensors: dict[int, int] = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                key, size = storage._cdata, storage.nbytes()
                if key not in self._tensors:
                    self._tensors[key] = 0
                    self.now += size
                    self.peak = max(self.peak, self.now)
                self._tensors[key] += 1
                weakref.finalize(tensor, self._ended, key, size)
        return result

    def _ended(self, key: int, size: int) -> None:
        self._tensors[key] -= 1
        if not self._tensors[key]:
            del self._tensors[key]
            self.now -= size


def peak_bytes(way: Callable[[], object]) -> int:
    """Return the most bytes that tensors made by `way` took at any time; what it returns is counted too."""
    with _Watch() as watch:
        result = way()
    del result
    return watch.peak
