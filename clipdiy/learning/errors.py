"""Which error learning raises of its own, and what a caller may do about it."""

from clipdiy.errors import ClipDiyError


class LearningError(ClipDiyError, ValueError):
    """A fit is damaged, of another version, or made for another core. Segment by the words, and learn again."""
