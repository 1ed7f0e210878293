"""When a project learns."""

from itertools import islice

import pytest

from backend.corrections.events import ProjectFacts
from backend.corrections.store import StoredProject
from backend.learning.when import MOST_WAIT_S, QUIET_S, is_due, next_count

NOW = 1000.0


def counts():
    count = 0
    while True:
        count = next_count(count)
        yield count


def test_half_as_many_more_each_time():
    assert [*islice(counts(), 9)] == [1, 2, 3, 5, 8, 12, 18, 27, 41]


def project(*, tried=0, tried_at=0.0, changed=NOW - 2 * QUIET_S, asked=0.0):
    return StoredProject(ProjectFacts("1.5", 1), changed, asked, tried, tried_at, None, 0, "")


@pytest.mark.parametrize(
    ("stored", "pictures", "when", "expected"),
    [
        (project(), 0, "auto", False),
        (project(), 1, "auto", True),
        (project(), 1, "on-training", False),
        (project(), 1, "off", False),
        (project(tried=8), 11, "auto", False),
        (project(tried=8), 12, "auto", True),
        (project(tried=8), 7, "auto", False),
        # Somebody is at work, and it has learned a moment ago.
        (project(tried=8, tried_at=NOW - 20, changed=NOW - QUIET_S + 0.1), 12, "auto", False),
        (project(tried=8, tried_at=NOW - 20, changed=NOW - QUIET_S), 12, "auto", True),
        (project(tried=8, tried_at=NOW - MOST_WAIT_S, changed=NOW), 12, "auto", True),
        # Asked.
        (project(asked=NOW, changed=NOW), 0, "auto", True),
        (project(asked=NOW, changed=NOW, tried=8), 8, "on-training", True),
        (project(asked=NOW), 9, "off", False),
        # Something was deleted.
        (project(tried=-1), 3, "auto", True),
        (project(tried=-1), 3, "on-training", True),
        (project(tried=-1, changed=NOW), 3, "auto", False),
        (project(tried=-1), 3, "off", False),
    ],
)
def test_due(stored, pictures, when, expected):
    assert is_due(stored, pictures, NOW, when) is expected
