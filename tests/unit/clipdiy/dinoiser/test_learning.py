"""CLIP-DINOiser and corrections: its evidence, where objectness starts, and what a fit does to its answer."""

from copy import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from dinoiser_tiny import CONFIG, PHOTO, changed, load_dinoiser
from numpy.testing import assert_allclose, assert_array_equal
from tiny import VOCABULARY
from tiny import photo as noise

from clipdiy.config import OthersConfig, Pamr, SegmentOptions
from clipdiy.dinoiser.config import Windows
from clipdiy.dinoiser.features import DinoiserFeatures, FeatureTile
from clipdiy.dinoiser.learning import EVIDENCE_SIDE, MOST_LOGIT, OwnAnswer, evidence_of, foreground_terms
from clipdiy.dinoiser.probabilities import class_probabilities, refine_background
from clipdiy.dinoiser.windows import Window
from clipdiy.errors import FeaturesError
from clipdiy.learning.errors import LearningError
from clipdiy.learning.evidence import CELLS, CorrectedPicture, cell_objectness, class_shares
from clipdiy.learning.learned import Learned, label_keys
from clipdiy.learning.naming import NamingWeights
from clipdiy.learning.objectness import ObjectnessWeights, logit
from clipdiy.method import method_named
from clipdiy.photo import Photo
from clipdiy.vocabulary import Label, make_vocabulary

DIM = 32
SMALL = Photo.from_array(np.ascontiguousarray(PHOTO.pixels[60:160, 150:300]))
WINDOWED = changed(CONFIG, way="windows", windows=Windows(short_px=48, window_px=48, stride_px=24))
WITH_STUFF = make_vocabulary(["cat", "sky", "sofa", "grass"], stuff=["sky", "grass"])
ALL_STUFF = make_vocabulary(["cat", "sky"], stuff=["cat", "sky"])
OTHERS = VOCABULARY.with_others([Label(name, (f"a photo of a {name}",)) for name in ("tree", "car", "road")])


@pytest.fixture(scope="module")
def loaded():
    return load_dinoiser()


def names(labels, *, bias=(), newcomer=0.0):
    added = np.zeros(labels) if len(bias) == 0 else np.array(bias)
    center = np.random.default_rng(0).standard_normal(DIM)
    parts = (np.zeros((labels, DIM)), added, center)
    return NamingWeights(np.arange(labels), *(part.astype(np.float32) for part in parts), newcomer=newcomer)


def fit(vocabulary, naming=None, objectness=None, *, lying=None, known=None):
    """A fit of the labels of a vocabulary, or of those at some positions."""
    keys = label_keys(vocabulary)
    stuff = vocabulary.stuff
    order = [*(p for p in range(1, len(vocabulary)) if p not in stuff), *stuff]
    labels = tuple(keys[position - 1] for position in (order if known is None else known))
    return Learned("core", 100.0, labels, (1,) * len(labels), 3, naming, objectness, 10.0, len(stuff), lying)


def rule(head=0.0, rest=0.0, constant=0.0, shift=0.0):
    return ObjectnessWeights(np.array([head, rest, constant]), shift)


def segmented(dinoiser, features, vocabulary, learned=None, **options):
    return dinoiser.segment(features, vocabulary, SegmentOptions(learned=learned, **options))


