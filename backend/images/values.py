"""What does a value in a task's data mean: a path of Label Studio, an address, or the picture itself? Pure.

/data/upload/1/x.png, upload/1/x.png      from Label Studio, with the token
http://<Label Studio>/data/...            the same
/data/local-files/?d=sub/x.png            from disk if a configured folder has it, else from Label Studio
s3://bucket/x.png, gs://, azure-blob://   from Label Studio, which passes it on or redirects to a signed address
https://elsewhere/x.png                   from there, never with the token
data:image/png;base64,...                 from the value itself
"""

import hashlib
import json
import re
from urllib.parse import urlsplit

from backend.errors import TaskError
from backend.images.addresses import LOCAL_FILES_PATH, is_at, show_url, split_url
from backend.images.host import LabelStudioHost

CLOUD_SCHEMES = ("s3", "s3s", "gs", "azure-blob")
SCHEMES = ("http", "https", "data", *CLOUD_SCHEMES)
UNDERSTOOD = (
    "an upload of Label Studio (/data/upload/...), a local file of it (/data/local-files/?d=...), an http or https "
    "address, a cloud address (s3://, gs://, azure-blob://) or a data: URI with base64"
)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")


def show_value(value: str) -> str:
    """Return a value fit for a message: without what may be secret or long."""
    if value[:5].lower() == "data:":
        return "the data URI"
    return show_url(value)


def scheme_of(value: str) -> str | None:
    """Return the scheme of an address in small letters, `None` for a value without one."""
    found = _SCHEME.match(value)
    return found[1].lower() if found else None


def source_key(value: str, task_id: object, host: LabelStudioHost) -> str:
    """Return a digest of everything that decides which file a value leads to.

    What is known of one source must never be believed of another: one address gives different files to different
    tokens, and a cloud address belongs to the storage of a task's project.

    Args:
        value: From a task's data.
        task_id: Of that task; counts for cloud addresses only, so that tasks may share what everybody may see.
        host: The Label Studio that the request came from.
    """
    value = value.strip()
    task = str(task_id) if scheme_of(value) in CLOUD_SCHEMES else None
    text = json.dumps([value, task, host.url, host.token, host.aliases, host.is_configured])
    return hashlib.sha256(text.encode()).hexdigest()


def as_path(value: str) -> str:
    """Bring a value without scheme to a path of Label Studio.

    Raises:
        TaskError: `unsupported-source`, if it is none.
    """
    if value.startswith("//") or "\\" in value.partition("?")[0]:
        raise TaskError("unsupported-source", f"{show_value(value)} is not understood; expected {UNDERSTOOD}")
    if value.startswith("/upload/"):
        return "/data" + value
    if value.startswith("/"):
        return value
    if value.startswith("upload/"):
        return "/data/" + value
    if value.startswith(("data/", "storage-data/")):
        return "/" + value
    raise TaskError("unsupported-source", f"{show_value(value)} is not understood; expected {UNDERSTOOD}")


def path_at(url: str, label_studio: LabelStudioHost | None) -> str | None:
    """Return the path (with query) of an address on Label Studio under any of its names, else `None`.

    Raises:
        TaskError: `unsupported-source` or `refused`, as `split_url`.
    """
    if label_studio is None:
        return None
    parts, origin = split_url(url)
    if not any(is_at(origin, known) for known in (label_studio.url, *label_studio.aliases)):
        return None
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def is_local_file(path: str, label_studio: LabelStudioHost | None) -> bool:
    """Whether a path of Label Studio is that of a local file."""
    prefix = label_studio.prefix if label_studio else ""
    return urlsplit(path).path.removeprefix(prefix).rstrip("/") == LOCAL_FILES_PATH
