"""A method that nobody here knows: registered by name, it answers /predict like any other, and no file is touched."""

import json
import struct
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from fakes import CONFIG, FakeLoader
from on_screen import iou, stored_mask
from pictures import data_uri, label_config, png, scene

from backend.service import build_service
from backend.settings import Settings
from backend.web.app import create_app
from clipdiy.config import AS_CONFIGURED
from clipdiy.method import METHODS, MethodEntry, register_method
from clipdiy.others.choice import Choice
from clipdiy.segmentation import Segmentation


@dataclass(frozen=True)
class Brightness:
    """Features of a toy: the share of the picture's width that is its first class."""

    share: float
    size_hw: tuple[int, int]
    made_by: str
    picture: None = None

    def to_bytes(self):
        head = json.dumps([self.size_hw, self.made_by]).encode()
        return b"TOY__1" + struct.pack("<fI", self.share, len(head)) + head

    @classmethod
    def from_bytes(cls, data):
        share, _ = struct.unpack_from("<fI", data, 6)
        size_hw, made_by = json.loads(data[14:])
        return cls(share, tuple(size_hw), made_by)


class Toy:
    """Everything that the backend wants of a method, and nothing else."""

    name = "toy"
    identity = "toy1"
    encoder_identity = "toy1"
    device = torch.device("cpu")
    keep_long_px = 64
    keep_short_px = 0

    def __init__(self, config):
        self.config = config
        self.encoded = 0
        self.description = {}

    def kept_bytes(self, size_hw):
        return 50

    def doubts(self, vocabulary):
        return ()

    def choose_others(self, vocabulary, words=None):
        return Choice((), ())

    def other_prompts(self, words=None):
        return ()

    def embed_prompts(self, prompts):
        assert all(prompt.startswith("toy: ") for prompt in prompts)

    def for_pieces(self):
        return self

    def with_config(self, config):
        return Toy(config)

    def encode(self, photos):
        self.encoded += len(photos)
        return [Brightness(0.5, photo.size_hw, self.encoder_identity) for photo in photos]

    def segment(self, features, vocabulary, options=AS_CONFIGURED):
        height, width = features.size_hw
        label_map = np.zeros((height, width), np.uint16)
        label_map[:, : round(width * features.share)] = 1
        area = np.bincount(label_map.ravel(), minlength=len(vocabulary)) / label_map.size
        return Segmentation(label_map, area, np.where(area > 0, 0.5, 0).astype(np.float32), 0.5)

    def explain(self, photo, features, vocabulary):
        raise NotImplementedError


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setattr("clipdiy.method.METHODS", dict(METHODS))
    made = []
    register_method(
        MethodEntry(
            "toy",
            "half of everything",
            build=lambda config, **_: made.append(Toy(config)) or made[-1],
            magic=b"TOY__1",
            read_features=Brightness.from_bytes,
            templates=lambda _config: ("toy: {}",),
        )
    )
    return made


def test_a_registered_method_answers_predict(toy, tmp_path, monkeypatch):
    monkeypatch.setattr("backend.service.make_loader", lambda *_: FakeLoader())
    settings = Settings(method="toy", preset="starter", data_dir=tmp_path, cache_memory_bytes=0)
    service = build_service(settings)
    client = create_app(service).test_client()
    body = {"tasks": [{"id": 1, "data": {"image": "ok:8x10"}}], "label_config": CONFIG, "project": "1.1"}
    for _ in range(2):
        [result] = client.post("/predict", json=body).get_json()["results"]
        [region] = result["result"]
        assert region["value"]["brushlabels"] == ["Cat"]
        assert region["original_width"] == 10
    assert toy[0].encoded == 1, "its features are kept as bytes, and read again"
    version = client.post("/setup", json={"schema": CONFIG, "project": "1.1"}).get_json()["model_version"]
    assert version.startswith("clip-diy-toy-")
    service.predictor.close()


@pytest.mark.parametrize(
    ("settings", "works_ahead"),
    [
        ({}, True),
        ({"work_ahead": False}, False),
        ({"cache_memory_bytes": 0}, True),
        ({"cache_memory_bytes": 0, "cache_disk_bytes": 0}, False),
    ],
)
def test_it_works_ahead_where_that_is_wanted_and_kept(toy, tmp_path, settings, works_ahead):
    service = build_service(Settings(method="toy", preset="starter", data_dir=tmp_path, **settings))
    assert (service.predictor.options.ahead > 0) == works_ahead
    service.close()


def test_the_second_method_answers_predict_with_real_weights(tmp_path):
    """CLIP-DINOiser on the starter: a picture of an elephant gets one, from features that are kept."""
    settings = Settings(preset="starter", method="clip-dinoiser", device="cpu", data_dir=tmp_path)
    service = build_service(settings)
    client = create_app(service).test_client()
    picture = scene(7102, nouns=("elephant",))
    config = label_config("elephant", "dog")
    body = {"tasks": [{"id": 1, "data": {"image": data_uri(png(picture.image))}}], "label_config": config}
    first, again = (client.post("/predict", json=body).get_json()["results"][0] for _ in range(2))
    assert first == again
    [region] = [one for one in first["result"] if one["value"]["brushlabels"] == ["elephant"]]
    assert iou(stored_mask(region), picture.objects) > 0.5
    encoded = service.metrics.registry.get_sample_value("clipdiy_stage_seconds_count", {"stage": "encode"})
    assert encoded == 1
    service.predictor.close()
