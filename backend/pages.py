"""Which pictures does a task show? One for each image of the config, or one for each page of it."""

from collections.abc import Iterable
from typing import Any

from backend.controls import MAX_PAGES, MaskControl
from backend.errors import TaskError, TaskFailure
from backend.images import image_value

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
        pages = data.get(key) if is_list and isinstance(data, dict) else None
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
