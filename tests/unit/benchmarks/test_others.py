"""What is no label stays empty, on scenes with the starter weights; and how that is counted."""

import numpy as np
import pytest

from benchmarks.others import Cell, Tally, drawings, encode, known_share, measure, open_list, pooled_miou, truth_of
from clipdiy.build import build_segmenter
from clipdiy.config import preset
from clipdiy.segmentation import Segmentation
from clipdiy.starter.scenes import NOUNS, load_sprites
from clipdiy.vocabulary import make_vocabulary
from clipdiy.weights import STARTER_DIR

needs_starter = pytest.mark.skipif(
    not (STARTER_DIR / "clip").is_dir(), reason="needs the starter weights, and this checkout has none"
)


def answered(label_map, scores):
    label_map = np.array(label_map, np.uint16)
    area = np.bincount(label_map.ravel(), minlength=len(scores)) / label_map.size
    return Segmentation(label_map, area, np.array(scores, np.float32), 0.5)


def tally_by_hand():
    tally = Tally()
    tally.add(np.array([[0, 0, 1, 1]], np.uint8), answered([[0, 1, 1, 1]], [0.1, 0.9]), 2)
    tally.add(np.array([[0, 0, 0, 0]], np.uint8), answered([[0, 0, 0, 1]], [0.1, 0.2]), 2)
    return tally


def test_figures_by_hand():
    cell = Cell([tally_by_hand()])
    assert cell.miou()[0] == pytest.approx(100 * (4 / 6 + 2 / 4) / 2)  # background 1+3 of 2+4, label 2+0 of 3+1
    assert cell.miou()[1] <= cell.miou()[0] <= cell.miou()[2]
    assert cell.false() == (1, 2)
    assert cell.rho()[0] == pytest.approx(1)


def test_what_ties_leave_of_a_perfect_score():
    share, best = Cell([Tally(pictures=[(0.3, 1.0), (0.9, 0.5), (0.1, 1.0)])]).exact()
    assert share == pytest.approx(2 / 3)
    assert best == pytest.approx(0.866, abs=1e-3)  # ranks 1, 2, 3 against 1, 2.5, 2.5


def test_a_difference_is_of_the_same_scenes():
    cell, worse = Cell([tally_by_hand()]), Cell([tally_by_hand()])
    assert cell.above(worse) == "+0.0 (+0.0 to +0.0)", "one scene drawn twice in both, or in neither"
    worse.tallies[0].hits = [hits // 2 for hits in worse.tallies[0].hits]
    assert cell.above(worse).startswith("+")
    assert worse.above(cell).startswith("-")


def test_a_class_that_a_replicate_lacks_is_left_out():
    weights = np.array([[1.0, 1.0], [0.0, 2.0]])
    assert pooled_miou(weights, tally_by_hand()) == pytest.approx([(4 / 6 + 2 / 4) / 2, (6 / 8 + 0) / 2])


def test_labels_are_drawn_anew_for_each_set_and_the_rest_is_the_rest():
    drawn = list(drawings(2, 2, 3))
    assert [number for number, _, _ in drawn] == [0, 0, 1, 1]
    assert len({tuple(labels) for _, labels, _ in drawn}) == 4
    for _, labels, rest in drawn:
        assert sorted([*labels, *rest]) == sorted(NOUNS)
    assert list(drawings(2, 2, 3)) == drawn


@pytest.fixture(scope="module")
def segmenter():
    return build_segmenter(preset("starter"))


@pytest.fixture(scope="module")
def pictures(segmenter):
    return encode(segmenter, range(60_000, 60_016), load_sprites())


@needs_starter
def test_shares(pictures):
    (_, _, rest), *_ = drawings(1, 1, 2)
    assert known_share(rest, 0.5) == rest[:23]
    for picture in pictures:
        known = open_list(rest, 0.0)(picture)
        assert not set(known) & picture.nouns
        assert len(known) + len(set(rest) & picture.nouns) == len(rest)
        assert open_list(rest, 1.0)(picture) == rest


@needs_starter
def test_truth_is_of_the_labels_alone(pictures):
    picture = pictures[0]
    noun = min(picture.nouns)
    truth = truth_of(picture, ["dog" if noun != "dog" else "cat", noun])
    np.testing.assert_array_equal(truth == 2, picture.labels == NOUNS.index(noun) + 1)


@needs_starter
def test_two_labels_no_longer_paint_everything(segmenter, pictures):
    alone, beside = Cell(), Cell()
    for _, labels, _ in drawings(1, 2, 2):
        alone.tallies.append(measure(segmenter, pictures, labels, lambda _: ()))
        beside.tallies.append(measure(segmenter, pictures, labels, lambda _: None))
    assert alone.false()[0] >= 30
    assert beside.false()[0] <= alone.false()[0] / 10
    assert beside.miou()[0] >= 70


@needs_starter
def test_a_project_with_elephants_gets_elephants(segmenter, pictures):
    tally = measure(segmenter, pictures, ["elephant"], lambda _: None)
    drawn = sum(int(hits[1]) for hits in tally.hits), sum(int(unions[1]) for unions in tally.unions)
    there = sum(int((picture.labels == NOUNS.index("elephant") + 1).sum()) for picture in pictures)
    assert drawn[1] <= there + 0.02 * sum(picture.labels.size for picture in pictures)


@needs_starter
def test_where_every_noun_is_a_label_nothing_competes(segmenter):
    assert segmenter.choose_others(make_vocabulary(NOUNS)).competing == ()
