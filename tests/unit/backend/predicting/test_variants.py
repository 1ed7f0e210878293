"""A control's own scales and refinement: what a core configured that way from the start would have answered."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tiny import TINY

from backend.labeling.controls import MaskControl
from backend.labeling.reader import parse_label_config
from backend.predicting.variants import Variants, for_pieces
from clipdiy.build import build_segmenter
from clipdiy.config import CoreConfig, CropGrid, ObjectnessConfig, Pamr
from clipdiy.photo import Photo
from clipdiy.segmenter import Segmenter

CONFIG = replace(
    TINY,
    grid=CropGrid(),
    objectness=ObjectnessConfig(square_px=256),
    pamr=Pamr(long_px=64, iterations=2, dilations=(1, 2)),
)
PHOTO = Photo.from_array(np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8))


@pytest.fixture(scope="module")
def core() -> Segmenter:
    return build_segmenter(CONFIG, warm_up=False)


def control(attributes: str, **options: Any) -> MaskControl:
    labels = '<Label value="cat"/><Label value="dog"/><Label value="tree"/>'
    image = '<Image name="img" value="$image"/>'
    xml = f'<View>{image}<BrushLabels name="b" toName="img" {attributes}>{labels}</BrushLabels></View>'
    return parse_label_config(xml, scales=CONFIG.grid.patch_px, refining="always", **options).controls[0]


def test_pieces_are_encoded_with_the_papers_own_crops_and_a_small_objectness(core: Segmenter) -> None:
    variants = Variants(core)
    pieces = variants.pieces.core
    assert isinstance(pieces, Segmenter)
    assert (core.crop_count, pieces.crop_count) == (1 + 9 + 49, 1 + 4 + 16)
    assert pieces.clip is core.clip, "the same weights"
    assert variants.pieces is variants.pieces
    [features] = pieces.encode([PHOTO])
    answered = variants.pieces.segment(features, control('model_scales="256,128"'))
    scales = replace(pieces.config, grid=replace(pieces.config.grid, patch_px=(256, 128)))
    other = core.with_config(scales)
    expected = other.segment(other.encode([PHOTO])[0], control("").vocabulary)
    np.testing.assert_array_equal(answered.label_map, expected.label_map)


@pytest.mark.parametrize(
    ("config", "stride_ratio", "long_px"),
    [
        (CoreConfig(), 1.0, 256),
        (CoreConfig(objectness=ObjectnessConfig(long_px=200)), 1.0, 200),
        (CoreConfig(grid=CropGrid(256, (256, 64), 1.0)), 1.0, 256),
        (CoreConfig(grid=CropGrid(240, (160,), 0.5)), 0.5, 256),
    ],
    ids=["as published", "a smaller objectness", "crops side by side", "crops that only fit if they overlap"],
)
def test_what_changes_for_pieces(config: CoreConfig, stride_ratio: float, long_px: int) -> None:
    changed = for_pieces(config)
    assert (changed.grid.stride_ratio, changed.objectness.long_px) == (stride_ratio, long_px)
    objectness = replace(changed.objectness, long_px=config.objectness.long_px)
    assert replace(changed, grid=config.grid, objectness=objectness) == config


ASKED: dict[str, tuple[str, CoreConfig]] = {
    "nothing": ("", CONFIG),
    "two scales": ('model_scales="256,128"', replace(CONFIG, grid=replace(CONFIG.grid, patch_px=(256, 128)))),
    "the finest": ('model_scales="64"', replace(CONFIG, grid=replace(CONFIG.grid, patch_px=(64,)))),
    "edges as they are": ('refine="none"', replace(CONFIG, pamr=None)),
}


@pytest.mark.parametrize(("attributes", "config"), ASKED.values(), ids=ASKED)
def test_a_control_is_answered_as_by_a_core_made_for_it(attributes: str, config: CoreConfig, core: Segmenter) -> None:
    [features] = core.encode([PHOTO])
    asked = control(attributes)
    answered = Variants(core).segment(features, asked)
    other = core.with_config(config)
    expected = other.segment(other.encode([PHOTO])[0], asked.vocabulary)
    np.testing.assert_array_equal(answered.label_map, expected.label_map)
    np.testing.assert_array_equal(answered.score, expected.score)


def test_a_variant_is_made_once(core: Segmenter) -> None:
    variants = Variants(core)
    [features] = core.encode([PHOTO])
    for _ in range(3):
        variants.segment(features, control('model_scales="128"'))
    assert len(variants._made) == 1