class TestEvidence:
    def test_of_one_pass_it_is_the_patches_themselves(self, loaded):
        (features,) = loaded.encode([noise(1, 64, 150)])
        evidence, (tile,) = evidence_of(features), features.tiles
        (grid,) = evidence.crop_embeddings
        assert grid.dtype == torch.float16
        assert (evidence.size_hw, evidence.made_by) == ((64, 150), loaded.encoder_identity)
        assert tile.extent_hw == (4, 150 / 16)
        torch.testing.assert_close(grid[:, 0].float(), tile.pooled[:, 0].float(), atol=0.02, rtol=0)
        chance = cell_objectness(evidence).reshape(CELLS, CELLS)
        # Cell 3 of 32 rows, the eighth part of a patch's row before its lower edge, and so on: its centre is 0.4375.
        weight = (3 + 0.5) / 8 - 0.5
        expected = tile.background[0, 0].float().sigmoid() if weight < 0 else None
        assert chance[3, 0] == pytest.approx(float(expected), abs=1e-3)

    def test_a_grid_that_lies_over_the_picture_exactly_is_kept_bit_for_bit(self, loaded):
        (features,) = loaded.encode([noise(1, 64, 160)])
        (grid,) = evidence_of(features).crop_embeddings
        torch.testing.assert_close(grid, features.tiles[0].pooled, atol=1e-3, rtol=0)

    def test_a_finer_grid_is_reduced_and_its_vectors_are_of_unit_length(self, loaded):
        (features,) = loaded.encode([noise(1, 300, 451)])
        assert features.tiles[0].background.shape == (19, 29)
        (grid,) = evidence_of(features).crop_embeddings
        assert grid.shape == (EVIDENCE_SIDE, EVIDENCE_SIDE, DIM)
        assert_allclose(grid.float().norm(dim=2), 1, atol=2e-3)

    def test_what_lies_beyond_the_picture_is_no_evidence(self):
        columns = torch.eye(4).half().expand(4, 4, 4)
        logits = torch.tensor([-2.0, 4.0, 4.0, 9.0]).half().expand(4, 4)
        tile = FeatureTile(columns, logits, Window(0, 0, 64, 32), (4.0, 2.0))
        evidence = evidence_of(DinoiserFeatures((tile,), None, (64, 32), "core"))
        (grid,) = evidence.crop_embeddings
        # A photo of two columns, of which the last is read a quarter of a column beyond its middle.
        assert_allclose(grid[0, 3].float(), np.array([0, 3, 1, 0]) / 10**0.5, atol=1e-3)
        chance = cell_objectness(evidence).reshape(CELLS, CELLS)
        assert logit(chance[0, -1:].astype(np.float64)) == pytest.approx([4.0], abs=1e-3)

    def test_of_windows_it_covers_the_whole_picture(self, loaded):
        dinoiser = loaded.with_config(WINDOWED)
        ones, twos = torch.zeros(3, 3, 4), torch.zeros(3, 3, 4)
        ones[..., 0], twos[..., 1] = 1, 1
        tiles = [
            FeatureTile(grid.half(), torch.full((3, 3), b).half(), Window(0, left, 48, left + 48), (3.0, 3.0))
            for grid, b, left in ((ones, -2.0, 0), (twos, 4.0, 32))
        ]
        evidence = evidence_of(DinoiserFeatures(tuple(tiles), (48, 80), (96, 160), dinoiser.encoder_identity))
        (grid,) = evidence.crop_embeddings
        assert grid.shape == (EVIDENCE_SIDE, EVIDENCE_SIDE, 4)
        half = 0.5**0.5
        assert_allclose(grid[7, [0, 8, 15], :2].float(), [[1, 0], [half, half], [0, 1]], atol=1e-3)
        chance = cell_objectness(evidence).reshape(CELLS, CELLS)
        assert_allclose(logit(chance[9, [0, 16, 31]].astype(np.float64)), [-2, 1, 4], atol=0.01)


class TestOwnAnswer:
    @pytest.mark.parametrize("delta", [None, 0.0, 0.5, 0.99, 1.0])
    @pytest.mark.parametrize("ground", [(0,), (0, 2)], ids=["objects", "stuff"])
    def test_it_is_above_0_where_the_method_puts_an_object(self, delta, ground):
        made = torch.Generator().manual_seed(1)
        cosines = torch.randn(5, 4000, generator=made) * torch.linspace(0.001, 0.1, 4000)
        logits = torch.randn(4000, generator=made) * 5
        values = class_probabilities(cosines)
        if delta is not None:
            values = refine_background(values[:, None], logits[None], delta)[:, 0]
        expected = ~torch.isin(values.argmax(dim=0), torch.tensor(ground))
        assert 0.05 < expected.float().mean() < 0.95
        is_ground = torch.isin(torch.arange(5), torch.tensor(ground))
        objects, lowest = cosines[~is_ground].amax(dim=0), cosines[is_ground].amax(dim=0)
        is_sure = None if delta is None else class_probabilities(cosines).amax(dim=0) >= delta
        terms = foreground_terms(objects, lowest, is_sure, logits)
        assert_array_equal(terms.sum(dim=0) > 0, expected)
        assert float(terms.sum(dim=0).abs().max()) <= MOST_LOGIT + 1e-4
        assert_array_equal(terms[0], logits.clamp(-MOST_LOGIT, MOST_LOGIT))
        ours = OwnAnswer(delta)(cosines.T.numpy(), objects.numpy(), lowest.numpy(), logits.double().numpy())
        assert ours.dtype == np.float64
        assert_allclose(ours, terms.T, atol=1e-6)

    def test_it_is_refined_as_the_method_is(self, loaded):
        assert loaded.foreground_rule(VOCABULARY) == OwnAnswer(0.99)
        assert loaded.foreground_rule(WITH_STUFF) == OwnAnswer(None)
        plain = loaded.with_config(changed(CONFIG, background="plain", delta=0.5))
        assert plain.foreground_rule(VOCABULARY) == OwnAnswer(None)


