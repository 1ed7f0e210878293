"""Scenes on surfaces that have names: the same seed, the same scene; truth where the surface is; objects in front."""

import numpy as np
import pytest

from clipdiy.starter import grounds
from clipdiy.starter.grounds import ABOVE, BELOW, STUFF, compose_on_ground
from clipdiy.starter.scenes import NOUNS, Sprites, load_sprites
from clipdiy.starter.vocabulary import unknown_words

FIRST = len(NOUNS) + 1


@pytest.fixture(scope="module")
def sprites():
    return Sprites({noun: load_sprites().by_noun[noun] for noun in ("dog", "cup")})


def test_every_surface_is_above_or_below_and_no_noun():
    assert sorted((*ABOVE, *BELOW)) == sorted(STUFF)
    assert not set(STUFF) & set(NOUNS)
    assert FIRST + len(STUFF) < 255
    # That is why the benchmark has to show them.
    assert unknown_words(STUFF) == list(STUFF)


def test_the_same_seed_gives_the_same_scene(sprites):
    one, again, other = (compose_on_ground(seed, size_hw=(60, 80), sprites=sprites) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.image, again.image)
    np.testing.assert_array_equal(one.labels, again.labels)
    assert (one.image != other.image).any()


def test_surfaces_lie_above_and_below_objects_in_front(sprites):
    seen = set()
    for seed in range(30):
        scene = compose_on_ground(seed, size_hw=(60, 81), sprites=sprites)
        assert scene.image.shape == (60, 81, 3)
        every = (*NOUNS, *STUFF)
        assert set(scene.nouns) == {every[p - 1] for p in np.unique(scene.labels) if p}
        assert {"dog", "cup"} & set(scene.nouns)
        top, bottom = (set(np.unique(row)) for row in (scene.labels[0], scene.labels[-1]))
        assert not top & {FIRST + STUFF.index(name) for name in BELOW}
        assert not bottom & {FIRST + STUFF.index(name) for name in ABOVE}
        seen |= set(np.unique(scene.labels).tolist())
    assert seen >= {0, *(FIRST + i for i in range(len(STUFF)))}, "plain background too"


@pytest.mark.parametrize("name", STUFF)
def test_a_surface_is_drawn_where_its_label_is(sprites, name, monkeypatch):
    flat = {one: lambda rng, size_hw: np.full((*size_hw, 3), 300.0, np.float32) for one in STUFF}
    monkeypatch.setattr(grounds, "_SURFACES", flat | {name: lambda rng, size_hw: np.full((*size_hw, 3), 9, np.float32)})
    monkeypatch.setattr(grounds, "UNNAMED", 0.0)
    scenes = [compose_on_ground(seed, size_hw=(40, 40), sprites=sprites) for seed in range(12)]
    here = [scene.image[scene.labels == FIRST + STUFF.index(name)] for scene in scenes]
    there = [scene.image[scene.labels >= FIRST] for scene in scenes]
    # An object's soft edge belongs to the surface up to half a pixel.
    assert np.median(np.concatenate(here)) == 9
    assert np.concatenate(there).max() == 255


def test_surfaces_look_different():
    rng = np.random.default_rng(0)
    colours = [grounds._SURFACES[name](rng, (64, 64)).mean(axis=(0, 1)) for name in STUFF]
    assert all(np.abs(one - other).max() > 8 for i, one in enumerate(colours) for other in colours[:i])
