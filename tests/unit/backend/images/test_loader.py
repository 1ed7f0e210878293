"""Every kind of value a task may hold, from real servers and folders, and what must not get out or in."""

import base64
import io
import json
import os
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from web_server import Names, Reply, Seen, WebServer

from backend.deadline import Deadline
from backend.errors import SettingsError, TaskError
from backend.images.host import LabelStudioHost
from backend.images.loader import ImageLoader
from backend.images.sources import ImageLimits, ImageSources
from backend.images.values import SCHEMES, show_value

TOKEN = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def label_studio() -> Iterator[WebServer]:
    with WebServer() as server:
        yield server


@pytest.fixture
def elsewhere() -> Iterator[WebServer]:
    with WebServer() as server:
        yield server


def picture(size_hw: tuple[int, int] = (30, 40), kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((*size_hw, 3), 90, np.uint8)).save(file, kind, **options)
    return file.getvalue()


PNG = picture()
PROGRESSIVE = picture(kind="JPEG", progressive=True)
NAMES = Names(**{"127_0_0_1": "127.0.0.1", "site_test": "127.0.0.1", "ls_test": "127.0.0.1", "localhost": "127.0.0.1"})


def loader(label_studio: WebServer | str | None = None, **sources: Any) -> ImageLoader:
    """A loader for which site.test is a public host."""
    url = label_studio.url if isinstance(label_studio, WebServer) else label_studio
    limits = sources.pop("limits", None)
    options = {"token": TOKEN, "private_hosts": ("site.test",), **sources}
    return ImageLoader(ImageSources(label_studio_url=url, **options), limits, keep_px=20, resolve=NAMES)


def failure(load: ImageLoader, value: str, **arguments: Any) -> TaskError:
    with pytest.raises(TaskError) as caught:
        load.load(value, **arguments)
    assert TOKEN not in str(caught.value)
    assert "secret" not in str(caught.value)
    return caught.value


FROM_LABEL_STUDIO = {
    "upload": ("/data/upload/1/x.png", "/data/upload/1/x.png"),
    "upload as exported": ("upload/1/x.png", "/data/upload/1/x.png"),
    "upload as exported, with a slash": ("/upload/1/x.png", "/data/upload/1/x.png"),
    "without the first slash": ("data/upload/1/x.png", "/data/upload/1/x.png"),
    "blanks around": (" /data/upload/1/x.png\n", "/data/upload/1/x.png"),
    "blank in the name": ("/data/upload/1/my x.png", "/data/upload/1/my%20x.png"),
    "kept in a cloud": ("/storage-data/uploaded/?filepath=upload/1/x.png", None),
    "local file": ("/data/local-files/?d=sub/x.png", None),
    "anything else": ("/somewhere/x.png?y=1", None),
}


@pytest.mark.parametrize(("value", "path"), FROM_LABEL_STUDIO.values(), ids=FROM_LABEL_STUDIO)
def test_paths_are_asked_of_label_studio_with_the_token(label_studio: WebServer, value: str, path: str | None) -> None:
    path = path or value
    label_studio.replies[path.partition("?")[0]] = Reply(body=PNG)
    photo = loader(label_studio).load(value)
    assert photo.size_hw == (30, 40)
    assert photo.pixels.shape == (15, 20, 3), "no more pixels than are looked at"
    assert [seen.path for seen in label_studio.seen] == [path]
    assert label_studio.authorizations() == [f"Token {TOKEN}"]


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "ls.test"])
def test_label_studios_own_addresses_are_asked_where_it_is_for_us(label_studio: WebServer, name: str) -> None:
    # localhost is what it calls itself on /setup, ls.test its public name: neither need lead there from here.
    label_studio.replies["/data/upload/1/x.png"] = Reply(body=PNG)
    own_address = label_studio.url if name == "127.0.0.1" else f"http://{name}:8080"
    load = loader(label_studio, label_studio_aliases=("http://ls.test:8080",))
    value = f"{own_address}/data/upload/1/x.png?v=1"
    assert load.fetch(value, host=LabelStudioHost("http://localhost:8080")) == PNG
    assert label_studio.seen[0].path == "/data/upload/1/x.png?v=1"
    assert label_studio.authorizations() == [f"Token {TOKEN}"]


