"""A web server on the loopback interface for images that tasks name by URL, with the CORS header browsers want."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class ImageServer:
    """What is served, by path."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._files: dict[str, tuple[str, bytes]] = {}

    def add(self, name: str, content: bytes, content_type: str = "image/png") -> str:
        """Serve a file and return its URL."""
        self._files[f"/{name}"] = (content_type, content)
        return f"{self.url}/{name}"

    def find(self, path: str) -> tuple[int, str, bytes]:
        """Return status, content type and body for a path."""
        if path not in self._files:
            return 404, "text/plain", b"no such file"
        return 200, *self._files[path]


@contextmanager
def image_server() -> Iterator[ImageServer]:
    """Serve until the block is left."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, content_type, body = files.find(self.path)
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Access-Control-Allow-Origin", "*")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    files = ImageServer(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield files
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
