"""Applying a fit: the words' own answer where nothing was learned; weights go to labels, not to positions."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from tiny import TINY, VOCABULARY, photo, random_grids

from clipdiy.aggregate import mean_similarity
from clipdiy.build import build_segmenter
from clipdiy.config import AS_CONFIGURED, ObjectnessConfig, Pamr, SegmentOptions
from clipdiy.guide import guided_square
from clipdiy.label_maps import full_label_map
from clipdiy.learning.apply import AdaptedMaps, Rule, _guided, adapted_label_map, adapted_maps, adapted_scores
from clipdiy.learning.errors import LearningError
from clipdiy.learning.learned import Learned, label_keys
from clipdiy.learning.naming import NamingWeights
from clipdiy.learning.objectness import LEAST_CHANCE, ObjectnessWeights
from clipdiy.objectness.found import ObjectnessMap
from clipdiy.scores import class_scores
from clipdiy.vocabulary import Label, make_vocabulary

DIM = 8


@pytest.fixture(scope="module")
def segmenter():
    return build_segmenter(TINY, warm_up=False)


def naming(labels, dim, *, seed=None, bias=(), newcomer=0.0):
    rng = np.random.default_rng(seed)
    residual = np.zeros((labels, dim)) if seed is None else rng.standard_normal((labels, dim))
    added = np.zeros(labels) if len(bias) == 0 else np.array(bias)
    center = rng.standard_normal(dim)
    return NamingWeights(
        np.arange(labels), *(part.astype(np.float32) for part in (residual, added, center)), newcomer=newcomer
    )


def fit(vocabulary, weights=None, objectness=None, encoder="core", lying=None):
    every = label_keys(vocabulary)
    stuff = [every[position - 1] for position in vocabulary.stuff]
    keys = (*(key for key in every if key not in stuff), *stuff)
    return Learned(encoder, 10.0, keys, (1,) * len(keys), 3, weights, objectness, 10.0, len(stuff), lying)


def objectness_map(seed=0, side=6):
    grid = torch.rand(side, side, generator=torch.Generator().manual_seed(seed)) * 6 - 3
    return ObjectnessMap(grid, True, (float(side), float(side)))


WITH_STUFF = make_vocabulary(["cat", "sky", "sofa", "grass"], stuff=["sky", "grass"])
MOSTLY_STUFF = make_vocabulary(["cat", "sky", "grass"], stuff=["sky", "grass"])
ALL_STUFF = make_vocabulary(["cat", "sky"], stuff=["cat", "sky"])


def with_others(vocabulary):
    return vocabulary.with_others([Label(name, (f"a photo of a {name}",)) for name in ("tree", "car", "road")])


@pytest.mark.parametrize(
    ("changes", "vocabulary"),
    [
        pytest.param({}, VOCABULARY, id="full"),
        pytest.param({"label_map": "square"}, VOCABULARY, id="square"),
        pytest.param({"pamr": Pamr(long_px=64, iterations=2)}, VOCABULARY, id="refined"),
        pytest.param({"objectness": ObjectnessConfig(method="none")}, VOCABULARY, id="no objectness"),
        pytest.param({"prune_logits": 0.05}, VOCABULARY, id="pruned"),
        pytest.param({}, with_others(VOCABULARY), id="others"),
        pytest.param({}, WITH_STUFF, id="stuff"),
        pytest.param({"label_map": "square"}, WITH_STUFF, id="stuff, square"),
        pytest.param({"pamr": Pamr(long_px=64, iterations=2)}, WITH_STUFF, id="stuff, refined"),
        pytest.param({"objectness": ObjectnessConfig(method="none")}, WITH_STUFF, id="stuff, no objectness"),
        pytest.param({"prune_logits": 0.05}, with_others(WITH_STUFF), id="stuff, pruned, others"),
        pytest.param({}, MOSTLY_STUFF, id="one object among stuff"),
        pytest.param({}, ALL_STUFF, id="nothing but stuff"),
        pytest.param({"pamr": Pamr(long_px=64, iterations=2)}, ALL_STUFF, id="nothing but stuff, refined"),
        pytest.param(
            {"objectness": ObjectnessConfig(method="none")}, ALL_STUFF, id="nothing but stuff, nor objectness"
        ),
    ],
)
def test_a_fit_that_adds_nothing_is_the_words_in_every_pixel(segmenter, changes, vocabulary):
    model = segmenter.with_config(replace(TINY, **changes))
    dim = int(model.clip.embed_vocabulary(VOCABULARY).shape[1])
    stuff = len(vocabulary.stuff)
    names = naming(len(vocabulary) - 1 - stuff, dim)
    nothing = SegmentOptions(learned=fit(vocabulary, names, lying=naming(stuff, dim) if stuff else None))
    for seed, size_hw in enumerate([(97, 131), (1, 300), (260, 200)]):
        (features,) = model.encode([photo(seed, *size_hw)])
        words, same = (model.segment(features, vocabulary, options) for options in (AS_CONFIGURED, nothing))
        assert_array_equal(same.label_map, words.label_map)
        assert_allclose(same.score, words.score, atol=1e-4)
        assert same.image_score == pytest.approx(words.image_score, abs=1e-4)


def test_words_only_is_segment(segmenter):
    (features,) = segmenter.encode([photo(0, 90, 120)])
    words = segmenter.segment(features, VOCABULARY)
    same = segmenter.segment(features, VOCABULARY, SegmentOptions(learned=fit(VOCABULARY)))
    assert_array_equal(same.label_map, words.label_map)
    assert_array_equal(same.score, words.score)


def test_learned_names_change_names_and_not_what_is_foreground(segmenter):
    dim = int(segmenter.clip.embed_vocabulary(VOCABULARY).shape[1])
    (features,) = segmenter.encode([photo(0, 90, 120)])
    words = segmenter.segment(features, VOCABULARY)
    learned = fit(VOCABULARY, naming(3, dim, bias=(0, 0, 1000)))
    answer = segmenter.segment(features, VOCABULARY, SegmentOptions(learned=learned))
    assert 0 < (words.label_map > 0).mean() < 1
    assert_array_equal(answer.label_map, np.where(words.label_map > 0, 3, 0))


def test_learned_stuff_changes_names_on_the_backgrounds_side_alone(segmenter):
    dim = int(segmenter.clip.embed_vocabulary(WITH_STUFF).shape[1])
    (features,) = segmenter.encode([photo(0, 90, 120)])
    words = segmenter.segment(features, WITH_STUFF).label_map
    is_object = np.isin(words, (1, 3))
    assert 0 < is_object.mean() < 1
    grass = fit(WITH_STUFF, lying=naming(2, dim, bias=(0, 1000)))
    answer = segmenter.segment(features, WITH_STUFF, SegmentOptions(learned=grass))
    assert_array_equal(answer.label_map, np.where(is_object, words, 4))
    assert answer.score[4] > 0
    sofa = fit(WITH_STUFF, naming(2, dim, bias=(0, 1000)), lying=naming(2, dim, bias=(1000, 0)))
    answer = segmenter.segment(features, WITH_STUFF, SegmentOptions(learned=sofa))
    assert_array_equal(answer.label_map, np.where(is_object, 3, 2))


def test_a_gesture_may_look_at_fewer_scales(segmenter):
    dim = int(segmenter.clip.embed_vocabulary(VOCABULARY).shape[1])
    (features,) = segmenter.encode([photo(0, 90, 120)])
    words = segmenter.segment(features, VOCABULARY, SegmentOptions(scales=(128,)))
    options = SegmentOptions(scales=(128,), learned=fit(VOCABULARY, naming(3, dim)))
    assert_array_equal(segmenter.segment(features, VOCABULARY, options).label_map, words.label_map)


def crops(seed=0):
    random = torch.Generator().manual_seed(seed)
    return [torch.nn.functional.normalize(torch.rand(s, s, DIM, generator=random), dim=-1) for s in (1, 3, 7)]


def texts(count, seed=1):
    rows = torch.rand(count, DIM, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(rows, dim=-1)


def test_naming_is_the_pages_formula():
    vocabulary = make_vocabulary(["a", "b", "c"])
    learned = fit(vocabulary, naming(3, DIM, seed=2, bias=(1, 2, 3)))
    maps = adapted_maps(learned, vocabulary, texts(4), crops(), None)
    weights = learned.naming
    for grid, scale in zip(maps.naming, crops(), strict=True):
        x = scale.numpy().reshape(-1, DIM)
        expected = weights_logits(weights, x, texts(4).numpy()) / 10
        assert_allclose(grid.flatten(1).T.numpy(), expected, atol=1e-5)
    for grid, scale in zip(maps.words, crops(), strict=True):
        assert_allclose(grid.flatten(1).T, scale.flatten(0, 1) @ texts(4).T, atol=1e-6)


def test_each_side_has_weights_of_its_own():
    learned = fit(WITH_STUFF, naming(2, DIM, seed=2, bias=(1, 2)), lying=naming(2, DIM, seed=3, bias=(3, 4)))
    words = texts(5)
    maps = adapted_maps(learned, WITH_STUFF, words, crops(), None)
    for grid, scale in zip(maps.naming, crops(), strict=True):
        x = scale.numpy().reshape(-1, DIM)
        for weights, positions in ((learned.naming, [0, 1, 3]), (learned.lying, [0, 2, 4])):
            expected = weights_logits(weights, x, words[positions].numpy()) / 10
            assert_allclose(grid[positions].flatten(1).T.numpy(), expected, atol=1e-5)
    assert maps.has_examples.tolist() == [False, True, True, True, True]


@pytest.mark.parametrize("other", ["sky", "cat"])
def test_a_label_that_has_become_stuff_or_an_object_starts_from_its_words(other):
    after = make_vocabulary(["cat", "sky", "sofa", "grass"], stuff={"sky", "grass"} ^ {other})
    learned = fit(WITH_STUFF, naming(2, DIM, seed=2, newcomer=0.5), lying=naming(2, DIM, seed=3, newcomer=0.7))
    maps = adapted_maps(learned, after, texts(5), crops(), None)
    place = after.names.index(other)
    assert maps.has_examples.tolist() == [False, *(name != other for name in after.names[1:])]
    for words, names in zip(maps.words, maps.naming, strict=True):
        assert_allclose(names[place], words[place] + (0.05 if other == "sky" else 0.07), atol=1e-6)


def weights_logits(weights, x, words):
    return replace(weights, positions=weights.positions + 1).logits(x, words, 10.0)


def test_weights_belong_to_labels_not_to_positions():
    before, after = make_vocabulary(["a", "b", "c"]), make_vocabulary(["new", "c", "a"])
    learned = fit(before, naming(3, DIM, seed=2, bias=(1, 2, 3), newcomer=0.7))
    words = texts(4)  # background, a, b, c
    moved = torch.stack([words[0], texts(1, seed=9)[0], words[3], words[1]])
    old = adapted_maps(learned, before, words, crops(), None)
    new = adapted_maps(learned, after, moved, crops(), None)
    for o, n, w in zip(old.naming, new.naming, new.words, strict=True):
        assert_allclose(n[2:], o[[3, 1]], atol=1e-6)
        assert_allclose(n[0], w[0], atol=1e-6)
        assert_allclose(n[1], w[1] + 0.07, atol=1e-6)  # its words and the newcomers' bias
    assert new.has_examples.tolist() == [False, False, True, True]


def test_other_prompts_start_from_their_words_and_the_rest_stays():
    before = make_vocabulary(["a", "b"])
    after = make_vocabulary([("a", ["another word"]), "b"])
    maps = adapted_maps(fit(before, naming(2, DIM, seed=2)), after, texts(3), crops(), None)
    assert maps.has_examples.tolist() == [False, False, True]
    # Renamed, but asked for in the same words: still the same.
    renamed = make_vocabulary([("new name", ["a"]), "b"])
    assert adapted_maps(fit(before), renamed, texts(3), crops(), None).has_examples.tolist() == [False, True, True]


def test_others_have_their_words_alone():
    vocabulary = make_vocabulary(["a"])
    maps = adapted_maps(fit(vocabulary, naming(1, DIM, newcomer=5.0)), vocabulary, texts(3), crops(), None)
    for words, named in zip(maps.words, maps.naming, strict=True):
        assert_allclose(named, words, atol=1e-6)


def read_whole(maps, size_hw):
    return mean_similarity(maps, size_hw)


@pytest.mark.parametrize("size_hw", [(1, 1), (97, 131), (300, 40)], ids=str)
def test_blocks_leave_nothing_out(size_hw):
    words, names = random_grids(0, 9), random_grids(1, 9)
    maps = AdaptedMaps(words, names, objectness_map(), None, torch.ones(9, dtype=torch.bool))
    foreground = full_label_map(words, objectness_map(), size_hw) > 0
    expected = torch.where(foreground, read_whole(names, size_hw)[1:].argmax(dim=0) + 1, 0)
    assert_array_equal(adapted_label_map(maps, size_hw), expected)


def rule(constant=0.0, on_objectness=1.0, on_margin=1.0, grids=None):
    return Rule(on_objectness, on_margin, constant, grids)


def positive(seed, classes):
    return tuple(grid + 0.05 for grid in random_grids(seed, classes))


def test_a_rule_that_adds_nothing_is_the_papers():
    words = positive(0, 5)
    everything = torch.ones(5, dtype=torch.bool)
    for objectness in (objectness_map(), None):
        maps = AdaptedMaps(words, words, objectness, rule(), everything)
        assert_array_equal(adapted_label_map(maps, (60, 70)), full_label_map(words, objectness, (60, 70)))


def test_the_rule_is_the_pages_formula():
    words, extra = positive(0, 5), tuple(grid * 4 - 1 for grid in random_grids(7, 1))
    maps = AdaptedMaps(words, words, objectness_map(), rule(0.3, 1.5, 0.5, extra), torch.ones(5, dtype=torch.bool))
    similarity = mean_similarity(words, (40, 50))
    logits = torch.nn.functional.interpolate(objectness_map().grid[None, None], (40, 50), mode="bilinear")[0, 0]
    margin = (similarity[1:].amax(dim=0) / similarity[0]).log()
    z = 1.5 * logits + 0.5 * margin + 0.3 + mean_similarity(extra, (40, 50))[0]
    told = adapted_label_map(maps, (40, 50)) > 0
    assert 0 < told.sum() < told.numel()
    assert_array_equal(told, z > 0)


@pytest.mark.parametrize("logit", [200.0, -200.0])
def test_objectness_that_is_sure_leaves_the_rule_a_number(logit):
    """A chance of exactly 0 or 1, of which the rule takes no notice, or so little that the words decide."""
    words = positive(0, 5)
    sure = replace(objectness_map(), grid=torch.full((6, 6), logit))
    similarity = mean_similarity(words, (40, 50))
    margin = (similarity[1:].amax(dim=0) / similarity[0]).log()
    for on_objectness, shift in (
        (0.0, 0.0),
        (1e-3, 1e-3 * np.copysign(np.log((1 - LEAST_CHANCE) / LEAST_CHANCE), logit)),
    ):
        maps = AdaptedMaps(words, words, sure, rule(on_objectness=on_objectness), torch.ones(5, dtype=torch.bool))
        told = adapted_label_map(maps, (40, 50)) > 0
        assert 0 < told.sum() < told.numel()
        assert_array_equal(told, margin + shift > 0)


def test_the_rule_is_made_of_theta_and_shift():
    vocabulary = make_vocabulary(["a", "b"])
    theta = np.array([0.5, -0.25, 1.0, *np.linspace(-1, 1, DIM)])
    learned = fit(vocabulary, objectness=ObjectnessWeights(theta, -0.5))
    made = adapted_maps(learned, vocabulary, texts(3), crops(), None).rule
    assert (made.on_objectness, made.on_margin, made.constant) == (1.5, 0.75, 1.5)
    for grid, scale in zip(made.grids, crops(), strict=True):
        assert_allclose(grid[0], scale @ (3 * torch.linspace(-1, 1, DIM)), atol=1e-5)
    short = fit(vocabulary, objectness=ObjectnessWeights(theta[:3], 0.0))
    assert adapted_maps(short, vocabulary, texts(3), crops(), None).rule.grids is None


def test_where_a_class_without_examples_is_named_the_papers_rule_stays():
    words = positive(0, 4)
    has_examples = torch.tensor([False, True, False, True])
    maps = AdaptedMaps(words, words, objectness_map(), rule(constant=-1000.0), has_examples)
    by_words = full_label_map(words, objectness_map(), (60, 70))
    assert (by_words == 2).any()
    assert_array_equal(adapted_label_map(maps, (60, 70)), torch.where(by_words == 2, by_words, 0))


@pytest.mark.parametrize("size_hw", [(1, 1), (97, 131), (300, 40)], ids=str)
def test_blocks_leave_nothing_out_on_either_side(size_hw):
    words, names = random_grids(0, 9), random_grids(1, 9)
    maps = AdaptedMaps(words, names, objectness_map(), None, torch.ones(9, dtype=torch.bool), ground=4)
    foreground = full_label_map(words, objectness_map(), size_hw, 4) >= 4
    whole = read_whole(names, size_hw)
    expected = torch.where(foreground, whole[4:].argmax(dim=0) + 4, whole[:4].argmax(dim=0))
    assert_array_equal(adapted_label_map(maps, size_hw), expected)


def test_the_rules_margin_is_to_the_backgrounds_side():
    words = positive(0, 6)
    everything = torch.ones(6, dtype=torch.bool)
    maps = AdaptedMaps(words, words, objectness_map(), rule(), everything, ground=3)
    assert_array_equal(adapted_label_map(maps, (60, 70)), full_label_map(words, objectness_map(), (60, 70), 3))


@pytest.mark.parametrize("ground", [1, 3, 5], ids=["no stuff", "stuff", "nothing else"])
@pytest.mark.parametrize("objectness", [objectness_map(), None], ids=["objectness", "none"])
@pytest.mark.parametrize("corrected", [None, rule(0.3, 1.5, 0.5)], ids=["paper's rule", "corrected"])
def test_what_is_refined_agrees_with_the_label_map(objectness, corrected, ground):
    has_examples = torch.tensor([False] + [True] * 4)
    maps = AdaptedMaps(positive(0, 5), positive(1, 5), objectness, corrected, has_examples, ground)
    assert_array_equal(_guided(maps, (50, 50)).argmax(dim=0), adapted_label_map(maps, (50, 50)))


@pytest.mark.parametrize("objectness", [objectness_map(), None], ids=["objectness", "none"])
def test_what_is_refined_is_eq_3_where_nothing_was_learned(objectness):
    words = positive(0, 5)
    maps = AdaptedMaps(words, words, objectness, None, torch.ones(5, dtype=torch.bool))
    assert_allclose(_guided(maps, (50, 50)), guided_square(words, objectness, 50), atol=1e-6)
    by_rule = replace(maps, rule=rule())
    assert_allclose(_guided(by_rule, (50, 50)), guided_square(words, objectness, 50), atol=1e-4)
    assert_allclose(adapted_scores(maps, 20.0, 5), class_scores(words, objectness, 20.0), atol=1e-5)
    assert_allclose(adapted_scores(maps, 20.0, 3), class_scores(words, objectness, 20.0, 3), atol=1e-5)
    stuff = replace(maps, ground=3)
    assert_allclose(adapted_scores(stuff, 20.0, 4), class_scores(words, objectness, 20.0, 4, ground=3), atol=1e-5)
    assert_allclose(_guided(stuff, (50, 50)).argmax(dim=0), guided_square(words, objectness, 50, 3).argmax(dim=0))


def test_scores_follow_the_learned_names():
    words = positive(0, 3)
    sure = tuple(torch.cat([grid[:2], grid[2:] + 10]) for grid in words)
    maps = AdaptedMaps(words, sure, objectness_map(), None, torch.ones(3, dtype=torch.bool))
    scores = adapted_scores(maps, 20.0, 3)
    assert scores[1] == 0
    assert scores[2] > class_scores(words, objectness_map(), 20.0)[2]


@pytest.mark.parametrize(
    "weights",
    [
        pytest.param({"weights": naming(2, DIM + 1)}, id="naming"),
        pytest.param({"objectness": ObjectnessWeights(np.zeros(3 + DIM + 1), 0.0)}, id="objectness"),
        pytest.param({"lying": naming(2, DIM + 1)}, id="stuff"),
    ],
)
def test_a_fit_for_another_clip_is_refused(weights):
    vocabulary = make_vocabulary(["a", "b"], stuff=["a", "b"] if "lying" in weights else [])
    with pytest.raises(LearningError, match="another CLIP"):
        adapted_maps(fit(vocabulary, **weights), vocabulary, texts(3), crops(), None)
