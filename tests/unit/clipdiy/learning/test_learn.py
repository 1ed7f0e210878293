"""Learning as a whole: better where it can be, silent where not; same pictures, same bytes; nothing left behind."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from clipdiy.errors import ShapeError
from clipdiy.features import ImageFeatures
from clipdiy.learning import learn as room
from clipdiy.learning.errors import LearningError
from clipdiy.learning.evidence import (
    CELLS,
    ClassShares,
    CorrectedPicture,
    cell_embeddings,
    cell_objectness,
    class_shares,
)
from clipdiy.learning.guards import deal_folds
from clipdiy.learning.learn import _learn_objectness, _scores, as_it_is_named, learn
from clipdiy.learning.learned import MAGIC, Learned, label_keys
from clipdiy.learning.naming import NamingWeights, fit_naming
from clipdiy.learning.objectness import ObjectnessEvidence, ObjectnessWeights, fit_objectness, objectness_evidence
from clipdiy.objectness.found import ObjectnessMap
from clipdiy.vocabulary import Label, make_vocabulary

DIM = 16
CLASSES = 4
VOCABULARY = make_vocabulary([f"class {i}" for i in range(1, CLASSES + 1)])


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def directions(words_off):
    rng = np.random.default_rng(0)
    centers = unit(np.abs(rng.standard_normal((CLASSES + 2, DIM))))
    texts = unit(centers[: CLASSES + 1] + words_off * unit(rng.standard_normal((CLASSES + 1, DIM))))
    return centers, texts


def corrected(number, words_off, *, background_objects=False):
    """A picture with two squares of one class each; crops near the centres of what they show."""
    rng = np.random.default_rng([7, number])
    centers, _ = directions(words_off)
    labels = np.zeros((7, 7), np.int64)
    first, second = rng.choice(np.arange(1, CLASSES + 1), 2, replace=False)
    labels[:3, :3], labels[4:, 4:] = first, second
    seen = labels.copy()
    if background_objects:
        seen[:3, 4:] = CLASSES + 1  # looks like an object, and the user leaves it to the background
    scales = []
    for side in (1, 3, 7):
        center = centers[seen[:: 7 // side, :: 7 // side][:side, :side]]
        scale = unit(center + 0.4 * unit(rng.standard_normal(center.shape)))
        scales.append(torch.from_numpy(scale).half())
    grid = torch.from_numpy(np.kron(seen > 0, np.ones((4, 4))) * 6 - 3).half()
    features = ImageFeatures(tuple(scales), ObjectnessMap(grid, True, (28.0, 28.0)), (224, 224), "core")
    return CorrectedPicture(f"picture {number}", features, class_shares(np.kron(labels, np.ones((32, 32), int))))


def learned(pictures, words_off=3.0, vocabulary=VOCABULARY):
    return learn(pictures, vocabulary, directions(words_off)[1], logit_scale=20.0, encoder="core")


@pytest.fixture(scope="module")
def twelve():
    return [corrected(number, 3.0) for number in range(12)]


@pytest.fixture(scope="module")
def fit_of_twelve(twelve):
    return learned(twelve)


def test_nothing_from_nothing():
    fit = learned([])
    assert fit.is_words_only
    assert fit.identity == "words"
    assert fit.pictures == 0
    assert fit.examples_of(VOCABULARY) == (0,) * 5


def test_one_picture_has_nothing_to_hold_out(twelve):
    fit = learned(twelve[:1])
    assert fit.naming is None
    assert sum(fit.examples_of(VOCABULARY)) == 2


def test_bad_words_are_learned(fit_of_twelve):
    fit = fit_of_twelve
    assert fit.naming is not None
    assert fit.prior >= 3
    assert fit.pictures == 12
    assert sum(fit.examples_of(VOCABULARY)) == 24
    assert len(fit.labels) == CLASSES


def test_few_pictures_stay_near_the_words(twelve, monkeypatch):
    tried = []
    monkeypatch.setattr(
        "clipdiy.learning.learn.fit_naming", lambda *args: tried.append(min(args[3])) or fit_naming(*args)
    )
    assert learned(twelve[:4]).naming is not None
    assert min(tried) == 30


def test_a_label_without_examples_is_lifted():
    pictures = [corrected(number, 3.0) for number in range(40)]
    without_4 = [picture for picture in pictures if 4 not in picture.shares.positions]
    fit = learned(without_4)
    assert len(without_4) >= 12
    assert fit.examples_of(VOCABULARY)[4] == 0
    assert fit.naming is not None
    assert fit.naming.newcomer > 0
    assert len(fit.naming.bias) == 3


def test_the_papers_rule_stays_where_a_class_without_examples_is_named():
    picture = corrected(0, 0.1)
    texts = directions(0.1)[1]
    evidence = objectness_evidence(
        "a", cell_embeddings(picture.features), cell_objectness(picture.features), picture.shares, texts
    )
    with_examples = evidence.named == int(evidence.named[0])
    assert 0 < with_examples.sum() < len(with_examples)
    nothing_is_foreground = ObjectnessWeights(np.array([0.0, 0.0, -1000.0]), 0.0)
    scores = _scores(nothing_is_foreground, evidence, frozenset([int(evidence.named[0])]))
    assert (scores[with_examples] < -900).all()
    np.testing.assert_allclose(scores[~with_examples], evidence.rule.sum(axis=1)[~with_examples])


def test_good_words_are_kept():
    fit = learned([corrected(number, 0.1) for number in range(12)], words_off=0.1)
    assert fit.naming is None
    assert fit.prior == float("inf")


def test_objects_that_are_background_to_the_user_are_learned():
    with_objects = [corrected(number, 0.1, background_objects=True) for number in range(12)]
    fit = learned(with_objects, words_off=0.1)
    assert fit.objectness is not None
    assert len(fit.objectness.theta) == 3 + DIM
    assert learned([corrected(number, 0.1) for number in range(12)], words_off=0.1).objectness is None


def unsure(number, share, likely, rule=0.0):
    """A picture in which a share of the cells looks one way and the rest another, and only so many are objects.

    Args:
        share: Of the cells that look the first way.
        likely: How many of those are objects, and how many of the others.
        rule: What the words say everywhere.
    """
    count = CELLS * CELLS
    first = round(count * share)
    target = np.zeros(count)
    for (begin, end), part in zip(((0, first), (first, count)), likely, strict=True):
        target[begin : begin + round((end - begin) * part)] = 1
    looks = np.where(np.arange(count) < first, 1.0, -1.0)
    picture = corrected(number, 0.1)
    return ObjectnessEvidence(
        f"picture {number}",
        np.stack([looks, rule - looks], axis=1),
        np.ones(count, np.int64),
        cell_embeddings(picture.features),
        target,
        np.ones(count),
    )


def learn_line(count, *looks):
    evidence = [unsure(number, *looks) for number in range(count)]
    return _learn_objectness(evidence, evidence, [frozenset([1])] * count, deal_folds(count))


def test_from_five_pictures_on_the_line_may_lie_lower():
    # An object is less likely than not (log odds -0.85), and still IoU is larger if everything is taken for one.
    assert learn_line(4, 1, (0.3, 0)) is None
    assert learn_line(5, 1, (0.3, 0)).shift == -1


def test_the_line_stays_where_it_is_where_that_is_best():
    # Of the rest two fifths are objects (log odds -0.4): too few, and half a step down would take all of it.
    assert learn_line(5, 2 / 3, (0.95, 0.4), -3.0).shift == 0


def test_of_lines_that_are_as_good_the_lowest_is_taken():
    assert learn_line(5, 0.5, (1, 0), -3.0).shift == -1


def test_a_fold_is_judged_by_what_all_others_told(monkeypatch):
    told = []

    def fit(evidence, **form):
        told.append([picture.identity[-1] for picture in evidence])
        return fit_objectness(evidence, **form)

    monkeypatch.setattr("clipdiy.learning.learn.fit_objectness", fit)
    evidence = [unsure(number, 1, (0.3, 0)) for number in range(5)]
    _learn_objectness(evidence, evidence, [frozenset([1])] * 5, np.array([1, 0, 2, 0, 1]))
    assert told[:3] == [["0", "2", "4"], ["1", "2", "3"], ["0", "1", "3", "4"]]


def test_how_things_look_counts_from_ten_pictures_on():
    pictures = [corrected(number, 0.1, background_objects=True) for number in range(10)]
    assert len(learned(pictures, words_off=0.1).objectness.theta) == 3 + DIM
    without = learned(pictures[:9], words_off=0.1).objectness
    assert without is None or len(without.theta) == 3


# --- stuff: class 4 lies where no object is -------------------------------------------------------------------------

WITH_STUFF = make_vocabulary([f"class {i}" for i in range(1, CLASSES + 1)], stuff=["class 4"])


def on_ground(number, words_off, *, seen_as_object=False):
    """A picture with one object above, and stuff that fills the lower half."""
    rng = np.random.default_rng([8, number])
    centers, _ = directions(words_off)
    labels = np.zeros((7, 7), np.int64)
    labels[:3, :3] = rng.integers(1, CLASSES)
    labels[4:] = 4
    scales = []
    for side in (1, 3, 7):
        center = centers[labels[:: 7 // side, :: 7 // side][:side, :side]]
        scales.append(torch.from_numpy(unit(center + 0.4 * unit(rng.standard_normal(center.shape)))).half())
    foreground = labels > 0 if seen_as_object else (labels > 0) & (labels < 4)
    grid = torch.from_numpy(np.kron(foreground, np.ones((4, 4))) * 6 - 3).half()
    features = ImageFeatures(tuple(scales), ObjectnessMap(grid, True, (28.0, 28.0)), (224, 224), "core")
    return CorrectedPicture(f"ground {number}", features, class_shares(np.kron(labels, np.ones((32, 32), int))))


def test_a_picture_without_any_background_is_learned_from_too():
    pictures = [on_ground(number, 0.1) for number in range(3)]
    everything = replace(pictures[0], identity="all stuff", shares=class_shares(np.full((224, 224), 4)))
    fit = learned([*pictures, everything], 0.1, WITH_STUFF)
    assert fit.pictures == 4
    assert fit.examples_of(WITH_STUFF)[4] == 4


def test_stuff_is_named_apart_from_objects():
    pictures = [on_ground(number, 3.0) for number in range(12)]
    fit = learned(pictures, vocabulary=WITH_STUFF)
    assert fit.stuff == 1
    assert len(fit.lying.bias) == 1
    assert fit.examples_of(WITH_STUFF)[4] == 12
    assert fit.objectness is None, "it is where it was: stuff is no foreground"
    # Objects learn what they would, were the stuff not there and its cells unknown.
    without = [replace(p, shares=p.shares.moved({c: c for c in range(4)})) for p in pictures]
    alone = learn(
        without,
        make_vocabulary([f"class {i}" for i in range(1, CLASSES)]),
        directions(3.0)[1][:4],
        logit_scale=20.0,
        encoder="core",
    )
    assert fit.naming is not None
    np.testing.assert_array_equal(fit.naming.residual, alone.naming.residual)
    np.testing.assert_array_equal(fit.naming.bias, alone.naming.bias)
    again = Learned.from_bytes(fit.to_bytes())
    assert again.to_bytes() == fit.to_bytes()
    assert (again.stuff, again.identity) == (1, fit.identity)
    np.testing.assert_array_equal(again.lying.residual, fit.lying.residual)


def test_stuff_learns_where_it_is_and_leaves_the_background():
    fit = learned([on_ground(number, 3.0) for number in range(12)], vocabulary=WITH_STUFF)
    texts = directions(3.0)[1]
    other = on_ground(99, 3.0)
    x = cell_embeddings(other.features).at(np.arange(32 * 32))
    words = texts[[0, 4, 0]]
    named = replace(fit.lying, positions=np.array([1])).logits(x, words, 20.0)
    is_stuff = (named[:, 1] > named[:, 2]).reshape(32, 32)
    assert is_stuff[22:].mean() > 0.95
    assert is_stuff[:12, 18:].mean() < 0.05, "background"


def test_what_looks_like_an_object_and_is_stuff_is_learned_as_ground():
    pictures = [on_ground(number, 0.1, seen_as_object=True) for number in range(12)]
    assert learned(pictures, 0.1, WITH_STUFF).objectness is not None
    assert learned(pictures, 0.1).objectness is None, "without stuff=, it is an object"


def test_stuff_without_anything_to_be_told_from_is_learned_against_the_background():
    texts = directions(3.0)[1][[0, 4]]
    pictures = [on_ground(number, 3.0) for number in range(12)]
    pictures = [replace(p, shares=p.shares.moved({0: 0, 4: 1})) for p in pictures]
    only = make_vocabulary(["class 4"], stuff=["class 4"])
    fit = learn(pictures, only, texts, logit_scale=20.0, encoder="core")
    assert (fit.naming, fit.objectness) == (None, None)
    assert fit.lying is not None
    assert not fit.is_words_only


def test_stuff_that_nobody_drew_keeps_its_words():
    fit = learned(
        [corrected(n, 3.0) for n in range(16) if 4 not in corrected(n, 3.0).shares.positions], 3.0, WITH_STUFF
    )
    assert fit.naming is not None
    assert (fit.stuff, fit.lying) == (0, None)


def test_stuff_that_covers_whole_pictures_is_learned_from_them():
    pictures = [on_ground(number, 3.0) for number in range(12)]
    everywhere = ClassShares((4,), np.full((1, 32, 32), 255, np.uint8))
    covered = [replace(picture, shares=everywhere) for picture in pictures]
    assert learned(covered, vocabulary=WITH_STUFF).examples_of(WITH_STUFF) == (0, 0, 0, 0, 12)


def test_without_stuff_bytes_are_what_they_were(fit_of_twelve):
    header = fit_of_twelve.to_bytes()[42:].split(b"}", 1)[0]
    assert b"stuff" not in header
    assert b"lying" not in header


def test_objects_that_were_left_empty_are_named_as_what_competes():
    """Twelve pictures with an object each that the words take for a label, and a word that comes near it."""
    pictures = [corrected(number, 0.1, background_objects=True) for number in range(12)]
    centers, texts = directions(0.1)
    left = centers[CLASSES + 1]
    # The label "class 1" is what people's word for it also points at.
    texts = texts.copy()
    texts[1] = unit(texts[1] + 1.5 * left)
    competing = unit(0.6 * left + 0.8 * centers[0])[None]
    with_others = VOCABULARY.with_others([Label("tree", ("a photo of a tree",))])
    both = np.concatenate([texts, competing])

    def named(vocabulary, texts):
        fit = learn(pictures, vocabulary, texts, logit_scale=20.0, encoder="core")
        words = 20.0 * left @ texts.T
        if fit.naming is None:
            return words, words
        by_position = replace(fit.naming, positions=fit.naming.positions + 1)
        return words, by_position.logits(left[None], texts, 20.0)[0]

    words, learned_logits = named(with_others, both)
    assert words[1:].argmax() + 1 == 1, "or there is nothing to learn"
    assert learned_logits[1:].argmax() + 1 == CLASSES + 1
    _, alone = named(VOCABULARY, texts)
    assert alone[1] - 20.0 * competing[0] @ left > learned_logits[1] - learned_logits[CLASSES + 1], (
        "only what competes makes it an example"
    )


def test_the_same_bytes_in_any_order(twelve, fit_of_twelve):
    assert learned([*twelve[:4:-1], *twelve[:5]]).to_bytes() == fit_of_twelve.to_bytes()


def test_a_deleted_picture_was_never_there(twelve, fit_of_twelve):
    without = learned([*twelve[:4], *twelve[5:]])
    assert fit_of_twelve.to_bytes() != without.to_bytes()
    made_anew = [corrected(number, 3.0) for number in range(12) if number != 4]
    assert learned(made_anew).to_bytes() == without.to_bytes()


def test_stored_and_read_again_pictures_teach_the_same(twelve, fit_of_twelve):
    read = [
        CorrectedPicture(
            picture.identity,
            ImageFeatures.from_bytes(picture.features.to_bytes()),
            ClassShares.from_bytes(picture.shares.to_bytes()),
        )
        for picture in twelve
    ]
    assert learned(read).to_bytes() == fit_of_twelve.to_bytes()


def test_without_objectness_and_with_nothing_drawn(twelve):
    empty = class_shares(np.zeros((20, 30), int))
    pictures = [replace(p, features=replace(p.features, objectness=None), shares=empty) for p in twelve[:3]]
    fit = learned(pictures)
    assert fit.naming is None
    assert fit.labels == ()


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        pytest.param(lambda p: [replace(p, features=replace(p.features, made_by="x"))], LearningError, "x", id="core"),
        pytest.param(lambda p: [replace(p, shares=p.shares.moved({1: 9, 2: 9, 3: 9}))], LearningError, "5", id="class"),
        pytest.param(lambda p: [p, p], ShapeError, "same identity", id="twice"),
    ],
)
def test_what_does_not_fit_is_refused(change, error, says):
    picture = corrected(0, 3.0)
    picture = replace(picture, shares=ClassShares((1,), np.full((1, 32, 32), 255, np.uint8)))
    with pytest.raises(error, match=says):
        learned(change(picture))


def test_a_fit_survives_its_bytes(fit_of_twelve):
    drawn_less = learned([corrected(n, 0.1, background_objects=True) for n in range(12)], 0.1)
    for fit in (learned([]), fit_of_twelve, drawn_less):
        again = Learned.from_bytes(fit.to_bytes())
        assert again.to_bytes() == fit.to_bytes()
        assert again.identity == fit.identity
        assert again.examples == fit.examples
        assert again.prior == fit.prior


def test_identity_changes_with_what_was_learned(twelve, fit_of_twelve):
    assert fit_of_twelve.identity != learned(twelve[:11]).identity


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda data: b"", id="empty"),
        pytest.param(lambda data: data[:20], id="only the start"),
        pytest.param(lambda data: data[:-8], id="cut off"),
        pytest.param(lambda data: data[:-1] + bytes([data[-1] ^ 1]), id="a bit changed"),
        pytest.param(lambda data: MAGIC[:5] + b"\x02" + data[6:], id="another version"),
        pytest.param(lambda data: b"\x80\x04K\x01." + data, id="a pickle"),
        pytest.param(lambda data: data[:6] + b"\x01\x00\x00\x00" + data[10:], id="another length of the header"),
    ],
)
def test_damaged_bytes_are_refused(fit_of_twelve, spoil):
    with pytest.raises(LearningError):
        Learned.from_bytes(spoil(fit_of_twelve.to_bytes()))


def forged(**changes):
    """Bytes with a right checksum and a header that lies."""
    import hashlib
    import json
    import struct

    header = {
        "encoder": "core", "logit_scale": 1.0, "labels": ["a"], "examples": [1], "pictures": 1, "newcomer": 0.0,
        "shift": None, "prior": None, "arrays": [[[1, 2], "<f4"], [[1], "<f4"], [[2], "<f4"]],
    } | changes  # fmt: skip
    text = json.dumps(header).encode()
    body = text + np.zeros(5, "<f4").tobytes()
    return struct.pack("<6sI32s", MAGIC, len(text), hashlib.sha256(body).digest()) + body


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"arrays": [[[10**12], "<f4"], [[1], "<f4"], [[2], "<f4"]]}, id="terabytes"),
        pytest.param({"arrays": [[[-1, 2], "<f4"], [[1], "<f4"], [[2], "<f4"]]}, id="negative"),
        pytest.param({"arrays": [[[1, 2], "O"], [[1], "<f4"], [[2], "<f4"]]}, id="objects"),
        pytest.param({"arrays": [[[2, 1], "<f4"], [[1], "<f4"], [[2], "<f4"]]}, id="shapes that do not fit"),
        pytest.param({"labels": ["a", "b"]}, id="labels without weights"),
        pytest.param({"labels": ["a", "a"], "examples": [1, 1]}, id="a label twice"),
        pytest.param({"arrays": [[[1, 2], "<f4"]]}, id="an array too few"),
        pytest.param({"pictures": "many"}, id="no number"),
        pytest.param({"stuff": 1}, id="stuff that has an object's weights"),
        pytest.param({"lying_newcomer": 0.0}, id="stuff without weights"),
    ],
)
def test_lying_headers_are_refused(changes):
    assert Learned.from_bytes(forged()).labels == ("a",)
    with pytest.raises(LearningError):
        Learned.from_bytes(forged(**changes))


@pytest.mark.parametrize("stuff", [-1, 2])
def test_more_stuff_than_labels_is_refused(stuff):
    with pytest.raises(LearningError, match="cannot be stuff"):
        Learned("core", 1.0, ("a",), (1,), 1, None, None, 1.0, stuff)


def test_keys_are_of_prompts_and_tell_twins_apart():
    vocabulary = make_vocabulary(["cat", "dog", "cat"])
    cat, dog, twin = label_keys(vocabulary)
    assert len({cat, dog, twin}) == 3
    assert label_keys(make_vocabulary([("other name", ["cat"])])) == (cat,)
    assert label_keys(make_vocabulary(["dog", "cat"])) == (dog, cat)
    assert label_keys(make_vocabulary(["dog", "cat"], stuff=["cat"]))[0] == dog
    assert label_keys(make_vocabulary(["dog", "cat"], stuff=["cat"]))[1] not in (cat, twin)
    assert label_keys(make_vocabulary([("cat", ["kitten"])])) != (cat,)
    assert label_keys(vocabulary.with_others([Label("tree", ("a photo of a tree",))])) == (cat, dog, twin)


def test_where_something_else_is_named_an_object_does_not_matter():
    rng = np.random.default_rng(0)
    x, texts, tau = unit(rng.standard_normal((CELLS * CELLS, DIM))), unit(rng.standard_normal((7, DIM))), 20.0
    naming = NamingWeights(
        np.array([1, 3]),  # of three labels, with three others behind them
        rng.standard_normal((2, DIM)).astype(np.float32) / 4,
        np.array([0.5, -0.5], np.float32),
        x.mean(axis=0),
        newcomer=2.0,
    )
    logits = naming.logits(x, texts, tau)
    logits[:, 4:] -= naming.newcomer  # what competes is no newcomer
    place = logits[:, 1:].argmax(axis=1) + 1
    evidence = ObjectnessEvidence(
        "a", np.zeros((CELLS * CELLS, 2)), np.full(CELLS * CELLS, 9), SimpleNamespace(dot=lambda m: x @ m),
        np.zeros(CELLS * CELLS), np.full(CELLS * CELLS, 0.5), (x @ texts[4:].T).max(axis=1),
    )  # fmt: skip
    read = as_it_is_named(evidence, naming, texts, tau, labels=(2, 5, 6))
    assert {*place} == {1, 2, 3, 4, 5, 6}
    assert (read.known == np.where(place <= 3, 0.5, 0)).all()
    assert (read.named == np.array([0, 2, 5, 6, 9, 9, 9])[place]).all()
    nothing_competes = replace(evidence, rival=None)
    assert as_it_is_named(nothing_competes, naming, texts, tau, labels=(2, 5, 6)) is nothing_competes
    by_words = as_it_is_named(evidence, None, texts, tau, labels=(2, 5, 6))
    assert ((by_words.known > 0) == ((x @ texts[1:].T).argmax(axis=1) < 3)).all()


def test_only_where_something_competes_is_less_than_everything_judged(monkeypatch, twelve):
    seen = []
    monkeypatch.setattr(room, "_learn_objectness", lambda evidence, judged, *rest: seen.append((evidence, judged)))
    learned(twelve)
    words = np.concatenate([directions(3.0)[1], directions(0.0)[0][-1:]])
    others = VOCABULARY.with_others([Label("tree", ("a photo of a tree",))])
    learn(twelve, others, words, logit_scale=20.0, encoder="core")
    (fitted, judged), (fitted_beside, judged_beside) = seen
    assert fitted is judged
    assert all((one.known > 0).all() for one in (*fitted, *fitted_beside)), "fitted is everything"
    assert any((one.known == 0).any() for one in judged_beside)


def test_a_picture_is_judged_by_names_that_were_learned_without_it(monkeypatch, twelve):
    used = []
    monkeypatch.setattr(room, "as_it_is_named", lambda evidence, naming, *rest: used.append(naming) or evidence)
    words = np.concatenate([directions(3.0)[1], directions(0.0)[0][-1:]])
    others = VOCABULARY.with_others([Label("tree", ("a photo of a tree",))])
    fit = learn(twelve, others, words, logit_scale=20.0, encoder="core")
    assert fit.naming is not None
    by_fold: dict[int, set[int]] = {}
    for naming, fold in zip(used, deal_folds(12), strict=True):
        by_fold.setdefault(int(fold), set()).add(id(naming))
    assert all(len(one) == 1 for one in by_fold.values())
    assert len(set.union(*by_fold.values())) == len(by_fold), "each fold has one of its own"
    assert all((naming.residual != fit.naming.residual).any() for naming in used), "and none is the fit on all"
