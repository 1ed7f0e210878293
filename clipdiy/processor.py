"""What this processor can multiply fast: numbers of 16 and of 8 bits, by its own instructions for them.

Without such instructions smaller numbers are widened first, and what is gained is measured, not certain
(`benchmarks/int8.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass

INT8_FLAGS = ("avx512_vnni", "avx_vnni", "amx_int8")
BFLOAT16_FLAGS = ("avx512_bf16", "amx_bf16")


@dataclass(frozen=True)
class Processor:
    """A processor, as torch sees it.

    Attributes:
        architecture: `x86_64`, `aarch64` and the like; empty if nobody knows.
        flags: Names of its instruction sets, in lower case.
    """

    architecture: str
    flags: frozenset[str]

    @property
    def lacks_int8(self) -> bool:
        """Whether it is known to have no instructions for products of 8 bits. Only of x86 is anything known."""
        return self._is_x86 and not self.flags.intersection(INT8_FLAGS)

    @property
    def lacks_bfloat16(self) -> bool:
        """Whether it is known to have no instructions for products of bfloat16."""
        return self._is_x86 and not self.flags.intersection(BFLOAT16_FLAGS)

    @property
    def _is_x86(self) -> bool:
        return self.architecture in ("x86_64", "AMD64", "i686")


def read_processor() -> Processor:
    """Ask torch what this processor has; a torch that cannot say makes one of which nothing is known."""
    import torch

    read = getattr(torch.cpu, "get_capabilities", None)  # older ones have none
    return processor_of(read() if read is not None else {}, torch.backends.cpu.get_cpu_capability())


def processor_of(capabilities: Mapping[str, object], used: str) -> Processor:
    """Take a processor out of torch's list.

    Args:
        capabilities: Names of instruction sets with whether it has them, and other facts beside them.
        used: What torch makes use of. If that is `AVX2` or less on a processor that has more, somebody has limited it,
            and what is above does not count: so one without can be tried out on any.
    """
    flags = {name.lower() for name, value in capabilities.items() if value is True}
    if used in ("DEFAULT", "AVX2"):
        flags = {flag for flag in flags if not flag.startswith(("avx512", "amx", "avx10"))}
    return Processor(str(capabilities.get("architecture", "")), frozenset(flags))
