"""Is what an annotation says already known? Told by a digest of all that its rows are made of. Pure."""

import hashlib
import json
from dataclasses import fields

from backend.corrections.events import SentAnnotation

READING = 1
"""Counts up when the same annotation is read in another way, so that it is read again."""


def digest_of(annotation: SentAnnotation, label_config: str) -> bytes:
    """Return the same for the same annotation of the same task under the same config, and for nothing else.

    When it was last changed does not suffice: a task's data may change without it, and a config that gains a label, or
    names one otherwise, makes regions readable that were not.

    Args:
        annotation: As it was sent, with its task's data.
        label_config: That it is read by, whole.

    Returns:
        SHA-256, 32 bytes.
    """
    said = [getattr(annotation, field.name) for field in fields(annotation)]
    text = json.dumps([READING, label_config, said], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).digest()
