"""Our program against the outputs of the authors' own programs (tests/fixtures/golden)."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import GOLDEN, TINY

from clipdiy.aggregate import grid_similarity, mean_similarity
from clipdiy.build import build_segmenter
from clipdiy.config import CropGrid, ObjectnessConfig
from clipdiy.crops import cut_crops, scale_boxes
from clipdiy.guide import ObjectnessField, guided_square
from clipdiy.label_maps import full_label_map
from clipdiy.objectness.found import background_objectness, prepare
from clipdiy.objectness.loading import load_found, locate_found
from clipdiy.photo import Photo
from clipdiy.vocabulary import make_vocabulary

CONFIG = replace(TINY, grid=CropGrid(), objectness=ObjectnessConfig(square_px=256), label_map="square")


@pytest.fixture(scope="module")
def expected():
    return dict(np.load(GOLDEN / "expected.npz"))


@pytest.fixture(scope="module")
def segmenter():
    return build_segmenter(CONFIG, warm_up=False)


def read(name):
    with Image.open(GOLDEN / name) as image:
        return np.array(image.convert("RGB"))


def as_tensor(pixels):
    return torch.from_numpy(pixels).permute(2, 0, 1)


@pytest.fixture(scope="module")
def features(segmenter):
    return segmenter.encode([Photo.from_array(read("photo_256.png"))])[0]


def correlation(a, b):
    return np.corrcoef(np.ravel(a), np.ravel(b))[0, 1]


@pytest.mark.parametrize("scale", [0, 1, 2])
def test_crop_cosines(segmenter, expected, scale):
    boxes = scale_boxes(CONFIG.grid)[scale]
    crops = cut_crops(as_tensor(read("photo_256.png"))[None], boxes, segmenter.clip.input_px)[0]
    embeddings = segmenter.clip.embed_crops(crops)
    grid = (torch.from_numpy(expected["class_embeddings"]) @ embeddings.T).reshape(-1, *boxes.grid_hw)
    np.testing.assert_allclose(grid, expected[f"grid_{boxes.patch_px}"], atol=1e-5)


def test_text_embeddings(segmenter, expected):
    vocabulary = make_vocabulary(list(expected["classes"][1:]))
    embeddings = segmenter.clip.embed_vocabulary(vocabulary)
    np.testing.assert_allclose(embeddings, expected["text_embeddings"], atol=1e-5)


def grids_of(features, expected):
    """Half-precision features, as they are stored, with the golden class embeddings."""
    texts = torch.from_numpy(expected["class_embeddings"])
    return grid_similarity([scale.float() for scale in features.crop_embeddings], texts)


def test_similarity_map(features, expected):
    similarity = mean_similarity(grids_of(features, expected), (256, 256))
    np.testing.assert_allclose(similarity, expected["similarity"].astype(np.float32), atol=1e-3)


def test_softmax_of_eq_4(features, expected):
    guided = guided_square(grids_of(features, expected), features.objectness, 256)
    np.testing.assert_allclose(guided.softmax(dim=0), expected["guided"].astype(np.float32), atol=1e-3)


def test_label_map_the_published_way(segmenter, features, expected, monkeypatch):
    monkeypatch.setattr(
        segmenter.clip, "embed_vocabulary", lambda _vocabulary: torch.from_numpy(expected["class_embeddings"])
    )
    result = segmenter.segment(features, make_vocabulary(list(expected["classes"][1:])))
    assert len(np.unique(expected["labels"])) >= 4, "the golden map is varied, so that equality means something"
    assert (result.label_map == expected["labels"]).mean() >= 0.999


def test_label_map_in_strips_agrees(features, expected):
    labels = full_label_map(grids_of(features, expected), features.objectness, (256, 256))
    assert (labels.numpy() == expected["labels"]).mean() >= 0.999


@pytest.mark.parametrize(
    ("name", "config"),
    [("sq", ObjectnessConfig(square_px=256)), ("native", ObjectnessConfig(long_px=640))],
    ids=["256 square", "native size, padded"],
)
class TestFound:
    def read(self, name, config):
        pixels = as_tensor(read("photo_256.png" if name == "sq" else "photo.png"))
        model = load_found(locate_found(CONFIG.found, GOLDEN))
        prepared = prepare(pixels, (pixels.shape[1], pixels.shape[2]), model.patch_px)
        with torch.inference_mode():
            keys = model(prepared[None])
            return model.logits(keys.keys)[0], background_objectness(keys)[0]

    def test_logits(self, expected, name, config):
        logits, _ = self.read(name, config)
        assert logits.shape == expected[f"{name}_logits"].shape
        assert correlation(logits, expected[f"{name}_logits"]) >= 0.9999
        np.testing.assert_allclose(logits, expected[f"{name}_logits"], atol=1e-4)

    def test_background(self, expected, name, config):
        _, objectness = self.read(name, config)
        background = 1 - objectness.numpy()
        assert 0.1 < background.mean() < 0.9
        assert (background == expected[f"{name}_background"]).mean() >= 0.98

    def test_soft_map(self, expected, name, config):
        segmenter = build_segmenter(replace(CONFIG, objectness=config), warm_up=False)
        photo = Photo.from_array(read("photo_256.png" if name == "sq" else "photo.png"))
        objectness = segmenter.encode([photo])[0].objectness
        saliency = ObjectnessField(objectness, photo.size_hw).rows(0, photo.size_hw[0])
        np.testing.assert_allclose(saliency, expected[f"{name}_saliency"].astype(np.float32), atol=2e-3)
