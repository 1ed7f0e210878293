"""Bytes from an address that somebody else chose: what is fetched, what is refused, and where it stops."""

import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate, parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from web_server import Names, Reply, WebServer

from backend.deadline import Deadline
from backend.errors import TaskError
from backend.images.host import LabelStudioHost
from backend.images.outbound import Outbound
from backend.images.policy import HostPolicy
from backend.images.versions import Fetched, Validator, digest_of

LOCAL = HostPolicy(private_hosts=("127.0.0.1",))


@pytest.fixture
def web() -> Iterator[WebServer]:
    with WebServer() as server:
        yield server


@pytest.fixture
def other_web() -> Iterator[WebServer]:
    with WebServer() as server:
        yield server


def get(
    url: str,
    policy: HostPolicy = LOCAL,
    *,
    max_bytes: int = 100_000,
    timeout_s: float = 5.0,
    home: LabelStudioHost | None = None,
    authorization: str | None = None,
    **options: Any,
) -> bytes:
    outbound = Outbound(policy, **options)
    return outbound.get(
        url, max_bytes=max_bytes, deadline=Deadline.after(timeout_s), home=home, authorization=authorization
    )


def reason_of(fetch: Callable[[], object]) -> str:
    with pytest.raises(TaskError) as caught:
        fetch()
    return caught.value.reason


def test_downloads_a_file(web: WebServer) -> None:
    web.replies["/x.png"] = Reply(body=b"bytes" * 10_000)
    assert get(f"{web.url}/x.png") == b"bytes" * 10_000
    (seen,) = web.seen
    assert seen.headers["host"] == f"127.0.0.1:{web.port}"
    assert "authorization" not in seen.headers


def test_downloads_what_is_sent_in_chunks(web: WebServer) -> None:
    def chunks(write: Callable[[bytes], object], ending: threading.Event) -> None:
        write(b"3\r\nabc\r\n4;ext=1\r\ndefg\r\n0\r\n\r\n")

    # The test server speaks HTTP/1.0; chunks are understood by their header.
    web.replies["/"] = Reply(body=chunks, headers={"Transfer-Encoding": "chunked"})
    assert get(web.url) == b"abcdefg"


def test_downloads_what_has_no_length(web: WebServer) -> None:
    web.replies["/"] = Reply(body=b"abc", announce_length=False)
    assert get(web.url) == b"abc"


PATHS = {
    "blank": ("/my photo.png", "/my%20photo.png"),
    "not ASCII": ("/früh.png", "/fr%C3%BCh.png"),
    "encoded already": ("/a%20b%2Fc.png", "/a%20b%2Fc.png"),
    "query": ("/x?filepath=a b&c=d/e", "/x?filepath=a%20b&c=d/e"),
    "fragment": ("/x.png#part", "/x.png"),
    "null": ("/x\0y", "/x%00y"),
    "signature": ("/x?X-Amz-Signature=a%2Bb%3D&t=2026:1", "/x?X-Amz-Signature=a%2Bb%3D&t=2026:1"),
}


@pytest.mark.parametrize(("path", "sent"), PATHS.values(), ids=PATHS)
def test_paths_are_sent_as_browsers_do(web: WebServer, path: str, sent: str) -> None:
    web.replies[sent.partition("?")[0]] = Reply(body=b"ok")
    assert get(web.url + path) == b"ok"
    assert web.seen[0].path == sent


STATUSES = {
    "unauthorized": (401, "unauthorized"),
    "forbidden": (403, "unauthorized"),
    "not found": (404, "not-found"),
    "gone": (410, "not-found"),
    "server error": (500, "download"),
    "too many requests": (429, "download"),
    "no content": (204, "download"),
    "part of it": (206, "download"),
    "not modified": (304, "download"),
}