@pytest.mark.parametrize("value", ["/data/upload/1/x.png", "/base/data/upload/1/x.png"])
def test_a_label_studio_below_a_path(label_studio: WebServer, value: str) -> None:
    label_studio.replies["/base/data/upload/1/x.png"] = Reply(body=PNG)
    assert loader(f"{label_studio.url}/base/").fetch(value) == PNG


def test_other_hosts_never_get_the_token(label_studio: WebServer, elsewhere: WebServer) -> None:
    elsewhere.replies["/x.png"] = Reply(body=PNG)
    assert loader(label_studio).fetch(f"{elsewhere.url_as('site.test')}/x.png?sig=1") == PNG
    assert elsewhere.authorizations() == [None]
    assert label_studio.seen == []


def test_a_host_that_sends_us_to_label_studio_gets_nothing_out_of_it(
    label_studio: WebServer, elsewhere: WebServer
) -> None:
    elsewhere.replies["/x.png"] = Reply(302, headers={"Location": f"{label_studio.url}/api/users/1"})
    failure(loader(label_studio), f"{elsewhere.url_as('site.test')}/x.png")
    assert label_studio.authorizations() == [None]


CLOUD = ["s3://bucket/a b/x.png", "gs://bucket/x.png", "azure-blob://container/ü.png"]


@pytest.mark.parametrize("task_id", [7, "7"])
@pytest.mark.parametrize("uri", CLOUD)
def test_cloud_addresses_are_resolved_by_label_studio(
    label_studio: WebServer, elsewhere: WebServer, uri: str, task_id: object
) -> None:
    signed = f"{elsewhere.url_as('site.test')}/signed?X-Amz-Signature=secret"
    label_studio.replies["/tasks/7/presign/"] = Reply(303, headers={"Location": signed})
    elsewhere.replies["/signed"] = Reply(body=PNG)
    assert loader(label_studio).fetch(uri, task_id=task_id) == PNG
    asked = label_studio.seen[0].path.partition("?fileuri=")[2]
    assert base64.urlsafe_b64decode(asked).decode() == uri
    assert label_studio.authorizations() == [f"Token {TOKEN}"]
    assert elsewhere.authorizations() == [None]
    assert elsewhere.seen[0].path == "/signed?X-Amz-Signature=secret"


def test_cloud_files_may_come_from_label_studio_itself(label_studio: WebServer) -> None:
    label_studio.replies["/tasks/7/presign/"] = Reply(body=PNG)
    assert loader(label_studio).fetch("s3://bucket/x.png", task_id=7) == PNG


@pytest.mark.parametrize("task_id", [None, "", "../1", "7?x=1", -1])
def test_cloud_addresses_need_a_task(label_studio: WebServer, task_id: object) -> None:
    assert failure(loader(label_studio), "s3://bucket/x.png", task_id=task_id).reason == "unsupported-source"
    assert label_studio.seen == []


def test_a_cloud_address_that_label_studio_cannot_resolve_is_named(label_studio: WebServer) -> None:
    error = failure(loader(label_studio), "s3://bucket/x.png", task_id=7)
    assert error.reason == "not-found"
    assert "s3://bucket/x.png" in str(error)


def test_without_a_configured_label_studio_the_one_that_asks_is_asked(label_studio: WebServer) -> None:
    label_studio.replies["/data/upload/1/x.png"] = Reply(body=PNG)
    host = LabelStudioHost(label_studio.url_as("site.test"), "its-own-token")
    assert loader().fetch("/data/upload/1/x.png", host=host) == PNG
    assert label_studio.authorizations() == ["Token its-own-token"], "never ours: anybody could introduce himself"


def test_a_label_studio_that_nobody_configured_may_not_be_private(label_studio: WebServer) -> None:
    error = failure(loader(), "/data/upload/1/x.png", host=LabelStudioHost(label_studio.url, "its-own-token"))
    assert error.reason == "refused"
    assert "configured Label Studio or explicitly allowed" in str(error)
    assert label_studio.seen == []


