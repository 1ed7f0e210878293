"""CLIP-DIY taken apart: its work counted by hand."""

import numpy as np
import pytest
from tiny import TINY, VOCABULARY

from clipdiy.build import build_segmenter
from clipdiy.config import CoreConfig, ObjectnessConfig
from clipdiy.photo import Photo
from clipdiy.profile import objectness_gflop, profile_segmenter, segmenter_gflop
from clipdiy.segmenter import Segmenter


def test_work_by_hand():
    config = CoreConfig(clip=TINY.clip, found=TINY.found, device="cpu", objectness=ObjectnessConfig(method="none"))
    segmenter = build_segmenter(config, warm_up=False)
    photo = Photo.from_array(np.zeros((8, 8, 3), np.uint8))
    # 59 crops of 50 tokens, 64 wide, 2 layers: 4 + 8 products of 64 x 64 a token, attention, patches, projection.
    tokens, width = 50, 64
    layer = 2 * tokens * 12 * width**2 + 2 * 2 * tokens**2 * width
    crop = 2 * layer + 2 * 49 * 32 * 32 * 3 * width + 2 * width * 32
    assert segmenter_gflop(segmenter, photo) == pytest.approx(59 * crop / 1e9, rel=0.01)


def test_every_part_runs_by_itself():
    segmenter = build_segmenter(TINY, warm_up=False)
    photo = Photo.from_array(np.zeros((20, 30, 3), np.uint8))
    profile = profile_segmenter(segmenter, photo, VOCABULARY)
    assert set(profile.networks) <= set(profile.encoding)
    assert sum(profile.work_gflop.values()) == pytest.approx(segmenter_gflop(segmenter, photo))
    for part in (*profile.encoding.values(), *profile.asking.values()):
        assert part() is None or part
    embed, known = profile.asking["text, new"], len(segmenter.clip._known_texts)
    embed()
    assert len(segmenter.clip._known_texts) == known + len(VOCABULARY), "new texts are new every time"


def test_less_work_with_a_smaller_picture_for_found_whatever_executes_it():
    config = CoreConfig(clip=TINY.clip, found=TINY.found, device="cpu")
    segmenter = build_segmenter(config, warm_up=False)
    wide = Photo.from_array(np.zeros((64, 640, 3), np.uint8))
    profile = profile_segmenter(segmenter, wide, VOCABULARY)
    less = profile.less_work["paper-fast"]["FOUND"] / profile.work_gflop["FOUND"]
    assert 0.3 < less < 448 * 48 / (640 * 64) + 0.01, "patches, and their products with each other"
    network = segmenter._objectness_network.executed_by(lambda images, positions: pytest.fail("not counted by torch"))
    executed = Segmenter(config, segmenter.clip, network, name="x", weights_id="x")
    assert objectness_gflop(executed, wide) == profile.work_gflop["FOUND"]


def test_a_square_has_no_faster_way():
    segmenter = build_segmenter(TINY, warm_up=False)
    assert profile_segmenter(segmenter, Photo.from_array(np.zeros((9, 9, 3), np.uint8)), VOCABULARY).less_work == {}
