"""Which pictures does a task show? One for each image of the config, or one for each page of it."""

from collections.abc import Iterable, Mapping
from typing import Any

from backend.errors import TaskError, TaskFailure
from backend.labeling.controls import MAX_PAGES, MaskControl
from backend.labeling.data_path import value_at

_UNDEFINED_KEY = "$undefined$"
"""Under which Label Studio keeps an upload until the config says what the field is called."""

ImageKey = tuple[str, int | None]
"""Field of the task's data, and the page where the field holds several (`item_index` in Label Studio's results)."""


def pictures_of(data: Any, controls: Iterable[MaskControl]) -> dict[ImageKey, str]:
    """Return the addresses of all pictures that controls look at.

    Args:
        data: The task's data.
        controls: Of one config.

    Raises:
        TaskError: `missing-data`, if a field is not there or holds something else; `too-large`, if it has more than
            `MAX_PAGES` pages.
    """
    found: dict[ImageKey, str] = {}
    for key, is_list in dict.fromkeys((control.data_key, control.is_list) for control in controls):
        pages = value_at(data, key) if is_list else None
        if not isinstance(pages, list):
            # One address where a list may stand is the first page.
            found[key, 0 if is_list else None] = image_value(data, key)
            continue
        if not 1 <= len(pages) <= MAX_PAGES:
            reason: TaskFailure = "too-large" if pages else "missing-data"
            raise TaskError(reason, f"expected 1 to {MAX_PAGES} pages in the task's {key!r}, got {len(pages)}")
        for page, value in enumerate(pages):
            found[key, page] = image_value({f"{key}[{page}]": value}, f"{key}[{page}]")
    return found


def image_value(data: object, key: str) -> str:
    """Take the image's value out of a task's data.

    Args:
        data: The task's data.
        key: The field that the config names, or a path (`doc.image`); see `backend.labeling.data_path`. Uploads made
            before there was a config stand under `$undefined$`.

    Raises:
        TaskError: `missing-data`, naming the fields there are.
    """
    if not isinstance(data, Mapping):
        raise TaskError("missing-data", f"expected the task's data as fields with names, got {type(data).__name__}")
    value = value_at(data, key)
    if value is None and key not in data:
        value = data.get(_UNDEFINED_KEY)
    if isinstance(value, str) and value.strip():
        return value
    if value is None:
        there = ", ".join(repr(str(name)[:50]) for name in list(data)[:10]) or "no field at all"
        raise TaskError("missing-data", f"the task's data has no {key!r}; it has {there}")
    kind = "an empty text" if isinstance(value, str) else type(value).__name__
    raise TaskError("missing-data", f"expected the image's address as text in the task's {key!r}, got {kind}")
