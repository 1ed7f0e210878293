"""Which of several annotations of a task count."""

import pytest

from backend.annotations.which import AnnotationFacts, counting


def facts(number, updated, **flags):
    return AnnotationFacts(number, float(updated), **flags)


FIRST, SECOND, THIRD = facts(1, 10, completed_by=7), facts(2, 20, completed_by=8), facts(3, 5, completed_by=9)
SKIPPED = facts(4, 99, was_cancelled=True, completed_by=7)
TRUTH = facts(5, 1, ground_truth=True, completed_by=7)
AGAIN = facts(6, 30, completed_by=7)


@pytest.mark.parametrize(
    ("annotations", "rule", "expected"),
    [
        ([], "latest", []),
        ([FIRST, SECOND, THIRD], "latest", [SECOND]),
        ([FIRST, SECOND, THIRD], "majority", [SECOND, FIRST, THIRD]),
        ([FIRST, SKIPPED], "latest", [FIRST]),
        ([SKIPPED], "majority", []),
        ([FIRST, SECOND, TRUTH], "latest", [TRUTH]),
        ([FIRST, SECOND, TRUTH], "majority", [TRUTH]),
        ([facts(7, 5, ground_truth=True, was_cancelled=True), FIRST], "latest", [FIRST]),
        ([FIRST, AGAIN, SECOND], "majority", [AGAIN, SECOND]),
        ([facts(1, 5), facts(2, 5)], "latest", [facts(2, 5)]),
        ([facts(1, 5), facts(2, 5)], "majority", [facts(2, 5), facts(1, 5)]),
    ],
)
def test_counting(annotations, rule, expected):
    assert counting(annotations, rule) == expected
