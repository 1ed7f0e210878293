"""What was learned, as a thing to keep, send and compare: weights, the labels they belong to, what they are made of."""

import hashlib
import json
import struct
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipdiy.learning.errors import LearningError
from clipdiy.learning.naming import NamingWeights
from clipdiy.learning.objectness import ObjectnessWeights
from clipdiy.vocabulary import Vocabulary

MAGIC = b"CDIYL\x01"  # the last byte is the version of the layout
_PREFIX = struct.Struct("<6sI32s")  # magic, length of the header, SHA-256 of all that follows
MOST_NUMBERS = 50_000_000  # of one array: far above any vocabulary, far below any memory


@dataclass(frozen=True)
class Learned:
    """A fit. Immutable; equal bytes if and only if made of the same pictures in the same way.

    It belongs to labels by `label_keys`, not by position: a vocabulary may have grown, shrunk or been put in another
    order since. A label that the fit does not know is segmented by its words.

    Attributes:
        encoder: `encoder_identity` of the core whose features it was made of. Weights live in that embedding space.
        logit_scale: CLIP's tau at the time.
        labels: Keys of the labels that had examples: objects, then stuff.
        examples: In how many corrected pictures each of them was.
        pictures: How many corrected pictures there were.
        naming: What is added to the words of objects, by position in `labels`; `None` where the guard kept the words.
        objectness: How foreground is told; `None` where the guard kept the paper's rule.
        prior: rho of the naming; inf where there is none.
        stuff: How many of the labels are stuff.
        lying: What is added to the words of stuff, by position behind the objects; `None` as for `naming`.
    """

    encoder: str
    logit_scale: float
    labels: tuple[str, ...]
    examples: tuple[int, ...]
    pictures: int
    naming: NamingWeights | None
    objectness: ObjectnessWeights | None
    prior: float
    stuff: int = 0
    lying: NamingWeights | None = None

    def __post_init__(self) -> None:
        objectness = self.objectness
        if len(self.examples) != len(self.labels) or len(set(self.labels)) != len(self.labels):
            raise LearningError(f"{len(self.labels)} labels, each once, and {len(self.examples)} counts do not fit")
        if not 0 <= self.stuff <= len(self.labels):
            raise LearningError(f"of {len(self.labels)} labels, {self.stuff} cannot be stuff")
        for naming, labels in ((self.naming, len(self.labels) - self.stuff), (self.lying, self.stuff)):
            if naming is not None and not (
                np.array_equal(naming.positions, np.arange(labels))
                and naming.bias.shape == (labels,)
                and naming.residual.shape == (labels, len(naming.center))
                and all(np.isfinite(part).all() for part in (naming.bias, naming.residual, naming.center))
            ):
                raise LearningError("naming weights have other shapes than their labels, or numbers that are none")
        if objectness is not None and not (
            objectness.theta.ndim == 1 and len(objectness.theta) >= 3 and np.isfinite(objectness.theta).all()
        ):
            raise LearningError("objectness weights have another shape, or numbers that are none")

    @property
    def is_words_only(self) -> bool:
        """Whether it changes nothing."""
        return self.naming is None and self.objectness is None and self.lying is None

    @property
    def identity(self) -> str:
        """Changes whenever segmentations would; 16 hexadecimal digits, the same for every fit that changes nothing."""
        return "words" if self.is_words_only else hashlib.sha256(self._body()[1]).hexdigest()[:16]

    def examples_of(self, vocabulary: Vocabulary) -> tuple[int, ...]:
        """Return in how many corrected pictures each class of a vocabulary was, background (always 0) first."""
        known = dict(zip(self.labels, self.examples, strict=True))
        return (0, *(known.get(key, 0) for key in label_keys(vocabulary)))

    def to_bytes(self) -> bytes:
        """Pack: a prefix with a checksum, a JSON header, arrays as little-endian floats. Holds no code."""
        header_length, body = self._body()
        return _PREFIX.pack(MAGIC, header_length, hashlib.sha256(body).digest()) + body

    @classmethod
    def from_bytes(cls, data: bytes) -> "Learned":
        """Unpack what `to_bytes` made.

        Raises:
            LearningError: If the bytes are cut off, changed, or of another version.
        """
        try:
            magic, header_length, digest = _PREFIX.unpack_from(data)
            body = data[_PREFIX.size :]
            if magic != MAGIC:
                raise LearningError(f"not a fit of this version: starts with {magic!r}, expected {MAGIC!r}")
            if hashlib.sha256(body).digest() != digest:
                raise LearningError("the fit is damaged: its checksum differs; learn again")
            header = json.loads(body[:header_length])
            arrays = _split(body[header_length:], header["arrays"])
            objectness = None
            naming = _taken(arrays, header["newcomer"])
            if header["shift"] is not None:
                objectness = ObjectnessWeights(arrays.pop(0).astype(np.float64), float(header["shift"]))
            lying = _taken(arrays, header.get("lying_newcomer"))
            return cls(
                str(header["encoder"]),
                float(header["logit_scale"]),
                tuple(map(str, header["labels"])),
                tuple(map(int, header["examples"])),
                int(header["pictures"]),
                naming,
                objectness,
                float(header["prior"]) if header["prior"] is not None else float("inf"),
                int(header.get("stuff", 0)),
                lying,
            )
        except (struct.error, ValueError, KeyError, TypeError, IndexError) as err:
            if isinstance(err, LearningError):
                raise
            raise LearningError(f"the fit cannot be read ({err}); learn again") from err

    def _body(self) -> tuple[int, bytes]:
        """Return the header's length, and header and arrays as bytes."""
        arrays: list[NDArray[np.floating]] = []
        if self.naming is not None:
            arrays += [self.naming.residual, self.naming.bias, self.naming.center]
        if self.objectness is not None:
            arrays.append(self.objectness.theta)
        if self.lying is not None:
            arrays += [self.lying.residual, self.lying.bias, self.lying.center]
        # Left out where nothing is stuff: such a fit has the bytes, and with them the identity, that it always had.
        stuff: dict[str, object] = {"stuff": self.stuff} if self.stuff else {}
        if self.lying is not None:
            stuff["lying_newcomer"] = self.lying.newcomer
        header = {
            **stuff,
            "encoder": self.encoder,
            "logit_scale": self.logit_scale,
            "labels": self.labels,
            "examples": self.examples,
            "pictures": self.pictures,
            "newcomer": None if self.naming is None else self.naming.newcomer,
            "shift": None if self.objectness is None else self.objectness.shift,
            "prior": self.prior if np.isfinite(self.prior) else None,
            "arrays": [[array.shape, "<f4" if array.dtype == np.float32 else "<f8"] for array in arrays],
        }
        text = json.dumps(header, sort_keys=True).encode()
        packed = [array.astype("<f4" if array.dtype == np.float32 else "<f8").tobytes() for array in arrays]
        return len(text), text + b"".join(packed)


