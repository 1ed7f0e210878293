"""What a processor can multiply fast, from made-up lists of what it has."""

import pytest

from clipdiy.processor import Processor, processor_of, read_processor

ZEN4 = {"architecture": "x86_64", "avx2": True, "avx512_vnni": True, "avx512_bf16": True, "num_sockets": 1}
HASWELL = {"architecture": "x86_64", "avx2": True, "avx512_vnni": False, "avx512_bf16": False, "cpu_name": "Haswell"}
ALDER_LAKE = {"architecture": "x86_64", "avx2": True, "avx_vnni": True}
ARM = {"architecture": "aarch64", "neon": True}


@pytest.mark.parametrize(
    ("capabilities", "used", "lacks_int8", "lacks_bfloat16"),
    [
        pytest.param(ZEN4, "AVX512", False, False, id="AVX-512 with both"),
        pytest.param(ZEN4, "AVX2", True, True, id="limited to AVX2"),
        pytest.param(HASWELL, "AVX2", True, True, id="AVX2"),
        pytest.param(ALDER_LAKE, "AVX2", False, True, id="AVX-VNNI beside AVX2"),
        pytest.param({**HASWELL, "amx_int8": True, "amx_bf16": True}, "AVX512", False, False, id="AMX"),
        pytest.param(ARM, "DEFAULT", False, False, id="ARM, of which nothing is known"),
        pytest.param({}, "AVX2", False, False, id="an older torch says nothing"),
    ],
)
def test_what_it_lacks(capabilities, used, lacks_int8, lacks_bfloat16):
    processor = processor_of(capabilities, used)
    assert (processor.lacks_int8, processor.lacks_bfloat16) == (lacks_int8, lacks_bfloat16)


def test_this_one_can_be_read():
    assert isinstance(read_processor(), Processor)


def test_a_torch_that_cannot_say(monkeypatch):
    monkeypatch.delattr("torch.cpu.get_capabilities", raising=False)
    assert read_processor() == Processor("", frozenset())
