"""Who takes part in a picture: the absolute test of labels and the relative one of others, by hand."""

import pytest
import torch
from tiny import random_grids

from clipdiy.config import OthersConfig
from clipdiy.errors import ConfigError
from clipdiy.others.presence import LEAST_OTHERS, competing_classes

SCALE = 10.0  # a cosine of 0.1 is a logit
GATE = OthersConfig(gate_logits=1.0, absent_quantile=None)


def grids(*cosines):
    """One scale of 1 x n crops; a row a class."""
    return (torch.tensor(cosines)[:, None, :],)


@pytest.mark.parametrize(
    ("label", "other", "kept"),
    [
        pytest.param((0.5, 0.1), (0.3, 0.1), [0, 1], id="behind everywhere"),
        pytest.param((0.5, 0.1), (0.3, 0.19), [0, 1], id="ahead, but not by the gate"),
        pytest.param((0.5, 0.1), (0.3, 0.25), [0, 1, 2], id="ahead by the gate at one crop"),
        pytest.param((0.5, 0.5), (0.5, 0.5), [0, 1], id="equal"),
    ],
)
def test_an_other_has_to_lead_by_the_gate_somewhere(label, other, kept):
    assert competing_classes(grids((0.0, 0.0), label, other), 2, SCALE, GATE).tolist() == kept


def test_an_other_has_to_lead_every_label():
    cosines = grids((0.0, 0.0), (0.5, 0.1), (0.1, 0.5), (0.3, 0.3))
    assert competing_classes(cosines, 3, SCALE, GATE).tolist() == [0, 1, 2]


def test_any_scale_counts():
    coarse, fine = grids((0.0,), (0.5,), (0.1,)), grids((0.0, 0.0), (0.1, 0.1), (0.1, 0.4))
    assert competing_classes((*coarse, *fine), 2, SCALE, GATE).tolist() == [0, 1, 2]


def listed(label, count=LEAST_OTHERS):
    """One label beside others whose evidence is 0.01, 0.02, ..."""
    return grids((0.0,), (label,), *((0.01 * (i + 1),) for i in range(count)))


@pytest.mark.parametrize(
    ("label", "there"),
    [
        pytest.param(0.16, True, id="as good as the best"),
        pytest.param(0.13, True, id="above the quantile"),
        pytest.param(0.11, False, id="below it"),
        pytest.param(-0.1, False, id="below all"),
    ],
)
def test_a_label_that_is_no_nearer_than_other_words_is_not_there(label, there):
    config = OthersConfig(gate_logits=1000, absent_quantile=0.75)  # the 12th or 13th of 16: 0.1225
    assert (1 in competing_classes(listed(label), 2, SCALE, config).tolist()) == there


def test_a_label_as_good_as_the_threshold_is_there():
    assert 1 in competing_classes(listed(0.16), 2, SCALE, OthersConfig(absent_quantile=1.0))


def test_a_label_counts_by_its_best_crop():
    others = [(0.01 * (i + 1), 0.0) for i in range(LEAST_OTHERS)]
    config = OthersConfig(gate_logits=1000, absent_quantile=0.75)
    assert 1 in competing_classes(grids((0.0, 0.0), (0.15, -1.0), *others), 2, SCALE, config)


def test_stuff_keeps_no_other_out():
    # Position 1 is the sky, which fills both crops; the other leads the object label that is there at the second.
    cosines = grids((0.0, 0.0), (0.9, 0.9), (0.5, 0.1), (0.3, 0.3))
    assert competing_classes(cosines, 3, SCALE, GATE).tolist() == [0, 1, 2]
    assert competing_classes(cosines, 3, SCALE, GATE, stuff=(1,)).tolist() == [0, 1, 2, 3]


def test_stuff_is_known_by_its_position():
    # The sky is the third label here, and the other leads the two that are left.
    cosines = grids((0.0, 0.0), (0.5, 0.1), (0.1, 0.1), (0.9, 0.9), (0.3, 0.3))
    assert competing_classes(cosines, 4, SCALE, GATE).tolist() == [0, 1, 2, 3]
    assert competing_classes(cosines, 4, SCALE, GATE, stuff=(3,)).tolist() == [0, 1, 2, 3, 4]


def test_where_only_stuff_is_there_the_objects_are_left_to_one_other():
    cosines = grids((0.0,), (0.9,), (0.2,), (0.3,), (0.1,))
    assert competing_classes(cosines, 2, SCALE, OthersConfig(gate_logits=1000), stuff=(1,)).tolist() == [0, 1, 3]


def test_stuff_that_is_no_nearer_than_other_words_is_not_there():
    config = OthersConfig(gate_logits=1000, absent_quantile=0.75)
    assert [1 in competing_classes(listed(c), 2, SCALE, config, stuff=(1,)).tolist() for c in (0.11, 0.13)] == [
        *(False, True)
    ]


def test_a_label_that_is_not_there_keeps_no_other_out():
    # At the second crop the absent label is the best; the other has to lead the label that is there alone.
    others = [(0.5, 0.5)] * (LEAST_OTHERS - 1) + [(0.5, 0.3)]
    cosines = grids((0.0, 0.0), (0.9, 0.1), (0.1, 0.45), *others)
    kept = competing_classes(cosines, 3, SCALE, OthersConfig(gate_logits=1.0, absent_quantile=0.5))
    assert 2 not in kept, "absent"
    assert 2 + LEAST_OTHERS in kept


def test_few_others_say_nothing_about_what_is_there():
    config = OthersConfig(absent_quantile=1.0)
    assert 1 in competing_classes(listed(-0.1, LEAST_OTHERS - 1), 2, SCALE, config)
    assert 1 not in competing_classes(listed(-0.1), 2, SCALE, config)


def test_where_no_label_is_there_the_best_other_has_the_objects():
    kept = competing_classes(listed(-0.1), 2, SCALE, OthersConfig(gate_logits=1000))
    assert kept.tolist() == [0, 1 + LEAST_OTHERS]


@pytest.mark.parametrize("seed", range(5))
def test_always_the_background_and_one_more_in_order(seed):
    for drawn in (2, 5, 30):
        kept = competing_classes(random_grids(seed, 30), drawn, SCALE, OthersConfig()).tolist()
        assert kept[0] == 0
        assert len(kept) >= 2
        assert kept == sorted(set(kept))


def test_without_others_everybody_takes_part():
    assert competing_classes(random_grids(0, 7), 7, SCALE, OthersConfig()).tolist() == list(range(7))


def test_a_share_is_a_share():
    with pytest.raises(ConfigError, match="absent_quantile"):
        OthersConfig(absent_quantile=1.5)
