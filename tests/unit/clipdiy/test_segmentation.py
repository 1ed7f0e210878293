import numpy as np
import pytest

from clipdiy.segmentation import Segmentation


@pytest.mark.parametrize(
    ("area", "present"),
    [
        pytest.param((0.5, 0.0, 0.25, 0.25), (2, 3), id="beside the background"),
        pytest.param((0.0, 1.0, 0.0, 0.0), (1,), id="without it"),
        pytest.param((1.0, 0.0, 0.0, 0.0), (), id="nothing else"),
    ],
)
def test_which_classes_are_there(area: tuple[float, ...], present: tuple[int, ...]) -> None:
    found = Segmentation(np.zeros((3, 5), np.uint16), np.array(area), np.zeros(4, np.float32), 0.0)
    assert found.present == present
    assert found.size_hw == (3, 5)