@pytest.mark.parametrize(("status", "reason"), STATUSES.values(), ids=STATUSES)
def test_statuses_have_reasons(web: WebServer, status: int, reason: str) -> None:
    web.replies["/x"] = Reply(status)
    with pytest.raises(TaskError, match=str(status)) as caught:
        get(f"{web.url}/x?token=secret")
    assert caught.value.reason == reason
    assert "secret" not in str(caught.value)


def test_too_large_is_known_from_the_header(web: WebServer) -> None:
    web.replies["/"] = Reply(body=b"x" * 1001)
    with pytest.raises(TaskError, match=r"at most 1,000 bytes, .* has 1,001") as caught:
        get(web.url, max_bytes=1000)
    assert caught.value.reason == "too-large"
    web.replies["/"] = Reply(body=b"x" * 1000)
    assert len(get(web.url, max_bytes=1000)) == 1000


def test_too_large_without_a_length_stops_the_download(web: WebServer) -> None:
    sent = []

    def endless(write: Callable[[bytes], object], ending: threading.Event) -> None:
        while not ending.is_set():
            write(b"x" * 10_000)
            sent.append(10_000)

    web.replies["/"] = Reply(body=endless)
    assert reason_of(lambda: get(web.url, max_bytes=100_000)) == "too-large"
    assert sum(sent) < 20_000_000, "what the buffers in between hold, but no more"


def test_a_download_that_breaks_off_is_noticed(web: WebServer) -> None:
    web.replies["/"] = Reply(body=b"abc", announce_length=False, headers={"Content-Length": "10"})
    with pytest.raises(TaskError, match="broke off after 3 of 10 bytes") as caught:
        get(web.url)
    assert caught.value.reason == "download"


def test_compressed_answers_are_refused(web: WebServer) -> None:
    web.replies["/"] = Reply(body=b"abc", headers={"Content-Encoding": "gzip"})
    assert reason_of(lambda: get(web.url)) == "download"
    assert web.seen[0].headers["accept-encoding"] == "identity"


def drip(write: Callable[[bytes], object], ending: threading.Event) -> None:
    while not ending.wait(0.02):
        write(b"1")


HELD_S = 30.0
"""For how long a silent server holds whoever waits for it."""
NOT_HELD_S = 20.0


def silence(write: Callable[[bytes], object], ending: threading.Event) -> None:
    ending.wait(HELD_S)


SLOW = {
    "nothing after the header": Reply(body=silence),
    "a byte now and then": Reply(body=drip),
    "a chunk's length, digit by digit": Reply(body=drip, headers={"Transfer-Encoding": "chunked"}),
}


@pytest.mark.parametrize("reply", SLOW.values(), ids=SLOW)
def test_the_whole_download_has_one_deadline(web: WebServer, reply: Reply) -> None:
    web.replies["/"] = reply
    begun = time.monotonic()
    assert reason_of(lambda: get(web.url, timeout_s=0.3)) == "timeout"
    assert time.monotonic() - begun < NOT_HELD_S


@pytest.mark.parametrize("greeting", [b"", b"HTTP/1.1 200 OK\r\nX: "], ids=["silent", "endless header"])
def test_a_server_that_never_comes_to_the_point_runs_into_the_deadline(greeting: bytes) -> None:
    ending = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(greeting)
                while not ending.wait(0.02):
                    try:
                        connection.sendall(b"x" if greeting else b"")
                    except OSError:
                        return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        begun = time.monotonic()
        assert reason_of(lambda: get(f"http://127.0.0.1:{listener.getsockname()[1]}/", timeout_s=0.3)) == "timeout"
        assert time.monotonic() - begun < NOT_HELD_S
        ending.set()
        thread.join()


def test_redirects_are_part_of_the_deadline(web: WebServer) -> None:
    def slowly(seen: object) -> Reply:
        time.sleep(0.2)
        return Reply(302, headers={"Location": "/"})

    web.replies["/"] = slowly
    assert reason_of(lambda: get(web.url, timeout_s=0.5, max_redirects=100)) == "timeout"
    assert len(web.seen) <= 4


