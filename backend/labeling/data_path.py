"""Where does `$doc.images[0].url` lead in a task's data? Looked up as the browser does. Pure."""

import re
from collections.abc import Mapping
from typing import Any

_STEP = re.compile(r"[^.\[\]]+")


def value_at(data: object, key: str) -> Any:
    """Return what a config's variable names in a task's data, `None` if it is not there.

    A field of just that name comes first; else the name is a path of fields and places in lists.

    Args:
        data: The task's data.
        key: What stands behind the `$`: `image`, `doc.image`, `pages[0].url`.
    """
    if isinstance(data, Mapping) and key in data:
        return data[key]
    found: Any = data
    for step in _STEP.findall(key):
        name = step.strip("\"'")
        if isinstance(found, Mapping):
            found = found.get(name)
        elif isinstance(found, list) and name.isascii() and name.isdecimal() and int(name[:9]) < len(found):
            found = found[int(name[:9])]
        else:
            return None
    return found
