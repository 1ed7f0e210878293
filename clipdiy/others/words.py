"""What others did a person name? `cup, plate`, or a file with one a line."""

from clipdiy.errors import VocabularyError


def parse_words(text: str) -> tuple[str, ...]:
    """Read words separated by commas or line ends; what stands behind a `#` is a comment.

    Returns:
        The words in order, each once, blanks around them taken away.

    Raises:
        VocabularyError: If there is none.
    """
    lines = (line.partition("#")[0] for line in text.splitlines())
    words = tuple(dict.fromkeys(word.strip() for line in lines for word in line.split(",") if word.strip()))
    if not words:
        raise VocabularyError("no other is named: write for example cup, plate, or one a line")
    return words
