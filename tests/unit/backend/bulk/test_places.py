"""Folders and buckets: what is read, written and listed, and why not."""

import copy
import os
import threading
import time
from urllib.parse import parse_qsl

import pytest
from clocks import HandClock
from pyarrow import fs

from backend.bulk.places import Stores, absolute, join, plain, remove_stale
from backend.deadline import Deadline
from backend.errors import BackendError, TaskError

ANY = 10**6


def read(stores, name, max_bytes=ANY, deadline=None):
    return stores.read(name, max_bytes=max_bytes, deadline=deadline or Deadline.never())


def reason(stores, name, **options):
    with pytest.raises(TaskError) as caught:
        read(stores, name, **options)
    return caught.value.reason


@pytest.fixture
def bucket(s3):
    made = s3.bucket("photos")
    made.objects = {"a/1.jpg": b"one", "a/b/2.jpg": b"two", "c.txt": b"three"}
    return made


@pytest.fixture
def stores(s3, bucket):
    return Stores.of(f"s3://photos/a?{s3.options}")


class TestFolders:
    def test_read_write_list(self, tmp_path):
        stores = Stores()
        name = str(tmp_path / "x" / "y" / "a.bin")
        stores.write(name, b"abc")
        stores.write(name, b"abcd")
        assert read(stores, name) == b"abcd"
        assert [*stores.files(str(tmp_path))] == [name]
        assert [*stores.files(str(tmp_path) + "/")] == [name]
        assert [*stores.files(str(tmp_path / "nothing"))] == []
        assert os.stat(name).st_mode & 0o777 == 0o666 & ~umask()

    def test_what_is_not_written_whole_is_not_there(self, tmp_path, monkeypatch):
        monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(BackendError, match="cannot be written: disk full"):
            Stores().write(str(tmp_path / "a"), b"abc")
        assert [*tmp_path.iterdir()] == []

    def test_why_a_file_cannot_be_read(self, tmp_path):
        (tmp_path / "a").write_bytes(b"x" * 100)
        stores = Stores()
        assert reason(stores, str(tmp_path / "none")) == "not-found"
        assert reason(stores, str(tmp_path)) == "download"
        assert reason(stores, str(tmp_path / "a"), max_bytes=99) == "too-large"
        assert read(stores, str(tmp_path / "a"), max_bytes=100) == b"x" * 100

    def test_what_a_killed_process_left_is_removed_when_it_is_old(self, tmp_path):
        for name in (".part-1.parquet.x.tmp", ".part-2.parquet.y.tmp", "part-1.parquet"):
            (tmp_path / name).touch()
        hours_ago = time.time() - 7200
        os.utime(tmp_path / ".part-1.parquet.x.tmp", (hours_ago, hours_ago))
        remove_stale(str(tmp_path))
        assert sorted(path.name for path in tmp_path.iterdir()) == [".part-2.parquet.y.tmp", "part-1.parquet"]
        remove_stale(str(tmp_path / "nothing"))
        remove_stale("s3://photos")


def umask():
    value = os.umask(0)
    os.umask(value)
    return value