def test_nonsense_instead_of_http_is_an_error_of_that_download() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"\x16\x03\x01 hello\r\n\r\n")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        assert reason_of(lambda: get(f"http://127.0.0.1:{listener.getsockname()[1]}/")) == "download"
        thread.join()


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_nobody_there_says_so_and_thinks_of_containers() -> None:
    with pytest.raises(
        TaskError, match=r"ConnectionRefusedError; inside a container 127.0.0.1 is the container itself"
    ):
        get(f"http://127.0.0.1:{closed_port()}/")


def test_a_name_that_does_not_exist() -> None:
    with pytest.raises(TaskError, match=r"nowhere\.test cannot be resolved") as caught:
        get("http://nowhere.test/x.png", resolve=Names())
    assert caught.value.reason == "download"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(web: WebServer, other_web: WebServer, status: int) -> None:
    web.replies["/a/b"] = Reply(status, headers={"Location": "../c?d=1"})
    web.replies["/c"] = Reply(status, headers={"Location": f"{other_web.url}/x"})
    other_web.replies["/x"] = Reply(body=b"ok")
    assert get(f"{web.url}/a/b") == b"ok"
    assert [seen.path for seen in web.seen] == ["/a/b", "/c?d=1"]


BAD_REDIRECTS = {
    "in a circle": ("/", "too-many-redirects"),
    "to nowhere": (None, "download"),
    "to another scheme": ("ftp://127.0.0.1/x", "unsupported-source"),
    "to a file": ("file:///etc/passwd", "unsupported-source"),
    "to a host without a name": ("http://:81/x", "unsupported-source"),
    "to a bad port": ("http://127.0.0.1:99999/", "unsupported-source"),
    "with a password": ("http://a:b@127.0.0.1/", "refused"),
    "to this machine": ("http://localhost/", "refused"),
    "to the cloud's credentials": ("http://metadata.test/latest", "refused"),
}


@pytest.mark.parametrize(("location", "reason"), BAD_REDIRECTS.values(), ids=BAD_REDIRECTS)
def test_bad_redirects(web: WebServer, location: str | None, reason: str) -> None:
    web.replies["/"] = Reply(302, headers={} if location is None else {"Location": location})
    names = Names(**{"127_0_0_1": "127.0.0.1", "localhost": "127.0.0.1", "metadata_test": "169.254.169.254"})
    assert reason_of(lambda: get(web.url, resolve=names)) == reason


@pytest.mark.parametrize("spelling", ["127.0.0.1", "127.1", "2130706433", "0x7f.1", "localhost", "[::1]"])
def test_this_machine_is_not_asked_however_it_is_spelled(web: WebServer, spelling: str) -> None:
    assert reason_of(lambda: get(web.url_as(spelling), HostPolicy())) in ("refused", "download")
    assert web.seen == []


def test_a_name_is_looked_up_once_and_the_checked_address_is_connected_to(web: WebServer) -> None:
    web.replies["/"] = Reply(body=b"ok")
    names = Names(site_test="127.0.0.1")
    assert get(web.url_as("site.test"), HostPolicy(private_hosts=("site.test",)), resolve=names) == b"ok"
    assert names.asked == ["site.test"]
    assert web.seen[0].headers["host"] == f"site.test:{web.port}"


def test_of_several_addresses_only_the_allowed_are_tried(web: WebServer) -> None:
    web.replies["/"] = Reply(body=b"ok")
    policy = HostPolicy(allow_private_addresses=True)
    # The first is refused, nobody listens on the second, the third answers.
    names = Names(site_test=["169.254.169.254", "127.0.0.9", "127.0.0.1"])
    assert get(web.url_as("site.test"), policy, resolve=names) == b"ok"


