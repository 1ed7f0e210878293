"""Presets, and values that make no sense."""

import re
from dataclasses import FrozenInstanceError, fields, replace

import pytest

from clipdiy.config import (
    FAST_OBJECTNESS_PX,
    PRESETS,
    CleanUp,
    CoreConfig,
    CropGrid,
    ObjectnessConfig,
    OthersConfig,
    Pamr,
    SegmentOptions,
    preset,
    with_faster_objectness,
)
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


def test_what_is_used_where_nothing_is_said():
    assert Pamr() == Pamr(long_px=320, iterations=10, dilations=(1, 2, 4, 8, 12, 24), temperature=0.1)
    assert OthersConfig() == OthersConfig(gate_logits=2.0, absent_quantile=0.85)
    assert CleanUp() == CleanUp(0.001)
    assert ObjectnessConfig() == ObjectnessConfig("found", 640, None)


@pytest.mark.parametrize(
    "config", [CoreConfig(), CropGrid(), ObjectnessConfig(), CleanUp(), Pamr(), OthersConfig(), SegmentOptions()]
)
def test_a_configuration_never_changes(config):
    with pytest.raises(FrozenInstanceError):
        setattr(config, fields(config)[0].name, None)


SENSELESS = {
    "no crops": (lambda: CropGrid(patch_px=()), "patch_px is empty"),
    "a crop larger than the square": (lambda: CropGrid(patch_px=(256, 257)), "1..square_px=256, got 257"),
    "a crop of nothing": (lambda: CropGrid(patch_px=(0,)), "got 0"),
    "crops that do not move": (lambda: CropGrid(stride_ratio=0), "got 0"),
    "crops with gaps": (lambda: CropGrid(stride_ratio=1.01), "got 1.01"),
    "a square below a patch": (lambda: CropGrid(square_px=7, patch_px=(7,)), "at least 8, got 7"),
    "FOUND's picture below a patch": (lambda: ObjectnessConfig(long_px=7), "long_px must be at least 8"),
    "FOUND's square below a patch": (lambda: ObjectnessConfig(square_px=7), "square_px must be at least 8"),
    "no part would be large enough": (lambda: CleanUp(1.0), "got 1.0"),
    "a share below nothing": (lambda: CleanUp(-0.001), "got -0.001"),
    "a picture too small for PAMR": (lambda: Pamr(long_px=7), "long_px >= 8"),
    "PAMR without a step": (lambda: Pamr(iterations=0), "iterations >= 1"),
    "PAMR without neighbours": (lambda: Pamr(dilations=()), "dilations >= 1"),
    "PAMR with itself as neighbour": (lambda: Pamr(dilations=(1, 0)), "dilations >= 1"),
    "no temperature": (lambda: Pamr(temperature=0), "above 0, got 0"),
    "more others than there are": (lambda: OthersConfig(absent_quantile=1.01), "got 1.01"),
    "fewer than none": (lambda: OthersConfig(absent_quantile=-0.01), "got -0.01"),
    "another size of label map": (lambda: CoreConfig(label_map="half"), "got 'half'"),
    "another number format": (lambda: CoreConfig(dtype="int8"), "got 'int8'"),
    "another runtime": (lambda: CoreConfig(runtime="tensorrt"), "got 'tensorrt'"),
    "a dtype for a runtime": (lambda: CoreConfig(runtime="openvino", dtype="bfloat16"), "leave dtype at auto"),
    "torch's compiler for a runtime": (lambda: CoreConfig(runtime="openvino", compiled=True), "leave compiled"),
    "no place for the label": (lambda: CoreConfig(prompt_template="a photo"), "{} where the label goes"),
    "pruning at nothing": (lambda: CoreConfig(prune_logits=0), "above 0, got 0"),
    "no crop at once": (lambda: CoreConfig(crop_batch=0), "at least 1, got 0"),
}


@pytest.mark.parametrize(("make", "message"), SENSELESS.values(), ids=SENSELESS)
def test_values_that_make_no_sense(make, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        make()


BORDERS = {
    "crops": lambda: CropGrid(square_px=8, patch_px=(8, 1), stride_ratio=1),
    "objectness": lambda: ObjectnessConfig(long_px=8, square_px=8),
    "nothing is cleaned up": lambda: CleanUp(0),
    "nearly everything is": lambda: CleanUp(0.999),
    "PAMR": lambda: Pamr(long_px=8, iterations=1, dilations=(1,), temperature=1e-9),
    "every label may be absent": lambda: OthersConfig(absent_quantile=1),
    "none need be": lambda: OthersConfig(absent_quantile=0),
    "that is not asked": lambda: OthersConfig(absent_quantile=None),
    "a runtime, and what it may be told": lambda: CoreConfig(runtime="openvino", dtype="float32"),
    "torch compiles": lambda: CoreConfig(compiled=True, dtype="float16", prune_logits=1e-9, crop_batch=1),
}


@pytest.mark.parametrize("make", BORDERS.values(), ids=BORDERS)
def test_values_at_the_border_make_sense(make):
    assert make() == make()


def test_objectness_on_a_smaller_picture():
    paper, fast = PRESETS["paper"], PRESETS["paper-fast"]
    assert with_faster_objectness(paper) == fast
    large = replace(paper, objectness=ObjectnessConfig("found-bkg", long_px=449), dtype="float32")
    assert with_faster_objectness(large) == replace(
        large, objectness=ObjectnessConfig("found-bkg", long_px=FAST_OBJECTNESS_PX)
    ), "nothing else changes"


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(PRESETS["paper-fast"], id="it is that small already"),
        pytest.param(PRESETS["starter"], id="it sees a square"),
        pytest.param(PRESETS["dinoiser"], id="another method has none"),
        pytest.param(replace(PRESETS["paper"], objectness=ObjectnessConfig("none")), id="there is none"),
    ],
)
def test_where_a_smaller_picture_makes_no_difference(config):
    assert with_faster_objectness(config) is None
