"""Whose word counts."""

import pytest
from data_sets import annotation, prediction, task

from backend.export.chosen import Rules, choose


def ids(chosen):
    return None if chosen is None else (chosen.origin, [sent["id"] for sent in chosen.sent])


BOTH = task(1, annotations=[annotation(number=7)], predictions=[prediction(number=3)])
PREDICTED = task(1, predictions=[prediction(number=3)])


@pytest.mark.parametrize(
    ("given", "source", "expected"),
    [
        (BOTH, "both", ("annotation", [7])),
        (BOTH, "annotations", ("annotation", [7])),
        (BOTH, "predictions", ("prediction", [3])),
        (PREDICTED, "both", ("prediction", [3])),
        (PREDICTED, "annotations", None),
        (task(1), "both", None),
    ],
)
def test_source(given, source, expected):
    assert ids(choose(given, Rules(source))) == expected


@pytest.mark.parametrize(
    ("score", "least", "counts"),
    [
        (0.5, 0.5, True),
        (0.49, 0.5, False),
        (None, 0.5, False),
        (None, 0, True),
        ("0.9", 0.5, False),
        (True, 0.5, False),
    ],
)
def test_a_prediction_has_to_be_sure_enough(score, least, counts):
    chosen = choose(task(1, predictions=[prediction(score=score)]), Rules(min_score=least))
    assert (chosen is not None) is counts
    assert chosen is None or chosen.score == (score if isinstance(score, float) else None)


def test_the_newest_prediction_counts_and_only_of_the_version_that_is_asked_for():
    made = task(1, predictions=[prediction(number=9, version="b"), prediction(number=5, version="a")])
    assert ids(choose(made, Rules())) == ("prediction", [9])
    assert ids(choose(made, Rules(model_version="a"))) == ("prediction", [5])
    assert choose(made, Rules(model_version="c")) is None


def test_of_several_annotations():
    several = [
        annotation(number=1, when="2026-01-03T00:00:00Z", completed_by={"id": 1}),
        annotation(number=2, when="2026-01-05T00:00:00Z", completed_by={"id": 2}),
        annotation(number=3, when="2026-01-04T00:00:00Z", completed_by=1),
        annotation(number=4, when="2026-01-09T00:00:00Z", was_cancelled=True),
    ]
    made = task(1, annotations=several, predictions=[prediction()])
    assert ids(choose(made, Rules())) == ("annotation", [2])
    assert ids(choose(made, Rules(several="majority"))) == ("annotation", [2, 3])
    several[0]["ground_truth"] = True
    assert ids(choose(made, Rules())) == ("annotation", [1])


@pytest.mark.parametrize("predictions", [[], [prediction(number=3)]], ids=["alone", "predicted"])
def test_a_skipped_task_is_one_that_nobody_has_answered(predictions):
    skipped = task(1, annotations=[annotation(was_cancelled=True)], predictions=predictions)
    assert choose(skipped, Rules()) is None
    assert (choose(skipped, Rules("predictions")) is None) == (not predictions)


@pytest.mark.parametrize("when", [None, "yesterday", 5])
def test_what_is_not_said_is_not_needed(when):
    sent = {"id": 4, "result": [], "updated_at": when}
    assert ids(choose({"id": 1, "annotations": [sent, "odd", {"id": "x"}]}, Rules())) == ("annotation", [4])