def test_a_name_without_any_address_is_no_crash() -> None:
    assert reason_of(lambda: get("http://site.test/", resolve=Names(site_test=[]))) == "download"


def test_a_closed_scheme_is_closed_for_redirects_too(web: WebServer, other_web: WebServer) -> None:
    closed = HostPolicy(schemes=("https",), allow_private_addresses=True)
    other_web.replies["/x"] = Reply(body=b"ok")
    assert reason_of(lambda: get(f"{other_web.url}/x", policy=closed)) == "refused"
    # Label Studio itself is asked however it can be reached; where it sends us is not.
    home = LabelStudioHost(web.url, is_configured=True)
    web.replies["/here"] = Reply(302, headers={"Location": "/there"})
    web.replies["/there"] = Reply(body=b"home")
    web.replies["/away"] = Reply(302, headers={"Location": f"{other_web.url}/x"})
    assert get(f"{web.url}/here", policy=closed, home=home) == b"home"
    assert reason_of(lambda: get(f"{web.url}/away", policy=closed, home=home)) == "refused"
    assert not other_web.seen


def test_label_studio_may_be_private_and_gets_the_credentials_nobody_else_does(
    web: WebServer, other_web: WebServer
) -> None:
    home = LabelStudioHost(web.url, is_configured=True)
    web.replies["/x"] = Reply(303, headers={"Location": f"{other_web.url_as('store.test')}/y"})
    other_web.replies["/y"] = Reply(302, headers={"Location": f"{web.url}/z"})
    web.replies["/z"] = Reply(body=b"ok")
    policy = HostPolicy(allowed_hosts=("store.test",), private_hosts=("store.test",))
    names = Names(**{"127_0_0_1": "127.0.0.1", "store_test": "127.0.0.1"})
    assert get(f"{web.url}/x", policy, home=home, authorization="Token secret", resolve=names) == b"ok"
    assert web.authorizations() == ["Token secret", "Token secret"]
    assert other_web.authorizations() == [None]


def test_a_label_studio_that_only_introduced_itself_is_a_host_like_any_other(web: WebServer) -> None:
    home = LabelStudioHost(web.url)
    assert reason_of(lambda: get(web.url, HostPolicy(), home=home, authorization="x")) == "refused"
    assert reason_of(lambda: get(web.url, HostPolicy(denied_hosts=("127.0.0.1",)), home=home)) == "refused"
    assert web.seen == []


@pytest.mark.parametrize("path", ["/user/login/?next=/data/x.png", "/base/user/login"])
def test_being_sent_to_the_login_page_means_unauthorized(web: WebServer, path: str) -> None:
    web.replies["/x"] = Reply(302, headers={"Location": path})
    home = LabelStudioHost(web.url, is_configured=True)
    assert reason_of(lambda: get(f"{web.url}/x", home=home)) == "unauthorized"