NOTHING = {
    "whole": (CONFIG, VOCABULARY),
    "windows": (WINDOWED, VOCABULARY),
    "plain": (changed(CONFIG, background="plain"), VOCABULARY),
    "colours": (changed(CONFIG, pamr=Pamr(long_px=120)), VOCABULARY),
    "pruned": (changed(CONFIG, prune_logits=0.5), VOCABULARY),
    "others": (changed(CONFIG, others=OthersConfig(-100.0, None)), OTHERS),
    "stuff": (CONFIG, WITH_STUFF),
    "nothing but stuff": (CONFIG, ALL_STUFF),
}


@pytest.mark.parametrize(("config", "vocabulary"), NOTHING.values(), ids=NOTHING)
def test_a_fit_that_adds_nothing_is_the_words(loaded, config, vocabulary):
    dinoiser = loaded.with_config(config)
    (features,) = dinoiser.encode([SMALL])
    words = segmented(dinoiser, features, vocabulary)
    stuff = len(vocabulary.stuff)
    nothing = fit(vocabulary, names(len(vocabulary) - 1 - stuff), lying=names(stuff) if stuff else None)
    same = segmented(dinoiser, features, vocabulary, nothing)
    # Of words that are all alike, the rounding of float32 may put another first.
    assert (same.label_map == words.label_map).mean() > 0.998
    assert_allclose(same.score, words.score, atol=1e-3)


@pytest.mark.parametrize(("config", "vocabulary"), NOTHING.values(), ids=NOTHING)
def test_words_only_is_segment(loaded, config, vocabulary):
    dinoiser = loaded.with_config(config)
    (features,) = dinoiser.encode([SMALL])
    words, same = (segmented(dinoiser, features, vocabulary, learned) for learned in (None, fit(vocabulary)))
    assert_array_equal(same.label_map, words.label_map)
    assert_array_equal(same.score, words.score)


# What each patch of a drawn picture looks like; the head takes the upper half for foreground.
LOOKS = np.kron([[1, 2, 0, 3], [0, 2, 1, 1], [3, 0, 0, 2], [3, 3, 1, 0]], np.ones((2, 2), int))
HEAD = np.where(np.arange(8)[:, None] < 4, 3.0, -3.0) * np.ones((8, 8))


@pytest.fixture(scope="module")
def clear(loaded):
    """The method with words that are told apart, and yet have much in common."""
    dinoiser = loaded.with_config(CONFIG)
    dinoiser.clip = copy(loaded.clip)
    shared = torch.nn.functional.one_hot(torch.tensor(DIM - 1), DIM)
    dinoiser.clip.embed_vocabulary = lambda vocabulary: (
        0.9**0.5 * shared + 0.1**0.5 * torch.eye(len(vocabulary.prompts), DIM)
    )
    return dinoiser


@pytest.fixture(scope="module")
def plain(clear):
    return clear.with_config(changed(CONFIG, background="plain"))


def drawn(dinoiser, vocabulary, *, windows=False):
    """Features of a picture of which each patch looks like a word."""
    seen = dinoiser.clip.embed_vocabulary(vocabulary)[LOOKS].half()
    tile = FeatureTile(seen, torch.from_numpy(HEAD).half(), Window(0, 0, 128, 128), (8.0, 8.0))
    return DinoiserFeatures((tile,), (128, 128) if windows else None, (128, 128), dinoiser.encoder_identity)


def patches(dinoiser, features, vocabulary, learned=None, **options):
    """Segment, and return what is named at the middle of each patch."""
    return segmented(dinoiser, features, vocabulary, learned, **options).label_map[8::16, 8::16]


