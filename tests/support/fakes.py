"""Stand-ins for the networks and for the source of photos: quick, and told how to behave by the task's own value."""

import time
from collections.abc import Sequence

import numpy as np
import torch

from backend.errors import TaskError
from backend.images.versions import Fetched, Validator
from clipdiy.config import AS_CONFIGURED, CoreConfig
from clipdiy.explanation import ExplainedStep, Explanation
from clipdiy.features import ImageFeatures
from clipdiy.others.choice import Choice
from clipdiy.photo import Photo
from clipdiy.segmentation import Segmentation

CONFIG = """
<View>
  <Image name="img" value="$image"/>
  <BrushLabels name="brush" toName="img"><Label value="Cat"/><Label value="Dog"/></BrushLabels>
</View>
"""


class FakeCore:
    """Draws class 1 over the left half; the first pixel's red value is how many milliseconds it takes."""

    name = "fake"
    device = "cpu"
    config = CoreConfig()

    def __init__(self, identity="fake-1", unknown=()):
        self.identity = identity
        self.encoder_identity = "fake"
        self.batches = []
        self.embedded = []
        self.running = 0
        self.unknown = unknown

    @property
    def description(self):
        return {"dtype": "float32"}

    def for_pieces(self):
        return self

    def doubts(self, vocabulary):
        return tuple(f"unknown: {name}" for name in vocabulary.names if name in self.unknown)

    def encode(self, photos: Sequence[Photo]):
        assert self.running == 0, "the networks run for one batch at a time"
        self.running += 1
        try:
            self.batches.append(len(photos))
            for photo in photos:
                red, green, _ = photo.pixels[0, 0]
                time.sleep(int(red) / 1000)
                if green == 255:
                    raise RuntimeError("secret path /root/x")
            return [ImageFeatures((), None, photo.size_hw, self.encoder_identity) for photo in photos]
        finally:
            self.running -= 1

    def choose_others(self, vocabulary, words=None):
        return Choice((), ())

    def other_prompts(self, words=None):
        return ()

    def embed_prompts(self, prompts):
        self.embedded.append(list(prompts))

    def segment(self, features, vocabulary, options=AS_CONFIGURED):
        height, width = features.size_hw
        label_map = np.zeros((height, width), np.uint16)
        label_map[:, : width // 2] = 1
        area = np.bincount(label_map.ravel(), minlength=len(vocabulary)) / label_map.size
        score = np.where(area > 0, 0.5, 0).astype(np.float32)
        return Segmentation(label_map, area, score, 0.75)

    def explain(self, photo, features, vocabulary):
        maps = torch.zeros(len(vocabulary), 4, 4)
        return Explanation((), (ExplainedStep("mean", "Eq. 2", maps, "similarity"),), torch.zeros(len(vocabulary)))


class FakeLoader:
    """`ok`, `ok:HxW`, `slow:MS` (networks), `wait:MS` (download), `breaks` (networks), `fail:REASON`, `odd`.

    `versioned:NAME` is a file whose source names versions: not given again as long as its version is the known one.
    """

    def __init__(self):
        self.seen = []
        self.versions = {}
        self.decoded = 0
        self.decoding = []

    def fetch_if_changed(self, value, *, task_id, host, known=None, deadline=None):
        self.seen.append((value, task_id, host))
        kind, _, rest = value.partition(":")
        if kind == "wait":
            time.sleep(int(rest) / 1000)
        elif kind == "fail":
            raise TaskError(rest, f"this one fails with {rest}")
        elif kind == "odd":
            raise ZeroDivisionError("secret token abc")
        elif kind == "versioned":
            version = Validator(etag=self.versions.get(rest, "1"))
            return Fetched(None if known == version else f"{value} {version.etag}".encode(), version)
        return Fetched(value.encode())

    def decode(self, data, value, *, window=None, deadline=None):
        self.decoded += 1
        self.decoding.append((window, deadline))
        kind, _, rest = value.partition(":")
        pixels = np.zeros((8, 6, 3), np.uint8)
        if kind == "ok" and rest:
            height, width = map(int, rest.split("x"))
            pixels = np.zeros((height, width, 3), np.uint8)
        elif kind == "slow":
            pixels[0, 0, 0] = int(rest)
        elif kind == "breaks":
            pixels[0, 0, 1] = 255
        return Photo.from_array(pixels if window is None else np.ascontiguousarray(pixels[window]))


def tasks(*values, first=1):
    return [{"id": i, "data": {"image": value}} for i, value in enumerate(values, first)]
