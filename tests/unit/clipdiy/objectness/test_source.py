"""The registry of objectness sources: a new one is an entry, and comes out where Eq. 3 takes it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import TINY, VOCABULARY, photo
from torch import nn

from clipdiy.build import build_segmenter
from clipdiy.config import ObjectnessConfig
from clipdiy.errors import ConfigError
from clipdiy.method import required_files
from clipdiy.objectness import source
from clipdiy.objectness.found import ObjectnessMap
from clipdiy.objectness.source import (
    OBJECTNESS_SOURCES,
    LoadedObjectness,
    ObjectnessSource,
    objectness_named,
    register_objectness,
)
from clipdiy.patches import PatchProduct
from clipdiy.weights import WeightFile


class LeftHalf:
    """Takes whatever lies in the left half of a photo for an object."""

    ways = ("left-half",)

    def grid_hw(self, size_hw, config):
        return 1, 2

    def maps(self, images, config, ways):
        grid = torch.tensor([[1.0, 0.0]]).half()
        return {way: [ObjectnessMap(grid, False, (1.0, 2.0)) for _ in images] for way in ways}


FILE = WeightFile("left", "left.bin", "https://example.org/left.bin")
LEFT = ObjectnessSource("left-half", lambda _: (FILE,), lambda *_: LoadedObjectness(LeftHalf(), {"left": "1"}))
CONFIG = replace(TINY, objectness=ObjectnessConfig(method="left-half"))


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setattr("clipdiy.objectness.source.OBJECTNESS_SOURCES", dict(OBJECTNESS_SOURCES))
    register_objectness(LEFT)


@pytest.fixture
def weights_dir(tmp_path):
    (tmp_path / "left.bin").write_bytes(b"x")
    return tmp_path


@pytest.mark.usefixtures("registered")
def test_a_new_source_guides_the_classes(weights_dir):
    assert required_files(CONFIG) == (FILE,)
    segmenter = build_segmenter(CONFIG, weights_dir=weights_dir)
    [features] = segmenter.encode([photo(0, 40, 60)])
    assert features.objectness.grid.tolist() == [[1.0, 0.0]]
    assert features.objectness.extent_hw == (1.0, 2.0)
    guided = segmenter.square_maps(features, VOCABULARY).guided
    assert (guided[1:, :, -1] == 0).all(), "nothing on the right is an object"


@pytest.mark.usefixtures("registered")
def test_other_digests_are_another_core(weights_dir, monkeypatch):
    first = build_segmenter(CONFIG, weights_dir=weights_dir, warm_up=False).encoder_identity
    other = replace(LEFT, load=lambda *_: LoadedObjectness(LeftHalf(), {"left": "2"}))
    monkeypatch.setitem(source.OBJECTNESS_SOURCES, "left-half", other)
    assert build_segmenter(CONFIG, weights_dir=weights_dir, warm_up=False).encoder_identity != first


@pytest.mark.usefixtures("registered")
def test_a_name_is_given_once():
    with pytest.raises(ConfigError, match="left-half"):
        register_objectness(LEFT)


def test_an_unknown_name_lists_those_there_are():
    with pytest.raises(ConfigError, match=r"found, found-bkg, none, got 'sam'"):
        objectness_named("sam")
    with pytest.raises(ConfigError, match="got 'sam'"):
        build_segmenter(replace(TINY, objectness=ObjectnessConfig(method="sam")))


@pytest.mark.usefixtures("registered")
def test_what_one_network_cannot_give_is_refused(weights_dir):
    segmenter = build_segmenter(CONFIG, weights_dir=weights_dir, warm_up=False)
    with pytest.raises(ConfigError, match="'found' needs weights that were not given"):
        segmenter.with_config(TINY)
    with_found = build_segmenter(TINY, warm_up=False)
    with pytest.raises(ConfigError, match="not by 'left-half'"):
        with_found.objectness(photo(0, 40, 60), ["left-half"])


@pytest.mark.parametrize(
    ("device", "kind"), [("cuda", PatchProduct), ("cpu", nn.Conv2d), ("mps", nn.Conv2d)], ids=["cuda", "cpu", "mps"]
)
def test_patches_are_products_on_a_gpu_where_those_are_faster(device, kind, monkeypatch):
    network = nn.Sequential(nn.Conv2d(3, 4, 2, 2))
    moved = []
    monkeypatch.setattr(network, "to", lambda **where: moved.append(where) or network)
    monkeypatch.setattr("clipdiy.objectness.loading.load_found", lambda _files: network)
    loaded = objectness_named("found").load(TINY, Path(), torch.device(device), torch.float16)
    assert loaded.network is network
    assert type(network[0]) is kind
    assert moved == [{"device": torch.device(device), "dtype": torch.float16}]