@pytest.mark.parametrize("windows", [False, True], ids=["whole", "windows"])
class TestApplied:
    def test_names_change_and_not_what_is_foreground(self, plain, windows):
        features = drawn(plain, VOCABULARY, windows=windows)
        assert_array_equal(patches(plain, features, VOCABULARY), LOOKS)
        learned = fit(VOCABULARY, names(3, bias=(0, 0, 1000)))
        assert_array_equal(patches(plain, features, VOCABULARY, learned), np.where(LOOKS > 0, 3, 0))
        scores = segmented(plain, features, VOCABULARY, learned).score
        assert scores[3] > 0.5
        assert scores[1] == scores[2] == 0

    def test_what_is_not_sure_off_the_heads_foreground_is_background_as_ever(self, clear, windows):
        features = drawn(clear, VOCABULARY, windows=windows)
        unsure = clear.with_config(changed(CONFIG, background="refined", delta=1.0))
        learned = fit(VOCABULARY, names(3, bias=(0, 0, 3)))
        expected = np.where((LOOKS > 0) & (HEAD > 0), LOOKS, 0)
        assert_array_equal(patches(unsure, features, VOCABULARY, learned) > 0, expected > 0)

    def test_a_label_that_the_fit_does_not_know_has_the_newcomers_bias(self, plain, windows):
        features = drawn(plain, VOCABULARY, windows=windows)
        learned = fit(VOCABULARY, names(2, newcomer=1000.0), known=(1, 2))
        assert_array_equal(patches(plain, features, VOCABULARY, learned), np.where(LOOKS > 0, 3, 0))

    def test_what_words_say_is_not_there_may_have_been_learned(self, plain, windows):
        pruned = plain.with_config(changed(plain.config, prune_logits=5.0))
        vocabulary = make_vocabulary(["cat", "dog", "sofa", "tree"])
        features = drawn(plain, vocabulary, windows=windows)
        learned = fit(vocabulary, names(4, bias=(0, 0, 0, 1000)))
        assert_array_equal(patches(pruned, features, vocabulary, learned), np.where(LOOKS > 0, 4, 0))

    def test_stuff_changes_names_on_the_backgrounds_side_alone(self, plain, windows):
        features = drawn(plain, WITH_STUFF, windows=windows)
        learned = fit(WITH_STUFF, names(2, bias=(1000, 0)), lying=names(2, bias=(0, 1000)))
        assert_array_equal(patches(plain, features, WITH_STUFF, learned), np.where(np.isin(LOOKS, (1, 3)), 1, 4))

    def test_learned_objectness_takes_the_place_of_the_backgrounds_word_and_of_the_head(self, clear, windows):
        for dinoiser in (clear, clear.with_config(changed(CONFIG, background="plain"))):
            features = drawn(clear, VOCABULARY, windows=windows)
            every = fit(VOCABULARY, objectness=rule(constant=50))
            named = patches(dinoiser, features, VOCABULARY, every)
            assert named.min() >= 1
            assert_array_equal(named[LOOKS > 0], LOOKS[LOOKS > 0])
            for weights in (rule(constant=-50), rule(shift=50)):
                learned = fit(VOCABULARY, objectness=weights)
                assert patches(dinoiser, features, VOCABULARY, learned).max() == 0

    def test_it_can_be_the_head_alone(self, clear, windows):
        features = drawn(clear, VOCABULARY, windows=windows)
        head = patches(clear, features, VOCABULARY, fit(VOCABULARY, objectness=rule(rest=-1.0)))
        assert_array_equal(head > 0, HEAD > 0)

    def test_where_a_class_without_examples_is_named_the_words_stay(self, plain, windows):
        features = drawn(plain, VOCABULARY, windows=windows)
        answer = patches(plain, features, VOCABULARY, fit(VOCABULARY, objectness=rule(constant=-50), known=(1,)))
        assert_array_equal(answer, np.where(LOOKS == 1, 0, LOOKS))

    def test_the_embedding_takes_part(self, plain, windows):
        features = drawn(plain, VOCABULARY, windows=windows)
        direction = np.zeros(DIM)
        direction[:4] = -10, -10, -10, 10
        weights = ObjectnessWeights(np.concatenate([[-1, -1, 0], direction]), 0.0)
        answer = patches(plain, features, VOCABULARY, fit(VOCABULARY, objectness=weights))
        assert_array_equal(answer, np.where(LOOKS == 3, 3, 0))


def test_where_nothing_is_an_object_no_rule_is_asked(plain):
    features = drawn(plain, WITH_STUFF)
    learned = fit(ALL_STUFF, objectness=rule(constant=50))
    words, same = (segmented(plain, features, ALL_STUFF, one).label_map for one in (None, learned))
    assert_array_equal(same, words)


