"""Whichever method serves learns through the seam: CLIP-DINOiser, with its own evidence and its own fit."""

import numpy as np
import pytest
import torch
from dinoiser_tiny import CONFIG, load_dinoiser
from fakes import FakeLoader
from learned import made_up
from on_screen import stored_mask
from webhooks import KEY, LABELS, annotated, brushed, left_half, train

from backend.images.introductions import Introductions
from backend.learning.fits import Fit
from backend.learning.in_use import InUse
from backend.metrics import Metrics
from backend.predicting.feature_cache import FeatureCache
from backend.predicting.predictor import Predictor, PredictorOptions
from backend.service import make_learning, read_label_config
from backend.settings import Settings
from clipdiy.dinoiser.features import DinoiserFeatures, FeatureTile
from clipdiy.dinoiser.windows import Window


class CatsAndDogs:
    """CLIP-DINOiser to which the left half of every picture looks like a cat, and the right half like a dog."""

    def __init__(self):
        self._method = load_dinoiser(CONFIG)

    def __getattr__(self, name):
        return getattr(self._method, name)

    def encode(self, photos):
        return [self._features(photo, number) for number, photo in enumerate(photos)]

    def _features(self, photo, number):
        rng = np.random.default_rng([*photo.size_hw, number])
        words = self._method.clip.embed_texts(["a photo of a cat", "a photo of a dog"]).float().numpy()
        looks = np.zeros((4, 4), int)
        looks[:, 2:] = 1
        seen = words[looks] + 0.02 * rng.standard_normal((4, 4, words.shape[1]))
        # Both words of the tiny CLIP are nearly the same: what can be told apart here, lies beside them.
        seen[..., 5] += np.where(looks, 0.3, -0.3)
        seen /= np.linalg.norm(seen, axis=2, keepdims=True)
        height, width = photo.size_hw
        tile = FeatureTile(
            torch.from_numpy(seen).half(), torch.full((4, 4), 3.0).half(), Window(0, 0, height, width), (4.0, 4.0)
        )
        return DinoiserFeatures((tile,), None, photo.size_hw, self._method.encoder_identity)


@pytest.fixture(scope="module")
def method():
    return CatsAndDogs()


@pytest.fixture
def predictor(method):
    cache = FeatureCache(None, memory_bytes=10**7, disk_bytes=0)
    made = Predictor(method, FakeLoader(), PredictorOptions(), Metrics(), cache)
    yield made
    made.close()


def test_the_second_method_learns_from_corrections(method, predictor, tmp_path):
    settings = Settings(data_dir=tmp_path, method="clip-dinoiser", learn="on-training", others="none")
    learning = make_learning(settings, method, predictor, Introductions(tmp_path))
    for number in range(1, 9):
        drawn = [brushed(left_half(), "Dog", region="r1"), brushed(~left_half(), "Cat", region="r2")]
        learning.receive(annotated(number, number, drawn))
    learning.receive(train())
    learning.learner.step()
    stored = learning.store.project(KEY)
    assert stored.state == "learned from 8 pictures: version 1, names of 2 labels"

    words = read_label_config(LABELS, settings)
    config = learning.teach(words, KEY)
    assert config.version == 1
    asked = [{"id": 99, "data": {"image": "ok:50x50"}}]
    [before] = predictor.predict(asked, words, project="1")
    [prediction] = predictor.predict(asked, config, project="1")
    assert "-learned1-" in prediction["model_version"]
    named = {region["value"]["brushlabels"][0]: region for region in prediction["result"]}
    assert set(named) == {"Cat", "Dog"}
    assert (stored_mask(named["Dog"]) == left_half()).mean() > 0.95
    assert (stored_mask(named["Cat"]) == ~left_half()).mean() > 0.95
    for region in before["result"]:
        if region["value"]["brushlabels"] == ["Dog"]:
            assert (stored_mask(region) & left_half()).sum() < 0.9 * left_half().sum(), "the words do not know it"
    for region in named.values():
        assert 0 < region["score"] <= 1
    learning.close()


def test_a_fit_of_one_method_is_none_of_the_other(method, predictor, tmp_path):
    settings = Settings(data_dir=tmp_path, method="clip-dinoiser", learn="on-training")
    learning = make_learning(settings, method, predictor, Introductions(tmp_path))
    learning.receive(annotated(1, 1, [brushed(left_half(), "Dog")]))
    learning.learner.step()
    config = read_label_config(LABELS, settings)
    vocabulary = config.controls[0].vocabulary
    for encoder, taught in (("crops", {}), (method.encoder_identity, {"brush"})):
        fit = Fit({"brush": made_up(vocabulary, encoder=encoder, dim=32)})
        with learning.store.change() as change:
            change.use(KEY, change.add_fit(KEY, 1, "", fit.to_bytes(), [1]))
        assert set(InUse(learning.store, method.encoder_identity).taught(KEY)) == set(taught)
    learning.close()