def label_keys(vocabulary: Vocabulary) -> tuple[str, ...]:
    """Say which label is which, whatever its position: a digest of its prompts for each label but the background.

    The prompts are what its words are; a residual to other words would mean something else, and so would one of stuff
    to an object. The second label with the same prompts (labels are positions, not names) has a key of its own. The
    vocabulary's others have none.
    """
    seen: Counter[tuple[str, ...]] = Counter()
    keys = []
    for label in vocabulary.labels[1:]:
        prompts = label.prompts
        parts = [prompts, seen[prompts], *(["stuff"] if label.stuff else [])]
        keys.append(hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16])
        seen[prompts] += 1
    return tuple(keys)


def _taken(arrays: list[NDArray[np.floating]], newcomer: object) -> NamingWeights | None:
    """Take the next naming weights off a list of arrays, if there are any."""
    if newcomer is None:
        return None
    residual, bias, center = (arrays.pop(0).astype(np.float32) for _ in range(3))
    return NamingWeights(np.arange(len(bias)), residual, bias, center, float(str(newcomer)))


def _split(data: bytes, described: list[tuple[list[int], str]]) -> list[NDArray[np.floating]]:
    """Cut bytes into arrays of the given shapes and dtypes, which must use them up exactly."""
    arrays: list[NDArray[np.floating]] = []
    start = 0
    for shape, dtype in described:
        count = int(np.prod(shape, dtype=np.int64))
        if dtype not in ("<f4", "<f8") or not 0 <= count <= MOST_NUMBERS:
            raise LearningError(f"an array of {count} numbers of type {dtype!r} is not part of a fit")
        arrays.append(np.frombuffer(data, dtype, count, start).reshape(shape))
        start += arrays[-1].nbytes
    if start != len(data):
        raise LearningError(f"the fit's arrays have {len(data)} bytes, its header says {start}")
    return arrays
