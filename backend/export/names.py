"""What are files called? Safe on every file system, unique, and the same from one export to the next. Pure."""

import re
import unicodedata
from urllib.parse import unquote, urlsplit

MOST_CHARS = 60
_UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-")


def slug(text: str) -> str:
    """Return letters, digits, `-` and `_` of a text; may be empty."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9_]+", "-", plain).strip("-")[:MOST_CHARS].strip("-")


def picture_name(task: int, address: str, *, image: int | None = None, page: int | None = None) -> str:
    """Name a picture, without an ending.

    The numbers in front make it unique; what follows is for people, and may be nothing.

    Args:
        task: Id of its task.
        address: What the task's data hold for it.
        image: Which image of the config, where there are several.
        page: Which page, where the task has several.
    """
    numbers = [f"{task:06d}"]
    numbers += [] if image is None else [f"i{image}"]
    numbers += [] if page is None else [f"p{page}"]
    return "-".join([*numbers, *filter(None, [_stem(address)])])


def class_name(number: int, label: str) -> str:
    """Name a class's folder: its number makes it unique."""
    return "-".join([f"{number:03d}", *filter(None, [slug(label)])])


def _stem(address: str) -> str:
    """Return the name of the file that an address leads to, as far as it has one."""
    if address.strip().lower().startswith("data:"):
        return ""
    parts = urlsplit(address.strip()) if _is_address(address) else None
    path = address if parts is None else parts.query.partition("d=")[2] or parts.path
    last = unquote(path).replace("\\", "/").rstrip("/").rpartition("/")[2]
    name = _UPLOAD_PREFIX.sub("", last)
    return slug(name.rpartition(".")[0] or name)


def _is_address(text: str) -> bool:
    try:
        urlsplit(text.strip())
    except ValueError:
        return False
    return True