class TestBuckets:
    def test_read_write_list(self, stores, bucket):
        assert read(stores, "s3://photos/a/1.jpg") == b"one"
        stores.write("s3://photos/out/x.parquet", b"four")
        assert bucket.objects["out/x.parquet"] == b"four"
        assert sorted(stores.files("s3://photos/a")) == ["s3://photos/a/1.jpg", "s3://photos/a/b/2.jpg"]
        assert len([*stores.files("s3://photos")]) == 4
        assert [*stores.files("s3://photos/nothing")] == []

    def test_large_ones_go_in_parts(self, stores, bucket):
        stores.write("s3://photos/large", bytes(6_000_000))
        assert bucket.objects["large"] == bytes(6_000_000)
        assert read(stores, "s3://photos/large", max_bytes=10**8) == bytes(6_000_000)

    def test_more_than_a_page_of_objects(self, stores, bucket):
        bucket.objects = {f"a/{number}.jpg": b"" for number in range(2500)}
        assert len({*stores.files("s3://photos/a")}) == 2500

    def test_why_an_object_cannot_be_read(self, s3, stores, bucket):
        s3.bucket("closed").refuses = True
        assert reason(stores, "s3://photos/none") == "not-found"
        assert reason(stores, "s3://nowhere/none") == "not-found"
        assert reason(stores, "s3://closed/a") == "unauthorized"
        assert reason(stores, "s3://photos/a/1.jpg", max_bytes=2) == "too-large"

    def test_a_bucket_that_refuses_is_named(self, s3, stores):
        s3.bucket("closed").refuses = True
        for refused in (
            lambda: stores.write("s3://closed/a", b""),
            lambda: [*stores.files("s3://closed/a")],
            lambda: stores.kind("s3://closed/a"),
        ):
            with pytest.raises(BackendError, match=r"s3://closed/a.*ACCESS_DENIED"):
                refused()

    def test_what_passes_is_tried_again_by_the_client(self, stores, bucket):
        bucket.fails["a/1.jpg"] = [500, 503]
        assert read(stores, "s3://photos/a/1.jpg") == b"one"

    def test_a_slow_object_meets_its_deadline(self, stores, bucket):
        """The client itself would wait three seconds, thirty times."""
        bucket.held["a/1.jpg"] = threading.Event()
        try:
            assert reason(stores, "s3://photos/a/1.jpg", deadline=Deadline.after(0.05)) == "timeout"
            assert read(stores, "s3://photos/a/b/2.jpg") == b"two", "the others need not wait for it"
        finally:
            bucket.held.pop("a/1.jpg").set()
        assert read(stores, "s3://photos/a/1.jpg") == b"one"

    def test_a_deadline_that_has_come_asks_for_nothing(self, s3, stores):
        clock = HandClock()
        deadline = Deadline.after(5, clock)
        clock.now += 6
        assert reason(stores, "s3://photos/a/b/2.jpg", deadline=deadline) == "timeout"
        # Of another picture, the client that was left alone above may still ask.
        assert not any(method == "GET" and "2.jpg" in path for method, path in s3.requests)

    def test_nor_does_it_begin_to(self, stores, monkeypatch):
        """Whichever thread comes first."""
        begun = threading.Event()
        monkeypatch.setattr(Stores, "find", lambda *_: begun.set())
        assert reason(stores, "s3://photos/a/b/2.jpg", deadline=Deadline.after(0)) == "timeout"
        assert not begun.wait(0.2)

    def test_wrong_keys_are_refused(self, s3, bucket, monkeypatch):
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
        stores = Stores.of(f"s3://photos/a?{s3.options}")
        assert reason(stores, "s3://photos/a/1.jpg") == "unauthorized"

    def test_a_store_of_your_own_can_be_named_by_the_environment(self, s3, bucket, monkeypatch):
        """Whoever exports shards names only where the shards are, and pictures may be elsewhere."""
        monkeypatch.setenv("AWS_ENDPOINT_URL", dict(parse_qsl(s3.options))["endpoint_override"])
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        assert read(Stores(), "s3://photos/a/1.jpg") == b"one"

    def test_it_can_be_sent_to_another_process(self, stores):
        read(stores, "s3://photos/a/1.jpg")
        assert read(copy.deepcopy(stores), "s3://photos/a/1.jpg") == b"one"


@pytest.mark.parametrize(
    ("name", "store", "path"),
    [
        ("/a/b", fs.LocalFileSystem, "/a/b"),
        ("gs://anonymous@bucket/a/b", fs.GcsFileSystem, "bucket/a/b"),
        ("az://container@account/a/b", fs.AzureFileSystem, "container/a/b"),
        ("az://container@account", fs.AzureFileSystem, "container"),
    ],
)
def test_which_client_opens_a_place(name, store, path):
    opened, found = Stores().find(name)
    assert isinstance(opened, store)
    assert found == path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ftp://x/y", "ftp:// is not opened here; there are: s3, gs, az, and paths"),
        ("s3:///y", "expected s3://BUCKET/PATH"),
        ("s3://key:secret@x/y", "keys are taken from the environment"),
        ("az://container/y", "expected az://CONTAINER@ACCOUNT/PATH"),
    ],
)
def test_places_that_make_no_sense(name, message):
    with pytest.raises(BackendError, match=message):
        Stores().find(name)
    assert reason(Stores(), name) == "unsupported-source"


def test_options_hold_for_all_of_a_kind():
    stores = Stores.of("/a?b", "s3://x/y?region=1", "s3://z", "gs://q?retry_limit_seconds=3")
    assert stores.__getstate__() == {"s3": "region=1", "gs": "retry_limit_seconds=3"}
    with pytest.raises(BackendError, match="different options"):
        Stores.of("s3://x/y?region=1", "s3://z?region=2")


def test_names():
    assert plain("s3://x/y?region=1") == "s3://x/y"
    assert plain("/a?b=1") == "/a?b=1"
    assert plain("s3://x/?.jpg?region=1") == "s3://x/?.jpg"
    assert join("s3://x/y/?region=1", "z", "w") == "s3://x/y/z/w"
    assert join("/a/", "z") == "/a/z"
    assert absolute("s3://x") == "s3://x"
    assert absolute("x") == os.path.join(os.getcwd(), "x")
