"""What others did a person name? `cup, plate`, or a file with one a line."""

from pathlib import Path

from clipdiy.errors import ConfigError, VocabularyError

AUTO, NONE = "auto", "none"


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


def read_others(text: str) -> tuple[str, ...] | None:
    """Read what stands after `--others`.

    Returns:
        Words, none for `none`, or `None` for `auto`: the list of the weights.

    Raises:
        ConfigError: If a file cannot be read.
        VocabularyError: If no word is in it.
    """
    if text.strip().lower() == AUTO:
        return None
    if text.strip().lower() in (NONE, "off"):
        return ()
    path = Path(text)
    if not path.is_file() and not (path.suffix == ".txt" or "/" in text):
        return parse_words(text)
    try:
        return parse_words(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as err:
        raise ConfigError(f"cannot read the others from {path}: {err}") from err
