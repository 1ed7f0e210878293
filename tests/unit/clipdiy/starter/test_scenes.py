"""Scenes: the same for the same seed, exact about what is where, and small enough to ship."""

import hashlib
import json
import zipfile

import numpy as np
import pytest

from clipdiy.starter.scenes import (
    NOUNS,
    Sprites,
    compose_scene,
    load_sprites,
    paint_background,
)
from clipdiy.starter.training.art import save_sprites
from clipdiy.weights import STARTER_DIR


@pytest.fixture(scope="module")
def sprites():
    return load_sprites()


def square_sprite(side=64):
    return np.full((side, side, 4), (200, 30, 30, 255), np.uint8)


def test_nouns_are_distinct_and_fit_the_labels():
    assert 40 <= len(NOUNS) <= 60
    assert len(set(NOUNS)) == len(NOUNS)


def test_every_noun_has_sprites(sprites):
    assert set(sprites.by_noun) == set(NOUNS)
    for drawings in sprites.by_noun.values():
        assert len(drawings) == 3
        for rgba in drawings:
            assert rgba.dtype == np.uint8
            assert rgba.shape[2] == 4
            assert 100 < max(rgba.shape[:2]) <= 256
            assert rgba[..., 3].max() > 200


def test_the_same_seed_gives_the_same_scene(sprites):
    one, two = compose_scene(5, sprites=sprites), compose_scene(5, sprites=sprites)
    np.testing.assert_array_equal(one.image, two.image)
    np.testing.assert_array_equal(one.labels, two.labels)
    assert one.nouns == two.nouns


def test_other_seeds_give_other_scenes(sprites):
    digests = {hashlib.sha256(compose_scene(seed, sprites=sprites).image.tobytes()).digest() for seed in range(20)}
    assert len(digests) == 20


@pytest.mark.parametrize(
    "size_hw",
    [
        pytest.param((256, 256), id="the usual square"),
        pytest.param((257, 131), id="odd and tall"),
        pytest.param((90, 301), id="odd and wide"),
        pytest.param((1, 1), id="one pixel"),
        pytest.param((7, 3), id="tiny"),
        pytest.param((800, 1200), id="a demo picture"),
    ],
)
def test_sizes(sprites, size_hw):
    scene = compose_scene(3, size_hw=size_hw, sprites=sprites)
    assert scene.image.shape == (*size_hw, 3)
    assert scene.image.dtype == np.uint8
    assert scene.labels.shape == size_hw
    assert scene.labels.dtype == np.uint8


def test_nouns_are_those_in_the_labels(sprites):
    counts = []
    for seed in range(40):
        scene = compose_scene(seed, n_objects=(2, 4), sprites=sprites)
        assert scene.nouns == tuple(NOUNS[i - 1] for i in np.unique(scene.labels) if i)
        counts.append(len(scene.nouns))
    assert min(counts) >= 1
    assert 2 <= np.mean(counts) <= 4


def test_objects_are_large_enough_to_see(sprites):
    for seed in range(40):
        scene = compose_scene(seed, sprites=sprites)
        assert (scene.labels > 0).mean() > 0.01


def test_the_mask_is_exact():
    # A one-coloured square on whatever background: every pixel of the mask has its colour, none outside has.
    plain = Sprites({"dog": (square_sprite(256),)})
    for seed in range(10):
        scene = compose_scene(seed, n_objects=(1, 1), sprites=plain)
        inside = scene.labels == 1
        colour = np.median(scene.image[inside], axis=0)
        near = np.abs(scene.image.astype(int) - colour).max(axis=2) <= 4
        assert (near & inside).sum() / inside.sum() > 0.95  # all but the blended edge
        assert scene.nouns == ("dog",)


def test_transparent_pixels_are_background():
    ring = square_sprite()
    ring[16:48, 16:48, 3] = 0
    scene = compose_scene(1, n_objects=(1, 1), sprites=Sprites({"cat": (ring,)}))
    ys, xs = np.nonzero(scene.labels)
    assert scene.labels[round(ys.mean()), round(xs.mean())] == 0


def test_a_larger_picture_shows_the_same_scene_larger(sprites):
    small = compose_scene(11, size_hw=(128, 128), n_objects=(1, 1), sprites=sprites)
    large = compose_scene(11, size_hw=(512, 512), n_objects=(1, 1), sprites=sprites)
    assert (large.labels > 0).sum() > 4 * (small.labels > 0).sum()


def test_backgrounds_are_not_all_alike():
    means = [paint_background(np.random.default_rng(seed), (64, 64)).mean() for seed in range(20)]
    assert np.std(means) > 10


@pytest.mark.parametrize("size_hw", [(0, 4), (4, 0), (-1, 4)])
def test_a_size_that_is_not_positive_is_refused(size_hw):
    with pytest.raises(ValueError, match="size_hw"):
        compose_scene(0, size_hw=size_hw, sprites=Sprites({"dog": (square_sprite(),)}))


@pytest.mark.parametrize("n_objects", [(0, 2), (3, 2)])
def test_an_impossible_number_of_objects_is_refused(n_objects):
    with pytest.raises(ValueError, match="objects"):
        compose_scene(0, n_objects=n_objects, sprites=Sprites({"dog": (square_sprite(),)}))


def test_sprites_survive_a_round_trip(tmp_path):
    save_sprites(Sprites({"dog": (square_sprite(), square_sprite(32))}), tmp_path / "sprites.zip")
    again = load_sprites(tmp_path / "sprites.zip")
    assert [d.shape for d in again.by_noun["dog"]] == [(64, 64, 4), (32, 32, 4)]
    assert np.abs(again.by_noun["dog"][0].astype(int) - square_sprite()).max() < 12


def test_a_missing_file_names_the_remedy(tmp_path):
    with pytest.raises(FileNotFoundError, match="make starter"):
        load_sprites(tmp_path / "none.zip")


def test_a_zip_without_sprites_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    with pytest.raises(ValueError, match=r"noun/number\.webp"):
        load_sprites(tmp_path / "empty.zip")


def test_the_bundle_is_small():
    files = [path for path in STARTER_DIR.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 12_000_000


def test_licences_are_there():
    folder = STARTER_DIR
    text = (folder / "LICENSES.md").read_text("utf-8")
    for word in ("Noto Emoji", "Google", "Fluent Emoji", "Microsoft", "Apache-2.0", "MIT"):
        assert word in text
    assert "Apache License" in (folder / "licenses" / "Apache-2.0.txt").read_text("utf-8")
    assert "Permission is hereby granted" in (folder / "licenses" / "MIT-Microsoft.txt").read_text("utf-8")


def test_the_vocabulary_file_says_what_the_code_says():
    vocabulary = json.loads((STARTER_DIR / "vocabulary.json").read_text("utf-8"))
    assert tuple(vocabulary["nouns"]) == NOUNS