def test_where_every_pixel_has_a_label_the_words_decide(clear):
    features = drawn(clear, VOCABULARY)
    learned = fit(VOCABULARY, names(3, bias=(0, 0, 1000)), rule(constant=-50))
    words, same = (segmented(clear, features, VOCABULARY, one, background=False).label_map for one in (None, learned))
    assert_array_equal(same, words)
    none = clear.with_config(changed(CONFIG, background="none"))
    assert_array_equal(segmented(none, features, VOCABULARY, learned).label_map, words)


def test_what_does_not_belong_together_is_refused(clear):
    features = drawn(clear, VOCABULARY)
    learned = fit(VOCABULARY, names(3))
    with pytest.raises(FeaturesError, match="encode the image again"):
        segmented(clear, replace(features, made_by="another"), VOCABULARY, learned)
    naming = learned.naming
    longer = replace(naming, residual=np.zeros((3, 8), np.float32), center=np.zeros(8, np.float32))
    with pytest.raises(LearningError, match="another CLIP"):
        segmented(clear, features, VOCABULARY, fit(VOCABULARY, longer))


def _picture(dinoiser, number):
    """Cats look like what the words take for dogs and the other way round; a third thing is left empty."""
    rng = np.random.default_rng(number)
    texts = dinoiser.clip.embed_vocabulary(VOCABULARY).numpy()
    labels = np.zeros((8, 8), int)
    for looks_like, (rows, cols) in enumerate(((0, 0), (0, 4), (4, 0)), 1):
        labels[rows : rows + 4, cols : cols + 4] = looks_like
    labels = np.roll(labels, rng.integers(0, 8, 2), axis=(0, 1))
    seen = texts[[0, 1, 2, 1]][labels] + 0.02 * rng.standard_normal((8, 8, DIM))
    seen /= np.linalg.norm(seen, axis=2, keepdims=True)
    logits = np.array([-3.0, 3.0, 3.0, 1.0])[labels]
    tile = FeatureTile(
        torch.from_numpy(seen).half(), torch.from_numpy(logits).half(), Window(0, 0, 128, 128), (8.0, 8.0)
    )
    truth = np.kron(np.array([0, 2, 1, 0])[labels], np.ones((16, 16), int))
    return DinoiserFeatures((tile,), None, (128, 128), dinoiser.encoder_identity), truth


def _corrected(dinoiser, count):
    entry = method_named("clip-dinoiser")
    pictures = []
    for number in range(count):
        features, truth = _picture(dinoiser, number)
        pictures.append(CorrectedPicture(f"picture {number}", entry.evidence(features), class_shares(truth)))
    return pictures


@pytest.fixture(scope="module")
def taught(clear):
    return method_named("clip-dinoiser").learn(clear, _corrected(clear, 12), VOCABULARY)


class TestLearn:
    def test_names_and_objects_become_right(self, clear, taught):
        features, truth = _picture(clear, 1000)
        words = (segmented(clear, features, VOCABULARY).label_map == truth).mean()
        right = (segmented(clear, features, VOCABULARY, taught).label_map == truth).mean()
        assert words < 0.6
        assert right > 0.9
        assert taught.naming is not None
        assert taught.objectness is not None
        assert (taught.encoder, taught.logit_scale) == (clear.encoder_identity, clear.clip.logit_scale)

    def test_it_survives_its_bytes_and_does_not_depend_on_the_order(self, clear, taught):
        again = method_named("clip-dinoiser").learn(clear, _corrected(clear, 12)[::-1], VOCABULARY)
        assert Learned.from_bytes(taught.to_bytes()).to_bytes() == again.to_bytes()

    def test_objectness_starts_from_the_methods_own_answer(self, clear):
        """Pictures that the method sees rightly, but for names, teach no other line between object and none."""
        pictures = _corrected(clear, 6)
        sees_all = [replace(p, shares=class_shares(np.kron(self.looks(p), np.ones((4, 4), int)))) for p in pictures]
        learned = method_named("clip-dinoiser").learn(clear, sees_all, VOCABULARY)
        assert learned.objectness is None

    @staticmethod
    def looks(picture):
        chance = cell_objectness(picture.features).reshape(CELLS, CELLS)
        return (chance > 0.5).astype(int)

    def test_evidence_of_the_other_method_is_refused(self, clear):
        picture = _corrected(clear, 1)[0]
        other = replace(picture, features=replace(picture.features, made_by="crops"))
        with pytest.raises(LearningError, match="made by core crops"):
            method_named("clip-dinoiser").learn(clear, [other], VOCABULARY)
