"""Thumbnails of what was predicted and what was kept, through the real core with tiny features."""

import io

import numpy as np
import pytest
import torch
from fakes import FakeCore
from learned import words
from PIL import Image
from webhooks import KEY, LABELS, annotated, brushed

from backend.labeling.reader import parse_label_config
from backend.learning.learner import Wishes
from backend.learning.learning import Learning
from backend.learning.thumbnails import KEPT, PREDICTED, worst
from backend.metrics import Metrics
from backend.predicting.feature_cache import FeatureCache
from backend.predicting.predictor import Predictor, PredictorOptions
from clipdiy.dinoiser.features import DinoiserFeatures, FeatureTile
from clipdiy.dinoiser.windows import Window
from clipdiy.features import ImageFeatures, pack_picture
from clipdiy.learning.evidence import ClassShares
from clipdiy.photo import Photo

SIZE = (100, 200)


class PicturesCore(FakeCore):
    """Keeps a picture in its features, as the real ones do for its edges."""

    def __init__(self, way):
        super().__init__()
        self.way = way

    def encode(self, photos):
        grey = pack_picture(Photo.from_array(np.full((100, 200, 3), 90, np.uint8)), 336)
        if self.way == "clip-diy":
            return [ImageFeatures((), None, SIZE, self.encoder_identity, grey) for _ in photos]
        tile = FeatureTile(torch.zeros(1, 1, 4).half(), torch.zeros(1, 1).half(), Window(0, 0, *SIZE), (1.0, 1.0))
        return [DinoiserFeatures((tile,), None, SIZE, self.encoder_identity, grey) for _ in photos]


class Files:
    def fetch_if_changed(self, value, **_):
        from backend.images.versions import Fetched

        return Fetched(value.encode())

    def decode(self, data, value, *, window=None, deadline=None):
        return Photo.from_array(np.zeros((*SIZE, 3), np.uint8))


@pytest.fixture(params=["clip-diy", "clip-dinoiser"])
def learning(tmp_path, request):
    cache = FeatureCache(None, memory_bytes=10**7, disk_bytes=0)
    predictor = Predictor(PicturesCore(request.param), Files(), PredictorOptions(), Metrics(), cache)
    time = [2_000_000_000.0]
    made = Learning(
        tmp_path,
        predictor,
        parse_label_config,
        encoder="fake",
        learn=lambda lesson: words(),
        evidence=lambda features: features,
        wishes=Wishes("on-training"),
        now=lambda: time[0],
    )
    config = parse_label_config(LABELS)
    for number, kept in ((1, slice(0, 100)), (2, slice(0, 50)), (3, slice(150, 200))):
        data = {"image": f"picture {number}"}
        [prediction] = predictor.predict([{"id": number, "data": data}], config, project="1")
        mask = np.zeros(SIZE, bool)
        mask[:, kept] = True
        region = {**brushed(mask, region=prediction["result"][0]["id"]), "origin": "prediction-changed"}
        made.receive(annotated(number, number, [region], data=data, parent_prediction=number))
    made.receive({"action": "START_TRAINING", "project": annotated()["project"]})
    made.learner.step()
    yield made
    predictor.close()


def opened(data):
    return np.asarray(Image.open(io.BytesIO(data)))


def test_the_worst_come_first_with_what_was_predicted_and_kept(learning):
    found = learning.thumbnails(KEY, "brush", "Cat", 2)
    assert [(one.task, one.iou) for one in found] == [(3, 0.0), (2, 0.5)]
    picture = Image.open(io.BytesIO(found[0].picture))
    assert (picture.format, picture.size) == ("JPEG", (200, 100))
    assert abs(int(np.asarray(picture).mean()) - 90) < 3
    predicted, kept = opened(found[0].predicted), opened(found[0].kept)
    assert predicted.shape == kept.shape == (100, 200, 4)
    # The fake core draws the left half; the person kept the last quarter.
    assert (predicted[50, 20, :3].tolist(), predicted[50, 180, 3]) == ([*PREDICTED], 0)
    assert (kept[50, 190, :3].tolist(), kept[50, 20, 3]) == ([*KEPT], 0)


def test_all_of_them_and_none_of_others(learning):
    assert len(learning.thumbnails(KEY, "brush", "Cat", 9)) == 3
    assert learning.thumbnails(KEY, "brush", "Dog", 9) == []
    assert learning.thumbnails("9.9", "brush", "Cat", 9) == ()
    assert [row[0] for row in worst(learning.store.agreements(KEY), "brush", "Cat")] == [0.0, 0.5, 1.0]


def test_no_more_is_read_than_what_is_shown(learning, monkeypatch):
    read = []
    unpack = ClassShares.from_bytes
    monkeypatch.setattr(ClassShares, "from_bytes", lambda data: read.append(data) or unpack(data))
    assert [one.task for one in learning.thumbnails(KEY, "brush", "Cat", 2)] == [3, 2]
    assert len(read) == 2, "of three"


def test_pictures_that_are_kept_no_more_are_left_out(learning, monkeypatch):
    monkeypatch.setattr(learning._predicting, "known_features", lambda content: None)
    assert learning.thumbnails(KEY, "brush", "Cat", 9) == []
