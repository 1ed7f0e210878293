"""The copy of ONNX Runtime that does not see AVX-512: one jump differs, or nothing is claimed."""

from types import SimpleNamespace

import pytest

from benchmarks import int8

NAME = "capi/onnxruntime_pybind11_state.cpython-311-x86_64-linux-gnu.so"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Return what installs an onnxruntime with this code."""

    def _installed(code):
        package = tmp_path / "site" / "onnxruntime"
        (package / "capi").mkdir(parents=True)
        (package / NAME).write_bytes(code)
        monkeypatch.setattr(int8, "find_spec", lambda _name: SimpleNamespace(submodule_search_locations=[str(package)]))

    return _installed


def test_the_question_is_answered_no(installed, tmp_path):
    installed(b"before" + int8.ASKS_FOR_AVX512 + b"behind")
    int8.limit_onnxruntime(tmp_path / "copy")
    assert (tmp_path / "copy" / "onnxruntime" / NAME).read_bytes() == b"before" + int8.NEVER_HAS_IT + b"behind"
    assert [a == b for a, b in zip(int8.ASKS_FOR_AVX512, int8.NEVER_HAS_IT, strict=True)].count(False) == 1


@pytest.mark.parametrize("times", [0, 2], ids=["not there", "more than one"])
def test_another_version_is_not_guessed_at(installed, tmp_path, times):
    installed(int8.ASKS_FOR_AVX512 * times)
    with pytest.raises(SystemExit, match="asks in another way"):
        int8.limit_onnxruntime(tmp_path / "copy")
