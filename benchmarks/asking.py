"""What benchmarks ask of the running service: a project of brush labels, JPEGs, and a server to have them from."""

import base64
import io
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def brush_config(labels: Iterable[str]) -> str:
    """Return a config with one image, `$image`, and one brush control of these labels."""
    tags = "".join(f'<Label value="{label}"/>' for label in labels)
    return f'<View><Image name="i" value="$image"/><BrushLabels name="b" toName="i">{tags}</BrushLabels></View>'


def jpeg(pixels: NDArray[np.uint8], **options: object) -> bytes:
    """Encode a picture; `options` are Pillow's."""
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", **options)
    return data.getvalue()


def data_uri(file: bytes) -> str:
    """Return a JPEG as a value for a task."""
    return "data:image/jpeg;base64," + base64.b64encode(file).decode()


class _Files(SimpleHTTPRequestHandler):
    """Files, each after a while, without a line in the log for each."""

    def __init__(self, *args: Any, delay_s: float, **options: Any) -> None:
        self._delay_s = delay_s
        super().__init__(*args, **options)

    def do_GET(self) -> None:
        """Wait, then send the file."""
        time.sleep(self._delay_s)
        super().do_GET()

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@contextmanager
def serve_files(folder: Path, delay_s: float = 0.0) -> Iterator[str]:
    """Serve a folder's files on a free port of the loopback interface; yields its address, no slash at the end."""
    handler = partial(_Files, delay_s=delay_s, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
