"""A small S3 server over real HTTP: it checks signatures, keeps objects in memory, and has every fault on demand.

What pyarrow's client needs, by the public description of the protocol: objects whole, in parts and by range, lists, and
signature version 4.
"""

import hashlib
import hmac
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from xml.sax.saxutils import escape

ACCESS_KEY, SECRET_KEY = "AKIATESTTESTTEST", "a-secret-that-is-only-for-tests"
_ERRORS = {
    403: "AccessDenied",
    404: "NoSuchKey",
    500: "InternalError",
    503: "SlowDown",
}


@dataclass
class Bucket:
    """One bucket."""

    objects: dict[str, bytes] = field(default_factory=dict)
    refuses: bool = False
    held: dict[str, threading.Event] = field(default_factory=dict)
    fails: dict[str, list[int]] = field(default_factory=dict)


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that were killed."""


class S3Server:
    """Runs in a thread of the test; use it as a context."""

    def __init__(self) -> None:
        self.buckets: dict[str, Bucket] = {}
        self.requests: list[tuple[str, str]] = []
        self.refused = 0
        self._uploads: dict[str, dict[int, bytes]] = {}
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> "S3Server":
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def options(self) -> str:
        """What stands behind the question mark of a place in this store."""
        address = quote(f"http://127.0.0.1:{self._server.server_address[1]}", safe="")
        return f"endpoint_override={address}&region=us-east-1"

    def bucket(self, name: str) -> Bucket:
        return self.buckets.setdefault(name, Bucket())

    def answer(
        self, method: str, target: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, bytes, dict[str, str]]:
        parts = urlsplit(target)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        name, _, key = unquote(parts.path).lstrip("/").partition("/")
        with self._lock:
            self.requests.append((method, target))
            bucket = self.buckets.get(name)
            if bucket is None or (not _is_signed(method, target, headers, body)) or bucket.refuses:
                self.refused += 1
                return self._error(404 if bucket is None else 403, "NoSuchBucket" if bucket is None else None)
            if bucket.fails.get(key):
                return self._error(bucket.fails[key].pop(0))
        with self._lock:
            return self._do(method, bucket, key, query, headers, _unchunked(headers, body))

    def drip(self, target: str, content: bytes, write: Callable[[bytes], object]) -> int:
        """Send a held object byte by byte, so that no client takes it for silent; return how many were sent."""
        name, _, key = unquote(urlsplit(target).path).lstrip("/").partition("/")
        release = self.buckets[name].held.get(key) if name in self.buckets else None
        sent = 0
        while release is not None and sent < len(content) and not release.wait(0.5):
            write(content[sent : sent + 1])
            sent += 1
        return sent

    def _do(
        self, method: str, bucket: Bucket, key: str, query: dict[str, str], headers: dict[str, str], body: bytes
    ) -> tuple[int, bytes, dict[str, str]]:
        if method == "POST" and "uploads" in query:
            upload = f"upload-{len(self._uploads)}"
            self._uploads[upload] = {}
            begun = f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>"
            return 200, begun.encode(), {}
        if method == "PUT" and "partNumber" in query:
            self._uploads[query["uploadId"]][int(query["partNumber"])] = body
            return 200, b"", {"ETag": _etag(body)}
        if method == "POST" and "uploadId" in query:
            parts = self._uploads.pop(query["uploadId"])
            bucket.objects[key] = b"".join(parts[number] for number in sorted(parts))
            etag = escape(_etag(bucket.objects[key]))
            ended = f"<CompleteMultipartUploadResult><ETag>{etag}</ETag></CompleteMultipartUploadResult>"
            return 200, ended.encode(), {}
        if method == "DELETE" and "uploadId" in query:
            self._uploads.pop(query["uploadId"], None)
            return 204, b"", {}
        if method == "PUT":
            bucket.objects[key] = body
            return 200, b"", {"ETag": _etag(body)}
        if method == "DELETE":
            bucket.objects.pop(key, None)
            return 204, b"", {}
        if not key:
            return (200, b"", {"x-amz-bucket-region": "us-east-1"}) if method == "HEAD" else self._list(bucket, query)
        if key not in bucket.objects:
            return self._error(404)
        data = bucket.objects[key]
        described = {"ETag": _etag(data), "Last-Modified": formatdate(0, usegmt=True), "Accept-Ranges": "bytes"}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", headers.get("range", ""))
        if wanted and method == "GET":
            first, last = int(wanted[1]), min(int(wanted[2] or len(data)), len(data) - 1)
            described["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
            return 206, data[first : last + 1], described
        return 200, data, described

    def _list(self, bucket: Bucket, query: dict[str, str]) -> tuple[int, bytes, dict[str, str]]:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        keys = sorted(key for key in bucket.objects if key.startswith(prefix))
        start = int(query.get("continuation-token", "0"))
        most = min(int(query.get("max-keys", "1000")), 1000)
        contents, prefixes = [], {}
        for key in keys[start : start + most]:
            rest = key[len(prefix) :]
            if delimiter and delimiter in rest:
                prefixes[prefix + rest.split(delimiter)[0] + delimiter] = True
            else:
                size = len(bucket.objects[key])
                contents.append(
                    f"<Contents><Key>{escape(key)}</Key><Size>{size}</Size><ETag>{_etag(bucket.objects[key])}</ETag>"
                    "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
                )
        folders = [f"<CommonPrefixes><Prefix>{escape(one)}</Prefix></CommonPrefixes>" for one in prefixes]
        is_cut = start + most < len(keys)
        more = f"<NextContinuationToken>{start + most}</NextContinuationToken>" if is_cut else ""
        count = len(contents) + len(folders)
        found = f"<IsTruncated>{str(is_cut).lower()}</IsTruncated><KeyCount>{count}</KeyCount>{more}"
        listed = "".join(contents) + "".join(folders)
        return 200, f"<ListBucketResult>{found}{listed}</ListBucketResult>".encode(), {}

    def _error(self, status: int, code: str | None = None) -> tuple[int, bytes, dict[str, str]]:
        text = f"<Error><Code>{code or _ERRORS[status]}</Code><Message>no</Message></Error>"
        return status, text.encode(), {}

    def _handler(s3) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self._body()
                headers = {name.lower(): value for name, value in self.headers.items()}
                status, content, described = s3.answer(self.command, self.path, headers, body)
                try:
                    self.send_response(status)
                    for name, value in {"Content-Type": "application/xml", **described}.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    if self.command != "HEAD":
                        sent = s3.drip(self.path, content, self.wfile.write) if self.command == "GET" else 0
                        self.wfile.write(content[sent:])
                except OSError:
                    self.close_connection = True  # the client has given up

            def _body(self) -> bytes:
                if self.headers.get("Transfer-Encoding", "") != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length", 0)))
                body = b""
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return body

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer

            def log_message(self, *args: Any) -> None:
                """Say nothing."""

        return Handler


def _etag(data: bytes) -> str:
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'


def _unchunked(headers: dict[str, str], body: bytes) -> bytes:
    """Take the pieces of a body that carries its own checksums together."""
    if "aws-chunked" not in headers.get("content-encoding", ""):
        return body
    data = b""
    while body:
        line, _, body = body.partition(b"\r\n")
        size = int(line.split(b";")[0], 16)
        if size == 0:
            break
        data, body = data + body[:size], body[size + 2 :]
    return data


def _is_signed(method: str, target: str, headers: dict[str, str], body: bytes) -> bool:
    """Whether a request is signed with our key, by version 4 of the signature."""
    found = re.fullmatch(
        r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d+)/([^/]+)/s3/aws4_request, ?SignedHeaders=([^,]+), ?Signature=(\w+)",
        headers.get("authorization", ""),
    )
    if not found or found[1] != ACCESS_KEY:
        return False
    parts = urlsplit(target)
    query = sorted(parse_qsl(parts.query, keep_blank_values=True))
    canonical_query = "&".join(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in query)
    signed = found[4].split(";")
    canonical_headers = "".join(f"{name}:{' '.join(headers.get(name, '').split())}\n" for name in signed)
    payload = headers.get("x-amz-content-sha256", "")
    if re.fullmatch(r"[0-9a-f]{64}", payload) and payload != hashlib.sha256(body).hexdigest():
        return False
    canonical = "\n".join([method, parts.path, canonical_query, canonical_headers, found[4], payload])
    scope = f"{found[2]}/{found[3]}/s3/aws4_request"
    text = "\n".join(
        ["AWS4-HMAC-SHA256", headers.get("x-amz-date", ""), scope, hashlib.sha256(canonical.encode()).hexdigest()]
    )
    key = f"AWS4{SECRET_KEY}".encode()
    for part in (found[2], found[3], "s3", "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.compare_digest(hmac.new(key, text.encode(), hashlib.sha256).hexdigest(), found[5])