def test_the_token_that_label_studio_sends_serves_the_configured_one(label_studio: WebServer) -> None:
    label_studio.replies["/data/upload/1/x.png"] = Reply(body=PNG)
    load = loader(label_studio, token=None)
    assert load.fetch("/data/upload/1/x.png", host=LabelStudioHost("http://other.test", "sent-token\n")) == PNG
    assert label_studio.authorizations() == ["Token sent-token"]


@pytest.mark.parametrize("url", ["", "no address", "ftp://x", "http://[", None])
def test_an_introduction_that_is_none_changes_nothing(elsewhere: WebServer, url: str | None) -> None:
    elsewhere.replies["/x.png"] = Reply(body=PNG)
    assert loader().fetch(f"{elsewhere.url_as('site.test')}/x.png", host=LabelStudioHost(url)) == PNG
    assert failure(loader(), "/data/upload/1/x.png", host=LabelStudioHost(url)).reason == "unsupported-source"


def jwt(**claims: Any) -> str:
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in ({}, claims)]
    return ".".join([*parts, "c2ln"])


def test_personal_access_tokens_are_exchanged_and_renewed_when_refused(label_studio: WebServer) -> None:
    refresh = jwt(token_type="refresh", secret="secret")
    opaque = iter(["first", "second", "third"])
    label_studio.replies["/api/token/refresh/"] = lambda seen: Reply(body=json.dumps({"access": next(opaque)}).encode())

    def only_second(seen: Seen) -> Reply:
        return Reply(body=PNG) if seen.headers["authorization"] == "Bearer second" else Reply(401)

    label_studio.replies["/data/upload/1/x.png"] = only_second
    load = loader(label_studio, token=refresh)
    assert load.fetch("/data/upload/1/x.png") == PNG
    assert load.fetch("/data/upload/1/x.png") == PNG
    paths = [seen.path.rpartition("/")[2] or "refresh" for seen in label_studio.seen]
    assert paths == ["refresh", "x.png", "refresh", "x.png", "x.png"]


def test_a_personal_access_token_is_renewed_once_not_for_ever(label_studio: WebServer) -> None:
    label_studio.replies["/api/token/refresh/"] = Reply(body=b'{"access": "never-good"}')
    label_studio.replies["/data/upload/1/x.png"] = Reply(401)
    error = failure(loader(label_studio, token=jwt(token_type="refresh")), "/data/upload/1/x.png")
    assert error.reason == "unauthorized"
    assert len(label_studio.seen) == 4


