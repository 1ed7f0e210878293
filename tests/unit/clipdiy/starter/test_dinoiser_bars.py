"""The bundled weights through the second method: good enough for a demo, and pooling is what makes them so."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from clipdiy.config import preset
from clipdiy.dinoiser.config import STARTER_SETTINGS
from clipdiy.method import build_method
from clipdiy.photo import Photo
from clipdiy.starter.scenes import NOUNS, compose_scene, load_sprites
from clipdiy.starter.training.measure import FRESH_SEEDS, mean_iou
from clipdiy.vocabulary import make_vocabulary
from clipdiy.weights import STARTER_DIR

CLASSES = 1 + len(NOUNS)
CONFIG = preset("starter", method="clip-dinoiser", device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def figures():
    """Measure mIoU in percent with and without pooling, and the IoU of the foreground."""
    method, sprites, vocabulary = build_method(CONFIG, warm_up=False), load_sprites(), make_vocabulary(NOUNS)
    ways = {"pooled": STARTER_SETTINGS, "alone": replace(STARTER_SETTINGS, gamma=0.999, background="plain")}
    counts = {name: np.zeros((CLASSES, CLASSES), np.int64) for name in ways}
    joint = union = 0
    for seed in FRESH_SEEDS[:30]:
        scene = compose_scene(seed, sprites=sprites)
        for name, settings in ways.items():
            one = method.with_config(replace(CONFIG, method_config=settings))
            features = one.encode([Photo.from_array(scene.image)])[0]
            labels = one.segment(features, vocabulary).label_map
            pairs = scene.labels.astype(np.int64) * CLASSES + labels
            counts[name] += np.bincount(pairs.ravel(), minlength=CLASSES**2).reshape(CLASSES, CLASSES)
        found = features.tiles[0].background > 0
        truth = torch.from_numpy(scene.labels[8::16, 8::16] > 0)
        joint += int((found & truth).sum())
        union += int((found | truth).sum())
    return {**{name: mean_iou(one) for name, one in counts.items()}, "foreground": 100 * joint / union}


def test_scenes_are_segmented(figures):
    assert figures["pooled"] >= 45


def test_pooling_and_the_background_are_what_makes_it_good(figures):
    assert figures["pooled"] >= figures["alone"] + 15


def test_the_foreground_is_found(figures):
    assert figures["foreground"] >= 58


def test_the_bundle_stays_small():
    total = sum(path.stat().st_size for path in STARTER_DIR.rglob("*") if path.is_file())
    assert total < 12_000_000
