"""When does a project learn? Pure."""

import math

from backend.corrections.store import StoredProject
from backend.labeling.controls import LearnWhen

QUIET_S = 10.0
"""After the last correction it waits so long for another one."""
MOST_WAIT_S = 60.0
"""But where corrections keep coming, it learns no more rarely than this."""


def next_count(pictures: int) -> int:
    """Return from how many corrected pictures on it learns again: half as many more; 1, 2, 3, 5, 8, 12, ...

    Args:
        pictures: From how many it learned last; 0 or less for never.
    """
    return max(pictures + 1, math.ceil(1.5 * pictures)) if pictures > 0 else 1


def is_due(project: StoredProject, pictures: int, now: float, when: LearnWhen) -> bool:
    """Say whether a project is to learn now.

    Args:
        project: Where its learning stands.
        pictures: How many corrected pictures it has.
        now: Unix seconds.
        when: What the operator wants.
    """
    if when == "off":
        return False
    if project.asked:
        return True
    if project.tried_pictures < 0:
        # Something that it had learned from has been deleted: what was learned from that has gone already.
        return is_quiet(project, now)
    if when == "on-training" or pictures < next_count(project.tried_pictures):
        return False
    return is_quiet(project, now) or now - max(project.tried_at, 0.0) >= MOST_WAIT_S


def is_quiet(project: StoredProject, now: float) -> bool:
    """Say whether nobody has corrected anything of a project just now.

    Args:
        project: Where its learning stands.
        now: Unix seconds.
    """
    return now - project.changed >= QUIET_S