def test_a_refused_legacy_token_is_not_tried_again(label_studio: WebServer) -> None:
    label_studio.replies["/data/upload/1/x.png"] = Reply(401)
    error = failure(loader(label_studio), "/data/upload/1/x.png")
    assert error.reason == "unauthorized"
    assert "check the access token" in str(error)
    assert len(label_studio.seen) == 1


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder of local files, with traps in and around it."""
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "sub" / "x.png").write_bytes(PNG)
    (root / "sub" / "my x.png").write_bytes(PNG)
    (tmp_path / "outside.png").write_bytes(PNG)
    (tmp_path / "root-2").mkdir()
    (tmp_path / "root-2" / "x.png").write_bytes(PNG)
    (root / "inside-link.png").symlink_to(root / "sub" / "x.png")
    (root / "outside-link.png").symlink_to(tmp_path / "outside.png")
    (root / "outside-folder").symlink_to(tmp_path)
    (root / "circle").symlink_to(root / "circle")
    os.mkfifo(root / "pipe")
    return root


LOCAL = {
    "plain": "/data/local-files/?d=sub/x.png",
    "no slash before the query": "/data/local-files?d=sub/x.png",
    "encoded": "/data/local-files/?d=sub%2Fmy%20x.png",
    "plus for blank": "/data/local-files/?d=sub/my+x.png",
    "slash at the front": "/data/local-files/?d=/sub/x.png",
    "here and there a dot": "/data/local-files/?d=./sub//x.png",
    "backslash": "/data/local-files/?d=sub\\x.png",
    "the last d counts": "/data/local-files/?d=nothing.png&d=sub/x.png",
    "link inside": "/data/local-files/?d=inside-link.png",
}


@pytest.mark.parametrize("value", LOCAL.values(), ids=LOCAL)
def test_local_files_are_read_from_disk(root: Path, tmp_path: Path, value: str) -> None:
    load = loader(local_files_roots=(tmp_path / "not-there", root))
    assert load.fetch(value) == PNG


def test_local_files_are_read_from_disk_by_label_studios_full_address_too(root: Path, label_studio: WebServer) -> None:
    load = loader(label_studio, local_files_roots=(root,))
    assert load.fetch(f"{label_studio.url}/data/local-files/?d=sub/x.png") == PNG
    assert (
        load.fetch("http://localhost:8080/data/local-files/?d=sub/x.png", host=LabelStudioHost("http://localhost:8080"))
        == PNG
    )
    assert label_studio.seen == []


def test_local_files_of_another_host_are_not_read_from_disk(root: Path, elsewhere: WebServer) -> None:
    load = loader("http://ls.test", local_files_roots=(root,))
    url = f"{elsewhere.url_as('site.test')}/data/local-files/?d=sub/x.png"
    assert failure(load, url).reason == "not-found"
    assert len(elsewhere.seen) == 1


NOT_IN_THE_FOLDER = {
    "not there": ("nothing.png", "not-found"),
    "nothing": ("", "not-found"),
    "a folder": ("sub", "not-found"),
    "a pipe": ("pipe", "not-found"),
    "a circle of links": ("circle", "not-found"),
    "link outside": ("outside-link.png", "not-found"),
    "linked folder outside": ("outside-folder/outside.png", "not-found"),
    "absolute": ("/etc/passwd", "not-found"),
    "up": ("../outside.png", "refused"),
    "up, encoded": ("%2e%2e/outside.png", "refused"),
    "down and up": ("sub/../../outside.png", "refused"),
    "up with backslashes": ("..\\outside.png", "refused"),
    "beside, by its name's beginning": ("../root-2/x.png", "refused"),
    "null": ("sub/x.png%00.jpg", "refused"),
}


@pytest.mark.parametrize(("path", "reason"), NOT_IN_THE_FOLDER.values(), ids=NOT_IN_THE_FOLDER)
def test_nothing_outside_the_folder_is_read(root: Path, path: str, reason: str) -> None:
    error = failure(loader(local_files_roots=(root,)), f"/data/local-files/?d={path}")
    assert error.reason == reason
    assert str(root.parent) not in str(error)


def test_a_local_file_that_is_not_here_is_asked_of_label_studio(root: Path, label_studio: WebServer) -> None:
    label_studio.replies["/data/local-files/"] = Reply(body=PNG)
    load = loader(label_studio, local_files_roots=(root,))
    for path in ("there.png", "outside-link.png"):
        assert load.fetch(f"/data/local-files/?d={path}") == PNG
    assert label_studio.authorizations() == [f"Token {TOKEN}"] * 2


def test_a_local_file_that_is_too_large(root: Path) -> None:
    load = loader(local_files_roots=(root,), limits=ImageLimits(max_bytes=len(PNG) - 1))
    assert failure(load, "/data/local-files/?d=sub/x.png").reason == "too-large"


ENCODED = base64.b64encode(PNG).decode()
DATA_URIS = {
    "plain": f"data:image/png;base64,{ENCODED}",
    "any letters": f"DATA:image/png;BASE64,{ENCODED}",
    "parameters": f"data:image/png;charset=utf-8;base64,{ENCODED}",
    "no kind": f"data:;base64,{ENCODED}",
    "wrong kind": f"data:text/html;base64,{ENCODED}",
    "without padding": f"data:image/png;base64,{ENCODED.rstrip('=')}",
    "line breaks": f"data:image/png;base64,{ENCODED[:40]}\r\n{ENCODED[40:]}",
    "percent-encoded": f"data:image/png;base64,{ENCODED.replace('+', '%2B').replace('=', '%3D')}",
}


@pytest.mark.parametrize("uri", DATA_URIS.values(), ids=DATA_URIS)
def test_data_uris(uri: str) -> None:
    assert loader().load(uri).size_hw == (30, 40)


BAD_DATA_URIS = {
    "no comma": ("data:image/png;base64", "unsupported-source"),
    "no base64": ("data:image/svg+xml,%3Csvg/%3E", "unsupported-source"),
    "damaged": ("data:image/png;base64,?secret?", "not-an-image"),
    "cut in a character": (f"data:image/png;base64,{ENCODED[:41]}", "not-an-image"),
    "empty": ("data:image/png;base64,", "not-an-image"),
    "no picture": ("data:image/png;base64,c2VjcmV0", "not-an-image"),
    "not ASCII": ("data:image/png;base64,ü", "not-an-image"),
    "too large": ("data:image/png;base64," + "A" * 1400, "too-large"),
    "too large even before decoding": ("data:image/png;base64," + "A   " * 1200, "too-large"),
}


@pytest.mark.parametrize(("uri", "reason"), BAD_DATA_URIS.values(), ids=BAD_DATA_URIS)
def test_bad_data_uris(uri: str, reason: str) -> None:
    assert failure(loader(limits=ImageLimits(max_bytes=1000)), uri).reason == reason


ANSWERS = {
    "not found": (Reply(404), "not-found", "does not exist"),
    "web page": (Reply(body=b"<!doctype html><title>secret</title>"), "not-an-image", "web page"),
    "JSON": (Reply(body=b'{"detail": "secret"}'), "not-an-image", "JSON"),
    "nothing": (Reply(), "not-an-image", "0 bytes"),
    "truncated": (Reply(body=picture((300, 400), "JPEG")[:-200]), "not-an-image", "cut off"),
    "broken off": (
        Reply(body=PNG[:50], announce_length=False, headers={"Content-Length": str(len(PNG))}),
        "download",
        "broke off",
    ),
    "too many bytes": (Reply(body=bytes(100_001)), "too-large", "at most 100,000 bytes"),
    "too many pixels": (Reply(body=picture((1001, 1000))), "too-large", "at most 1,000,000 pixels"),
    "the setting for pixels": (Reply(body=picture((1001, 1000))), "too-large", "(CLIPDIY_MAX_IMAGE_PX)"),
    "too many scans": (Reply(body=PROGRESSIVE), "too-large", "at most 2 scans"),
    "the setting for scans": (Reply(body=PROGRESSIVE), "too-large", "(CLIPDIY_MAX_JPEG_SCANS)"),
    "server error": (Reply(500), "download", "500"),
    "login page": (Reply(302, headers={"Location": "/user/login/?next=secret"}), "unauthorized", "login"),
}


@pytest.mark.parametrize(("reply", "reason", "message"), ANSWERS.values(), ids=ANSWERS)
def test_what_is_no_image_has_its_reason(label_studio: WebServer, reply: Reply, reason: str, message: str) -> None:
    label_studio.replies["/data/upload/1/x"] = reply
    load = loader(label_studio, limits=ImageLimits(max_bytes=100_000, max_px=1_000_000, max_scans=2))
    error = failure(load, "/data/upload/1/x?token=secret")
    assert error.reason == reason
    assert message in str(error)


def test_time_is_limited(label_studio: WebServer) -> None:
    def silence(write: object, ending: threading.Event) -> None:
        ending.wait(10)

    label_studio.replies["/x"] = Reply(body=silence)
    load = loader(label_studio, limits=ImageLimits(timeout_s=0.2))
    assert failure(load, "/x").reason == "timeout"


def test_pictures_are_decoded_when_there_is_room_for_their_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over all paths: whole pictures to be encoded, and windows of them for gestures."""
    load = loader(limits=ImageLimits(max_decoding_px=30 * 40 + 10))
    # Somebody else is decoding.
    with load._decoding.hold(20, Deadline.never()):
        for window in (None, (slice(0, 5), slice(0, 5))):
            with pytest.raises(TaskError) as caught:
                load.decode(PNG, "x", window=window, deadline=Deadline.after(0.1))
            assert caught.value.reason == "deadline"
            assert "CLIPDIY_MAX_DECODING_PX" in str(caught.value)
    assert load.decode(PNG, "x", window=(slice(0, 5), slice(0, 6)), deadline=Deadline.after(5)).size_hw == (5, 6)


