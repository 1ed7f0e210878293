"""A control's own scales and refinement: what a core configured that way from the start would have answered."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tiny import TINY

from backend.labeling.controls import MaskControl
from backend.labeling.reader import parse_label_config
from backend.predicting.segmenting import Segmenting
from clipdiy.build import build_segmenter
from clipdiy.config import CoreConfig, CropGrid, ObjectnessConfig, Pamr, SegmentOptions
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


def test_a_piece_is_answered_by_what_encoded_it(core: Segmenter) -> None:
    methods = Segmenting(core)
    assert methods.pieces is methods.pieces, "made once"
    assert methods.pieces.encoder_identity != core.encoder_identity
    [features] = methods.pieces.encode([PHOTO])
    answered = methods.segment(features, control('model_scales="256,128"'))
    pieces = core.for_pieces()
    expected = pieces.segment(pieces.encode([PHOTO])[0], control("").vocabulary, SegmentOptions((256, 128)))
    np.testing.assert_array_equal(answered.label_map, expected.label_map)


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
    answered = Segmenting(core).segment(features, asked)
    other = core.with_config(config)
    expected = other.segment(other.encode([PHOTO])[0], asked.vocabulary)
    np.testing.assert_array_equal(answered.label_map, expected.label_map)
    np.testing.assert_array_equal(answered.score, expected.score)


def test_others_compete_where_the_control_says_so(core: Segmenter) -> None:
    """What they win stays empty; without them every pixel is as before."""
    methods = Segmenting(core)
    [features] = core.encode([PHOTO])
    alone = methods.segment(features, control(""))
    words = tuple(f"thing {i}" for i in range(40))
    beside = methods.segment(features, control(f'others="{",".join(words)}"'))
    vocabulary = control("").vocabulary
    expected = core.segment(features, vocabulary.with_others(core.choose_others(vocabulary, words).competing))
    np.testing.assert_array_equal(beside.label_map, expected.label_map)
    assert (beside.label_map != alone.label_map).any()
    assert len(beside.score) == len(alone.score) == 4, "labels and background; nobody is told of the others"