@settings(max_examples=100)
@given(st.text(max_size=40))
def test_any_text_is_fetched_or_refused(text: str) -> None:
    for url in (text, "http://" + text, "http://site.test" + text):
        with pytest.raises(TaskError):
            get(url, HostPolicy(), resolve=Names(site_test="127.0.0.1"))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for secure.test, with its key in one file."""
    folder = tmp_path_factory.mktemp("certificate")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=secure.test"
    files = ["-addext", "subjectAltName=DNS:secure.test", "-keyout", str(folder / "key"), "-out", str(folder / "cert")]
    subprocess.run([*command.split(), *files], check=True, capture_output=True, timeout=30)
    both = folder / "both.pem"
    both.write_bytes((folder / "key").read_bytes() + (folder / "cert").read_bytes())
    return both


@pytest.fixture
def secure_web(web: WebServer, certificate: Path) -> Iterator[WebServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    # The handshake belongs into the thread of the request, not into the loop that accepts.
    web.server.socket = context.wrap_socket(web.server.socket, server_side=True, do_handshake_on_connect=False)
    web.server.handle_error = lambda *_: None  # type: ignore[method-assign]
    web.replies["/"] = Reply(body=b"ok")
    return web


SECURE_NAMES = Names(secure_test="127.0.0.1", other_test="127.0.0.1")
SECURE_POLICY = HostPolicy(private_hosts=("*.test",))


def test_certificates_are_checked(secure_web: WebServer) -> None:
    with pytest.raises(TaskError, match=r"certificate of secure\.test is not trusted.*SSL_CERT_FILE"):
        get(f"https://secure.test:{secure_web.port}/", SECURE_POLICY, resolve=SECURE_NAMES)
    assert secure_web.seen == []


def test_an_own_authority_is_trusted_for_its_name_only(
    secure_web: WebServer, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert get(f"https://secure.test:{secure_web.port}/", SECURE_POLICY, resolve=SECURE_NAMES) == b"ok"
    with pytest.raises(TaskError, match=r"certificate of other\.test is not trusted"):
        get(f"https://other.test:{secure_web.port}/", SECURE_POLICY, resolve=SECURE_NAMES)


def test_a_handshake_that_never_ends_runs_into_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://secure.test:{listener.getsockname()[1]}/"
        begun = time.monotonic()
        assert reason_of(lambda: get(url, SECURE_POLICY, resolve=SECURE_NAMES, timeout_s=0.3)) == "timeout"
        assert time.monotonic() - begun < NOT_HELD_S


def dated(age_s: int, body: bytes = b"old") -> Callable[[Any], Reply]:
    """A file of a server that says "unchanged" of what is older, too."""
    modified = 1_800_000_000 - age_s

    def reply(seen: Any) -> Reply:
        since = seen.headers.get("if-modified-since") if seen else None
        if since and parsedate_to_datetime(since).timestamp() >= modified:
            return Reply(304)
        now, then = formatdate(1_800_000_000, usegmt=True), formatdate(modified, usegmt=True)
        return Reply(body=body, headers={"Last-Modified": then, "Date": now})

    return reply


class TestVersions:
    """A file is downloaded again only if its source says that it changed."""

    @pytest.fixture
    def versions(self) -> Iterator[WebServer]:
        def by_etag(seen: Any) -> Reply:
            if seen.headers.get("if-none-match") == '"1"':
                return Reply(304, headers={"ETag": '"1"'})
            return Reply(body=b"first", headers={"ETag": '"1"'})

        with WebServer() as web:
            web.replies["/etag"] = by_etag
            web.replies["/also-1"] = by_etag
            web.replies["/old"] = dated(3600)
            web.replies["/new"] = dated(2)
            web.replies["/none"] = Reply(body=b"x")
            web.replies["/lies"] = Reply(304)
            web.replies["/moved"] = Reply(302, headers={"Location": "/etag"})
            web.replies["/signed"] = lambda _seen: Reply(
                302, headers={"Location": f"/etag?X-Amz-Signature={len(web.seen)}&X-Amz-Date={len(web.seen)}"}
            )
            yield web

    def fetch(self, web: WebServer, path: str, known: Validator | None = None) -> Fetched:
        return Outbound(LOCAL).get_if_changed(web.url + path, max_bytes=100, deadline=Deadline.after(5), known=known)

    @pytest.mark.parametrize("path", ["/etag", "/old", "/moved", "/signed"])
    def test_unchanged(self, versions: WebServer, path: str) -> None:
        first = self.fetch(versions, path)
        assert first.data
        assert first.validator is not None
        second = self.fetch(versions, path, first.validator)
        assert second == Fetched(None, first.validator)

    def test_changed(self, versions: WebServer) -> None:
        versions.replies["/changing"] = Reply(body=b"0", headers={"ETag": '"0"'})
        known = self.fetch(versions, "/changing").validator
        versions.replies["/changing"] = Reply(body=b"1", headers={"ETag": '"1"'})
        assert self.fetch(versions, "/changing", known).data == b"1"

    def test_an_entity_tag_counts_where_it_came_from_only(self, versions: WebServer) -> None:
        """Many servers count versions from 1, so an equal tag behind a redirect that changed says nothing."""
        known = self.fetch(versions, "/moved").validator
        versions.replies["/moved"] = Reply(302, headers={"Location": "/also-1"})
        assert self.fetch(versions, "/moved", known).data == b"first"
        assert "if-none-match" not in versions.seen[-1].headers

    def test_an_unchanged_file_is_not_read(self, versions: WebServer) -> None:
        first = self.fetch(versions, "/old")
        date = versions.replies["/old"]

        def endless(write: Callable[[bytes], object], ending: threading.Event) -> None:
            ending.wait(HELD_S)

        reply = date(None) if callable(date) else date
        versions.replies["/old"] = Reply(body=endless, headers={**reply.headers, "Content-Length": "3"})
        begun = time.monotonic()
        assert self.fetch(versions, "/old", first.validator).data is None
        assert time.monotonic() - begun < NOT_HELD_S

    @pytest.mark.parametrize("age_s", [1800, 7200], ids=["newer", "older"])
    def test_dates_are_compared_exactly(self, versions: WebServer, age_s: int) -> None:
        known = self.fetch(versions, "/old").validator
        versions.replies["/old"] = dated(age_s)
        assert self.fetch(versions, "/old", known).data == b"old"

    def test_a_file_of_the_same_date_and_another_length_is_another(self, versions: WebServer) -> None:
        known = self.fetch(versions, "/old").validator
        versions.replies["/old"] = dated(3600, b"other")
        assert self.fetch(versions, "/old", known).data == b"other"

    def test_a_time_too_young_to_tell_versions_apart_is_not_kept(self, versions: WebServer) -> None:
        assert self.fetch(versions, "/new").validator is None

    def test_a_source_without_versions(self, versions: WebServer) -> None:
        assert self.fetch(versions, "/none") == Fetched(b"x", None)

    def test_a_304_that_nobody_asked_for(self, versions: WebServer) -> None:
        for known in (None, self.fetch(versions, "/etag").validator, self.fetch(versions, "/old").validator):
            with pytest.raises(TaskError) as caught:
                self.fetch(versions, "/lies", known)
            assert caught.value.reason == "download"

    @pytest.mark.parametrize("etag", ['"a\r\nX-Injected: 1"', "\u20ac"], ids=["line break", "no latin-1"])
    def test_a_hostile_etag_is_no_header(self, versions: WebServer, etag: str) -> None:
        with pytest.raises(TaskError):
            self.fetch(versions, "/etag", Validator(etag=etag, at=digest_of(versions.url + "/etag")))
        assert not any("x-injected" in seen.headers for seen in versions.seen)


def test_a_neighbour_may_have_a_loopback_address_and_no_other_private_one(web: WebServer) -> None:
    web.replies["/x"] = Reply(body=b"here")
    near = LabelStudioHost(web.url, is_neighbour=True)
    assert get(f"{web.url}/x", HostPolicy(), home=near) == b"here"
    assert reason_of(lambda: get(f"{web.url}/x", HostPolicy(), home=LabelStudioHost(web.url))) == "refused"
    other_port = web.url.rpartition(":")[0] + ":1"
    assert reason_of(lambda: get(f"{other_port}/x", HostPolicy(), home=near)) == "refused", "only itself"
    inside = LabelStudioHost("http://site.test:80", is_neighbour=True)
    names = Names(site_test="10.0.0.7")
    assert reason_of(lambda: get("http://site.test/x", HostPolicy(), home=inside, resolve=names)) == "refused"
    denied = HostPolicy(denied_hosts=("127.0.0.1", "localhost"))
    assert reason_of(lambda: get(f"{web.url}/x", denied, home=near)) == "refused"
