"""Scenes that are composed on the way."""

import json

import numpy as np
import pytest

from clipdiy.errors import DatasetError
from clipdiy.evaluate.datasets import open_dataset
from clipdiy.evaluate.datasets.scenes import open_scenes, write_scenes
from clipdiy.evaluate.instances import open_instances
from clipdiy.starter.scenes import NOUNS, compose_scene


def test_scenes_are_written_and_read_without_loss(tmp_path):
    dataset = open_dataset("scenes:3:3", tmp_path)
    assert dataset.classes == NOUNS
    assert dataset.title == "3 scenes of 2 to 4 objects, seed 3"
    for number, image_id in enumerate(dataset.image_ids):
        sample = dataset.read(image_id)
        scene = compose_scene(3_000_000 + number, size_hw=sample.photo.size_hw, n_objects=(2, 4))
        np.testing.assert_array_equal(sample.truth, scene.labels)
        np.testing.assert_array_equal(sample.photo.pixels, scene.image)
    assert len({dataset.read(image_id).photo.size_hw for image_id in dataset.image_ids}) == 3


def test_the_largest_seed_is_said_right(tmp_path):
    with pytest.raises(DatasetError, match=r"a seed in 0\.\.999 and"):
        write_scenes(tmp_path, 1000, 1)
    write_scenes(tmp_path, 999, 1)


def test_scenes_of_one_object(tmp_path):
    dataset = open_dataset("scenes:0:2:single", tmp_path)
    for image_id in dataset.image_ids:
        assert len(np.unique(dataset.read(image_id).truth)) == 2


def test_scenes_are_written_once_and_anew_when_asked_for_others(tmp_path):
    write_scenes(tmp_path, 0, 1)
    picture = tmp_path / "JPEGImages" / "scene-0-0000.png"
    before = picture.stat().st_mtime_ns
    write_scenes(tmp_path, 0, 1)
    assert picture.stat().st_mtime_ns == before
    assert len(open_scenes(tmp_path, 0, 2).image_ids) == 2


def test_true_masks_of_scenes_are_a_results_file(tmp_path):
    dataset = open_scenes(tmp_path, 1, 1)
    truth = dataset.read(dataset.image_ids[0]).truth
    objectness = open_instances(tmp_path / "instances.json").objectness(dataset.image_ids[0], truth.shape)
    np.testing.assert_array_equal(objectness.grid.numpy() > 0, truth > 0)
    first = json.loads((tmp_path / "instances.json").read_text())[0]
    assert first["score"] == 1.0
