"""What corrections taught a control, as far as it decides a prediction."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

from clipdiy.learning.calibration import Calibration
from clipdiy.learning.learned import Learned


@dataclass(frozen=True, eq=False)
class Taught:
    """A fit in use, and what scores are worth under it. Equal to another one that answers the same.

    Attributes:
        number: Of the version within its project, from 1.
        learned: What was learned for the control's labels; `None` for the words alone.
        calibration: From raw score to expected IoU; `None` shows raw scores.
    """

    number: int
    learned: Learned | None = None
    calibration: Calibration | None = None

    @cached_property
    def identity(self) -> str:
        """Changes whenever answers would; hexadecimal digits."""
        parts = [self.learned.identity if self.learned else "words"]
        if self.calibration is not None:
            parts.append(repr(self.calibration.knots))
        return hashlib.sha256("|".join(parts).encode()).hexdigest()[:16]

    def __eq__(self, other: object) -> bool:
        """Say whether both answer the same."""
        return isinstance(other, Taught) and self.identity == other.identity

    def __hash__(self) -> int:
        """Hash the identity."""
        return hash(self.identity)
