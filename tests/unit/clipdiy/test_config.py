"""Presets, and values that make no sense."""

from dataclasses import replace

import pytest

from clipdiy.config import PRESETS, CleanUp, CoreConfig, CropGrid, ObjectnessConfig, preset
from clipdiy.errors import ConfigError


def test_presets():
    assert PRESETS["paper"].clip == "ViT-B-32:laion2b_s34b_b79k"
    assert PRESETS["paper-b16"].clip == "ViT-B-16:laion2b_s34b_b88k"
    fast = ObjectnessConfig(long_px=448)
    assert PRESETS["paper-fast"] == replace(PRESETS["paper"], objectness=fast)
    assert PRESETS["paper"].grid == CropGrid(256, (256, 128, 64), 0.5)
    assert preset("starter", device="cpu").device == "cpu"
    with pytest.raises(ConfigError, match="paper-b16"):
        preset("papre")
    with pytest.raises(ConfigError, match="devize"):
        preset("paper", devize="cpu")


@pytest.mark.parametrize(
    "make",
    [
        lambda: CropGrid(patch_px=()),
        lambda: CropGrid(patch_px=(512,)),
        lambda: CropGrid(stride_ratio=0),
        lambda: CropGrid(square_px=4),
        lambda: ObjectnessConfig(long_px=4),
        lambda: CleanUp(1.0),
        lambda: CoreConfig(label_map="half"),
        lambda: CoreConfig(dtype="int8"),
        lambda: CoreConfig(prompt_template="a photo"),
        lambda: CoreConfig(crop_batch=0),
    ],
)
def test_values_that_make_no_sense(make):
    with pytest.raises(ConfigError):
        make()
