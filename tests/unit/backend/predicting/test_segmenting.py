"""A control's own scales and refinement: what a core configured that way from the start would have answered."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from learned import made_up
from tiny import TINY

from backend.labeling.controls import MaskControl
from backend.labeling.reader import parse_label_config
from backend.labeling.taught import Taught
from backend.predicting.segmenting import Segmenting, calibrated
from clipdiy.build import build_segmenter
from clipdiy.config import CoreConfig, CropGrid, ObjectnessConfig, Pamr, SegmentOptions
from clipdiy.learning.calibration import Calibration
from clipdiy.learning.learned import Learned
from clipdiy.learning.objectness import ObjectnessWeights
from clipdiy.photo import Photo
from clipdiy.segmentation import Segmentation
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


@pytest.fixture(scope="module")
def fit(core: Segmenter) -> Learned:
    vocabulary = control("").vocabulary
    dim = core.clip.embed_vocabulary(vocabulary).shape[1]
    made = made_up(vocabulary, encoder=core.encoder_identity, dim=dim)
    return replace(made, objectness=ObjectnessWeights(np.array([0.5, 0.5, 4.0]), 0.0))


class TestTaught:
    """What corrections taught a control takes part wherever it is asked."""

    def test_a_whole_picture_is_segmented_with_all_of_it(self, core: Segmenter, fit: Learned) -> None:
        [features] = core.encode([PHOTO])
        answered = Segmenting(core).segment(features, replace(control(""), taught=Taught(1, fit)))
        expected = core.segment(features, control("").vocabulary, SegmentOptions(learned=fit))
        plain = core.segment(features, control("").vocabulary)
        np.testing.assert_array_equal(answered.label_map, expected.label_map)
        assert (answered.label_map != plain.label_map).any(), "or this test shows nothing"

    def test_a_piece_takes_the_names_alone(self, core: Segmenter, fit: Learned) -> None:
        methods = Segmenting(core)
        [features] = methods.pieces.encode([PHOTO])
        answered = methods.segment(features, replace(control(""), taught=Taught(1, fit)))
        names = SegmentOptions(learned=replace(fit, objectness=None))
        expected = methods.pieces.segment(features, control("").vocabulary, names)
        whole = methods.pieces.segment(features, control("").vocabulary, SegmentOptions(learned=fit))
        np.testing.assert_array_equal(answered.label_map, expected.label_map)
        assert (answered.label_map != whole.label_map).any(), "or this test shows nothing"

    def test_a_fit_of_other_features_is_left_out(self, core: Segmenter, fit: Learned) -> None:
        [features] = core.encode([PHOTO])
        other = Taught(1, replace(fit, encoder="another"))
        answered = Segmenting(core).segment(features, replace(control(""), taught=other))
        np.testing.assert_array_equal(answered.label_map, core.segment(features, control("").vocabulary).label_map)

    def test_scores_become_the_iou_to_be_expected(self) -> None:
        label_map = np.array([[0, 1], [1, 2]], np.uint16)
        area = np.array([0.25, 0.5, 0.25, 0])
        raw = Segmentation(label_map, area, np.array([0.9, 0.5, 0.7, 0], np.float32), 0.6)
        shown = calibrated(raw, Calibration(((0.5, 0.2), (0.7, 0.8))))
        np.testing.assert_allclose(shown.score, [0.9, 0.99 * 0.2 + 0.005, 0.99 * 0.8 + 0.007, 0], atol=1e-6)
        assert shown.image_score == pytest.approx(float(shown.score[1:3].mean()))
        assert shown.label_map is raw.label_map


def test_what_was_taught_is_told_apart_by_what_it_answers() -> None:
    vocabulary = control("").vocabulary
    first, again, other = (Taught(n, made_up(vocabulary, seed=seed)) for n, seed in ((1, 0), (2, 0), (1, 1)))
    assert first == again
    assert hash(first) == hash(again)
    assert first != other
    scored = replace(first, calibration=Calibration(((0.5, 0.5),)))
    assert scored != first
    config = parse_label_config(
        '<View><Image name="img" value="$image"/><BrushLabels name="b" toName="img"><Label value="cat"/></BrushLabels>'
        '<BrushLabels name="c" toName="img" learn="false"><Label value="cat"/></BrushLabels></View>'
    )
    assert config.taught({}) is config
    assert config.taught({"c": first}) is config, "it does not learn"
    taught = config.taught({"b": first, "c": first})
    assert [one.taught for one in taught.controls] == [first, None]
    assert (config.version, taught.version) == (0, 1)
    assert len({config.identity, taught.identity, config.taught({"b": other}).identity}) == 3
    assert config.taught({"b": again}).identity == taught.identity
