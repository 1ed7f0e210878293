"""A version of a project as bytes: what each control learned, and what scores are worth. Holds no code."""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from backend.labeling.taught import Taught
from clipdiy.learning.calibration import Calibration
from clipdiy.learning.errors import LearningError
from clipdiy.learning.learned import Learned

_MAGIC = b"CDIYV\x01"
_PREFIX = struct.Struct("<6sI")


@dataclass(frozen=True)
class Fit:
    """What a project learned.

    Attributes:
        controls: By `from_name`; controls with one vocabulary share one.
        calibration: From raw score to expected IoU, `None` for raw scores.
    """

    controls: Mapping[str, Learned]
    calibration: Calibration | None = None

    @property
    def is_words_only(self) -> bool:
        """Whether it changes nothing."""
        return self.calibration is None and all(learned.is_words_only for learned in self.controls.values())

    def taught(self, number: int, encoder: str) -> dict[str, Taught]:
        """Return what it means for each control, under features of one encoder."""
        return {
            control: Taught(number, None if learned.is_words_only else learned, self.calibration)
            for control, learned in self.controls.items()
            if learned.encoder == encoder and not (learned.is_words_only and self.calibration is None)
        }

    def same_as(self, other: "Fit") -> bool:
        """Whether both answer the same."""
        ours, theirs = (
            {name: learned.identity for name, learned in fit.controls.items() if not learned.is_words_only}
            for fit in (self, other)
        )
        return ours == theirs and self.calibration == other.calibration

    def to_bytes(self) -> bytes:
        """Pack."""
        parts = {name: learned.to_bytes() for name, learned in sorted(self.controls.items())}
        header = {
            "controls": [[name, len(part)] for name, part in parts.items()],
            "knots": None if self.calibration is None else self.calibration.knots,
        }
        text = json.dumps(header).encode()
        return _PREFIX.pack(_MAGIC, len(text)) + text + b"".join(parts.values())

    @classmethod
    def from_bytes(cls, data: bytes) -> "Fit":
        """Unpack what `to_bytes` made.

        Raises:
            LearningError: If it is damaged, or of another version.
        """
        try:
            magic, length = _PREFIX.unpack_from(data)
            if magic != _MAGIC:
                raise LearningError("not a version of this layout; learn again")
            header = json.loads(data[_PREFIX.size : _PREFIX.size + length])
            at, controls = _PREFIX.size + length, {}
            for name, size in header["controls"]:
                controls[str(name)] = Learned.from_bytes(data[at : at + size])
                at += size
            knots = header["knots"]
            calibration = None if knots is None else Calibration(tuple((float(s), float(v)) for s, v in knots))
        except (struct.error, ValueError, KeyError, TypeError) as err:
            raise LearningError(f"a version cannot be read ({err}); learn again") from err
        return cls(controls, calibration)