def test_the_time_to_decode_is_limited() -> None:
    """By the limit, or by the deadline of whoever asks."""
    for limits, deadline, reason, named in (
        (ImageLimits(decode_s=-1), Deadline.after(60), "timeout", ["CLIPDIY_DECODE_TIMEOUT_S"]),
        # No longer time for one picture helps against the end of the request.
        (ImageLimits(decode_s=60), Deadline.after(0), "deadline", []),
    ):
        with pytest.raises(TaskError) as caught:
            loader(limits=limits).decode(PNG, "https://site.test/x.png?sig=secret", deadline=deadline)
        assert caught.value.reason == reason
        assert re.findall("CLIPDIY_[A-Z_]+", str(caught.value)) == named
        assert "https://site.test/x.png:" in str(caught.value)
        assert "secret" not in str(caught.value)


def test_a_download_ends_with_the_deadline_of_whoever_asks(label_studio: WebServer) -> None:
    """It is said to be that, and not the source's fault, though the source hangs."""
    label_studio.replies["/x"] = Reply(body=lambda _write, ended: ended.wait(), announce_length=False)
    load = loader(label_studio, limits=ImageLimits(timeout_s=60))
    with pytest.raises(TaskError) as caught:
        load.fetch_if_changed("/x", deadline=Deadline.after(0.2))
    assert caught.value.reason == "deadline"
    with pytest.raises(TaskError) as caught:
        loader(label_studio, limits=ImageLimits(timeout_s=0.2)).fetch_if_changed("/x", deadline=Deadline.after(60))
    assert caught.value.reason == "timeout"


