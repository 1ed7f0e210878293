"""Intervals: against plain resampling, and no figure outside of its own."""

import numpy as np
import pytest

from clipdiy.evaluate.bootstrap import Bootstrap, interval_around
from clipdiy.evaluate.confusion import quality
from clipdiy.evaluate.record import Outcome
from clipdiy.evaluate.tally import Tally


def counts_of(rng, classes=3):
    return rng.integers(0, 50, (classes, classes))


def images_with_rare_classes(rng, images=40, classes=30):
    """Return confusion matrices of a few classes each; some classes are in one picture, some are only ever mistaken."""
    made = []
    for _ in range(images):
        counts = np.zeros((classes, classes), np.int64)
        shown = [0, *rng.choice(np.arange(1, classes - 5), 2, replace=False)]
        for true in shown:
            counts[true, true] = rng.integers(0, 400)
            counts[true, rng.integers(classes)] += rng.integers(0, 60)
        made.append(counts)
    return made


def tally_of(images):
    tally = Tally(len(images[0]), len(images))
    for counts in images:
        tally.add(Outcome(counts, None, 0.0))
    return tally


def plain_replicates(images, count, rng):
    """Resample the images themselves."""
    values = []
    for _ in range(count):
        total = sum(images[i] for i in rng.integers(0, len(images), len(images)))
        values.append(quality(total).miou)
    return values


def test_replicates_are_those_of_plain_resampling():
    rng = np.random.default_rng(1)
    images = images_with_rare_classes(rng)
    bootstrap = Bootstrap(len(images), 30, replicates=4000)
    for counts in images:
        bootstrap.add(counts)
    plain = plain_replicates(images, 4000, rng)
    levels = [0.025, 0.25, 0.5, 0.75, 0.975]
    np.testing.assert_allclose(np.quantile(bootstrap.mean_ious(), levels), np.quantile(plain, levels), atol=0.006)


def test_an_image_can_be_given_as_what_its_ious_are_made_of():
    images = images_with_rare_classes(np.random.default_rng(2), images=9)
    by_matrix, by_overlap = Bootstrap(9, 30, replicates=50), Bootstrap(9, 30, replicates=50)
    for counts in images:
        by_matrix.add(counts)
        hits = counts.diagonal()
        by_overlap.add_overlaps(np.stack([hits, counts.sum(axis=0) + counts.sum(axis=1) - hits], axis=1))
    np.testing.assert_array_equal(by_overlap.mean_ious(), by_matrix.mean_ious())


def test_every_replicate_draws_as_many_images_as_there_are():
    bootstrap = Bootstrap(7, 2, replicates=100)
    for _ in range(7):
        bootstrap.add(np.array([[1, 0], [0, 0]]))
    assert (bootstrap._hits[:, 0] == 7).all()


def test_a_draw_of_one_class_counts_and_one_of_none_does_not():
    """Two images, one of them empty: it is drawn twice, once, or never."""
    bootstrap = Bootstrap(2, 3, replicates=200)
    bootstrap.add(np.array([[0, 0, 0], [0, 3, 1], [0, 0, 0]]))
    bootstrap.add(np.zeros((3, 3), np.int64))
    drawn = bootstrap._hits[:, 1] > 0
    assert {*bootstrap._hits[:, 1]} == {0, 3, 6}
    # The class of the mistaken pixel was predicted and is nowhere: 0. The background was not seen at all.
    np.testing.assert_allclose(bootstrap.mean_ious()[drawn], (3 / 4 + 0) / 2)
    np.testing.assert_allclose(bootstrap.mean_ious(absent_counts=True)[drawn], (3 / 4 + 0) / 3)
    assert np.isnan(bootstrap.mean_ious()[~drawn]).all()
    alone = Bootstrap(1, 3, replicates=5)
    alone.add(np.array([[0, 0, 0], [0, 3, 0], [0, 0, 0]]))
    np.testing.assert_array_equal(alone.mean_ious(), 1)


def test_images_that_are_all_alike_leave_no_doubt():
    counts = counts_of(np.random.default_rng(0))
    tally = tally_of([counts] * 5)
    assert tally.interval == pytest.approx((tally.quality.miou,) * 2)


@pytest.mark.parametrize("seed", range(8))
def test_no_figure_lies_outside_its_own_interval(seed):
    rng = np.random.default_rng(seed)
    first, other = (tally_of(images_with_rare_classes(rng)) for _ in range(2))
    for tally in (first, other):
        low, high = tally.interval
        assert low <= tally.quality.miou <= high
    gap, low, high = other.difference_to(first)
    assert gap == other.quality.miou - first.quality.miou
    assert low <= gap <= high


def test_an_interval_is_moved_to_its_figure_and_keeps_its_width():
    replicates = np.linspace(0.2, 0.4, 1001)
    assert interval_around(0.5, replicates, 0.9) == pytest.approx((0.41, 0.59))
    slanted = np.concatenate([np.linspace(0, 0.5, 501), np.linspace(0.5, 0.6, 501)[1:]])
    assert interval_around(0.5, slanted, 0.9) == pytest.approx((0.05, 0.59))
    assert np.isnan(interval_around(0.5, np.array([]))).all()
    assert interval_around(0.5, np.append(replicates, np.nan), 0.9) == pytest.approx((0.41, 0.59))
    assert np.isnan(interval_around(float("nan"), replicates)).all()


def test_the_interval_is_of_95_per_cent():
    assert interval_around(0.5, np.linspace(0.4, 0.6, 1001)) == pytest.approx((0.405, 0.595))


def test_an_interval_stays_between_0_and_100_per_cent():
    rng = np.random.default_rng(0)
    for share in (0.0, 1.0):
        images = []
        for _ in range(4):
            counts = np.zeros((2, 2), np.int64)
            counts[0, 0], counts[0, 1] = rng.integers(1, 100, 2) * ((1, 0.02) if share else (0.02, 1))
            images.append(counts)
        low, high = tally_of(images).interval
        assert 0 <= low <= high <= 1


def test_absent_classes_count_in_replicates_as_they_do_in_the_figure():
    bootstrap = Bootstrap(1, 4, replicates=3)
    bootstrap.add(np.diag([5, 5, 0, 0]))
    np.testing.assert_allclose(bootstrap.mean_ious(), 1)
    np.testing.assert_allclose(bootstrap.mean_ious(absent_counts=True), 0.5)


def test_differences_are_paired():
    rng = np.random.default_rng(3)
    images = [counts_of(rng) for _ in range(20)]
    first, same = tally_of(images), tally_of(images)
    assert same.difference_to(first) == (0, 0, 0)


def test_bootstrap_is_seeded_and_of_one_size():
    def run(seed):
        bootstrap, rng = Bootstrap(10, 3, seed=seed), np.random.default_rng(2)
        for _ in range(10):
            bootstrap.add(counts_of(rng))
        return bootstrap.mean_ious()

    assert run(0).shape == (1000,)
    np.testing.assert_array_equal(run(0), run(0))
    assert (run(0) != run(1)).any()
    assert np.isnan(Bootstrap(0, 2).mean_ious()).all()
