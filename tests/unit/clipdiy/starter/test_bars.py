"""The bundled weights through the real core: good enough for a demo, and in the paper's order by wide margins.

All bars are read off the same 100 scenes, so the differences between them are paired. The scenes are new compositions
of the bundled sprites, which are drawings that the weights were trained on.
"""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from clipdiy.build import build_segmenter
from clipdiy.crops import resize_uint8
from clipdiy.photo import Photo
from clipdiy.starter.scenes import NOUNS, compose_scene, load_sprites
from clipdiy.starter.training.measure import FRESH_SEEDS, mean_iou, object_crop
from clipdiy.vocabulary import make_vocabulary

CLASSES = 1 + len(NOUNS)


@dataclass(frozen=True)
class Figures:
    """mIoU of the finished label maps and of three plain argmaxes, all in percent; and the rest."""

    segmented: float
    guided: float
    unguided: float
    largest_scale: float
    objectness_iou: float
    lowest_cosine: float
    doubts: tuple[str, ...]


@pytest.fixture(scope="module")
def segmenter():
    return build_segmenter("starter", warm_up=False)


@pytest.fixture(scope="module")
def vocabulary():
    return make_vocabulary(NOUNS)


@pytest.fixture(scope="module")
def sprites():
    return load_sprites()


@pytest.fixture(scope="module")
def figures(segmenter, vocabulary, sprites):
    names = ("segmented", "guided", "unguided", "largest_scale")
    confusions = {name: np.zeros((CLASSES, CLASSES), np.int64) for name in names}
    joint = union = 0
    lowest = 1.0
    for seed in FRESH_SEEDS:
        scene = compose_scene(seed, sprites=sprites)
        features = segmenter.encode([Photo.from_array(scene.image)])[0]
        maps = segmenter.square_maps(features, vocabulary)
        weights = torch.cat([1 - maps.objectness[None], maps.objectness.expand(len(NOUNS), -1, -1)])
        predictions = {
            "segmented": segmenter.segment(features, vocabulary).label_map,
            "guided": maps.guided.argmax(0).numpy(),
            "unguided": maps.similarity.argmax(0).numpy(),
            "largest_scale": (maps.scale_similarity[0] * weights).argmax(0).numpy(),
        }
        for name, labels in predictions.items():
            pairs = scene.labels.astype(np.int64) * CLASSES + labels
            confusions[name] += np.bincount(pairs.ravel(), minlength=CLASSES**2).reshape(CLASSES, CLASSES)
        truth, found = scene.labels > 0, maps.objectness.numpy() > 0.5
        joint += int((truth & found).sum())
        union += int((truth | found).sum())
        lowest = min(lowest, *(float(scale.min()) for scale in maps.scale_similarity))
    return Figures(
        **{name: mean_iou(confusion) for name, confusion in confusions.items()},
        objectness_iou=100 * joint / union,
        lowest_cosine=lowest,
        doubts=segmenter.doubts(vocabulary),
    )


def test_scenes_are_segmented(figures):
    assert figures.segmented >= 78
    assert figures.guided >= 78


def test_objectness_is_what_makes_it_good(figures):
    assert figures.guided >= figures.unguided + 40


def test_small_crops_are_what_makes_it_good(figures):
    assert figures.guided >= figures.largest_scale + 40


def test_objectness_finds_the_objects(figures):
    assert figures.objectness_iou >= 88


def test_cosines_are_hardly_ever_negative(figures):
    # A negative cosine would turn the guidance around.
    assert figures.lowest_cosine >= -0.15


def test_its_own_nouns_raise_no_doubts(figures):
    assert figures.doubts == ()


def test_single_whole_objects_are_named(segmenter, vocabulary, sprites):
    side = (segmenter.clip.input_px,) * 2
    crops, names = [], []
    for seed in range(2000, 2300):
        scene = compose_scene(seed, n_objects=(1, 1), sprites=sprites)
        pixels = torch.from_numpy(np.ascontiguousarray(object_crop(scene).transpose(2, 0, 1)))
        crops.append(resize_uint8(pixels[None], side, "bicubic")[0])
        names.append(scene.nouns[0])
    cosines = segmenter.clip.embed_crops(torch.stack(crops)) @ segmenter.clip.embed_vocabulary(vocabulary).t()
    answers = [NOUNS[i] for i in cosines[:, 1:].argmax(1).tolist()]
    assert np.mean([answer == name for answer, name in zip(answers, names, strict=True)]) >= 0.93


@pytest.mark.parametrize(
    ("noun", "other"), [("dog", "puppies"), ("car", "automobile"), ("sofa", "couch"), ("airplane", "plane")]
)
def test_a_synonym_means_the_same(segmenter, noun, other):
    texts = [f"a photo of a {word}" for word in (*NOUNS, other)]
    embedded = segmenter.clip.embed_texts(texts)
    assert NOUNS[int((embedded[:-1] @ embedded[-1]).argmax())] == noun