def test_redirects_are_limited(label_studio: WebServer) -> None:
    label_studio.replies["/x"] = Reply(302, headers={"Location": "/x"})
    assert failure(loader(label_studio, limits=ImageLimits(max_redirects=2)), "/x").reason == "too-many-redirects"
    assert len(label_studio.seen) == 3


VALUES = {
    "empty": ("", "missing-data"),
    "blank": ("  ", "missing-data"),
    "a bare name": ("x.png", "unsupported-source"),
    "somebody's disk": ("C:\\x.png", "unsupported-source"),
    "a file": ("file:///etc/passwd", "unsupported-source"),
    "ftp": ("ftp://site.test/x.png", "unsupported-source"),
    "script": ("javascript:alert(1)", "unsupported-source"),
    "a host without scheme": ("//site.test/x.png", "unsupported-source"),
    "backslashes": ("/\\site.test/x.png", "unsupported-source"),
    "half a character": ("/data/\ud800.png", "unsupported-source"),
    "no host": ("http:///x.png", "unsupported-source"),
    "user name": ("http://user:secret@site.test/x.png", "refused"),
    "this machine": ("http://localhost/x.png", "refused"),
    "this machine by number": ("http://127.0.0.1:9/x.png", "refused"),
}


@pytest.mark.parametrize(("value", "reason"), VALUES.values(), ids=VALUES)
def test_values_that_are_not_fetched(label_studio: WebServer, value: str, reason: str) -> None:
    assert failure(loader(label_studio), value).reason == reason
    assert label_studio.seen == []


@settings(max_examples=150)
@given(
    st.text(max_size=40), st.sampled_from(["", "/", "http://site.test:1/", "s3://", "data:", "/data/local-files/?d="])
)
def test_any_value_is_fetched_or_fails_with_a_reason(text: str, start: str) -> None:
    # Nobody listens on either address: what is not refused ends as a download that failed.
    load = loader("http://127.0.0.1:1", local_files_roots=(Path(__file__).parent / "nowhere",))
    failure(load, start + text, task_id=1)


