"""A picture that stands in the task itself. Pure."""

import base64
import binascii
from urllib.parse import unquote_to_bytes

from backend.errors import TaskError


def read_data_uri(uri: str, max_bytes: int) -> bytes:
    """Decode the base64 in `data:image/png;base64,...`.

    Raises:
        TaskError: `unsupported-source` without base64, `not-an-image` if it is damaged, `too-large` beyond `max_bytes`.
    """
    head, comma, body = uri.partition(",")
    if not comma or not head.lower().endswith(";base64"):
        raise TaskError("unsupported-source", "expected a data URI with base64: data:image/png;base64,...")
    # Four characters stand for three bytes; percent-encoding and line breaks only make it longer.
    if len(body) > max_bytes * 4:
        raise TaskError("too-large", f"expected at most {max_bytes:,} bytes in the data URI, got more")
    try:
        text = b"".join(unquote_to_bytes(body).split())
        content = base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as err:
        raise TaskError("not-an-image", "the data URI holds no valid base64") from err
    if len(content) > max_bytes:
        raise TaskError("too-large", f"expected at most {max_bytes:,} bytes, the data URI has {len(content):,}")
    return content