def test_schemes_can_be_closed() -> None:
    load = loader("http://127.0.0.1:1", schemes=("https",))
    for value in ("http://site.test/x.png", "data:image/png;base64,", "s3://bucket/x.png"):
        assert failure(load, value, task_id=1).reason == "refused"


def test_label_studio_is_asked_whatever_schemes_are_closed(label_studio: WebServer) -> None:
    label_studio.replies["/x.png"] = Reply(body=PNG)
    load = loader(label_studio, schemes=("https",))
    assert load.fetch("/x.png") == PNG
    assert load.fetch(f"{label_studio.url}/x.png") == PNG


def test_a_cloud_address_may_end_at_an_https_address_that_tasks_may_not_name(label_studio: WebServer) -> None:
    label_studio.replies["/tasks/1/presign/"] = Reply(303, headers={"Location": "https://127.0.0.1:1/signed"})
    load = loader(label_studio, schemes=("s3",), private_hosts=("127.0.0.1",))
    assert failure(load, "s3://bucket/x.png", task_id=1).reason == "download", "asked, and nobody was there"
    assert failure(load, "https://127.0.0.1:1/x.png").reason == "refused"


def test_hosts_can_be_closed(label_studio: WebServer, elsewhere: WebServer) -> None:
    label_studio.replies["/x.png"] = Reply(body=PNG)
    load = loader(label_studio, allowed_hosts=("other.test",))
    assert failure(load, f"{elsewhere.url_as('site.test')}/x.png").reason == "refused"
    assert load.fetch("/x.png") == PNG, "Label Studio itself always may be asked"
    denying = loader(label_studio, denied_hosts=("site.test",))
    assert failure(denying, f"{elsewhere.url_as('site.test')}/x.png").reason == "refused"


def test_private_addresses_can_be_opened(elsewhere: WebServer) -> None:
    elsewhere.replies["/x.png"] = Reply(body=PNG)
    assert loader(allow_private_addresses=True).fetch(f"{elsewhere.url}/x.png") == PNG


SENSELESS: dict[str, dict[str, Any]] = {
    "address without scheme": {"label_studio_url": "ls.test:8080"},
    "alias without scheme": {"label_studio_aliases": ("ls.test",)},
    "unknown scheme": {"schemes": ("https", "ftp")},
    "every file": {"local_files_roots": (Path("/"),)},
}


@pytest.mark.parametrize("sources", SENSELESS.values(), ids=SENSELESS)
def test_senseless_settings_stop_the_start(sources: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        ImageSources(**sources)


def test_the_token_is_not_shown() -> None:
    assert TOKEN not in repr(ImageSources(token=TOKEN))


def test_many_threads_share_one_loader(label_studio: WebServer) -> None:
    for number in range(20):
        label_studio.replies[f"/{number}.png"] = Reply(body=picture((number + 1, 10)))
    load = loader(label_studio)
    with ThreadPoolExecutor(8) as pool:
        photos = list(pool.map(lambda number: load.load(f"/{number}.png"), range(20)))
    assert [photo.size_hw[0] for photo in photos] == list(range(1, 21))


def test_values_in_messages_are_short_and_without_secrets() -> None:
    assert show_value("data:image/png;base64,secret") == "the data URI"
    assert show_value("https://site.test/x.png?sig=secret") == "https://site.test/x.png"
    assert show_value("s3://bucket/x.png") == "s3://bucket/x.png"
    assert set(SCHEMES) >= {"http", "https", "data"}


def test_a_local_file_is_read_again_only_if_it_changed(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"one")
    local = ImageLoader(ImageSources(local_files_roots=(tmp_path,)))
    first = local.fetch_if_changed("/data/local-files/?d=x.png")
    assert first.data == b"one"
    assert local.fetch_if_changed("/data/local-files/?d=x.png", known=first.validator).data is None
    (tmp_path / "x.png").write_bytes(b"another")
    assert local.fetch_if_changed("/data/local-files/?d=x.png", known=first.validator).data == b"another"
