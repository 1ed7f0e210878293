"""What is needed, where it is looked for, and fetching it from a real server on this machine."""

import hashlib
import re
import threading
import zipfile
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import open_clip
import pytest
import timm
import torch
from safetensors.torch import save_file

from clipdiy import weights as weights_room
from clipdiy.config import CoreConfig, ObjectnessConfig, preset
from clipdiy.errors import ConfigError, WeightsError
from clipdiy.method import require_weights, required_files
from clipdiy.weights import (
    FOUND_HEAD_SHA256,
    PUBLISHED_HUBS,
    WeightFile,
    clip_tag_config,
    default_weights_dir,
    expected_sha256,
    fault_of,
    fetch,
    fetch_command,
    find,
    git_blob_sha1,
    locate,
    require,
)

CONTENT = bytes(range(256)) * 9000  # more than two chunks
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class WeightServer(ThreadingHTTPServer):
    """Serves `content` at any path. What it does wrong, and what it was asked for, are lists and switches."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.cut_after = None  # bytes of the next body, then the connection ends
        self.ranges = True
        self.stated_sha256 = None  # as X-Linked-ETag on a redirect, as the hub does
        self.status = 200
        self.asked = []  # (path, Range)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        wanted = self.headers.get("Range")
        server.asked.append((self.path, wanted))
        if server.status != 200:
            self.send_error(server.status)
        elif self.path.startswith("/hub/"):
            self.send_response(302)
            self.send_header("X-Linked-ETag", f'"{server.stated_sha256}"')
            self.send_header("Location", "/storage" + self.path.removeprefix("/hub"))
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self.answer(server, wanted if server.ranges else None)

    def answer(self, server, wanted):
        assert self.headers["Accept-Encoding"] == "identity"
        start, total = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0, len(server.content)
        if start >= total and wanted:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{total}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = server.content[start:]
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        cut, server.cut_after = server.cut_after, None
        self.wfile.write(body if cut is None else body[:cut])

    def log_message(self, *_):
        pass


@contextmanager
def running(server):
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def server():
    with running(WeightServer()) as one:
        yield one


@pytest.fixture
def no_hub_cache(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def wanted(server, path="/x.bin", **changes):
    return replace(WeightFile("a test's weights", "folder/x.bin", server.url + path), **changes)


def files_in(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


# What no digest is known of


def saved(path, tensors):
    save_file(tensors, path) if path.suffix == ".safetensors" else torch.save(tensors, path)
    return path


CLIP_LIKE = {"logit_scale": torch.zeros(1), "visual.proj": torch.zeros(2, 3)}
HELD = WeightFile("a test's weights", "x", "http://nowhere", tensors=("logit_scale", "proj"))


@pytest.mark.parametrize("name", ["x.safetensors", "x.pt"])
def test_a_file_must_open_and_hold_its_tensors(tmp_path, name):
    path = saved(tmp_path / name, CLIP_LIKE)
    assert fault_of(HELD, path) is None
    assert fault_of(HELD, saved(path, {"logit_scale": torch.zeros(1)})) == "it has no tensor proj"
    assert fault_of(HELD, saved(path, {"other": torch.zeros(1)})) == "it has no tensor logit_scale, proj"
    for content in (b"", bytes(10_000), saved(path, CLIP_LIKE).read_bytes()[:-4]):
        path.write_bytes(content)
        assert "cannot be opened" in fault_of(HELD, path)


@pytest.mark.parametrize("inner", ["state_dict", "teacher", "model"])
def test_tensors_may_lie_one_level_down(tmp_path, inner):
    assert fault_of(HELD, saved(tmp_path / "x.pth", {inner: CLIP_LIKE, "epoch": 3})) is None


def test_the_old_format_of_torch_is_read(tmp_path):
    torch.save(CLIP_LIKE, tmp_path / "x.pth", _use_new_zipfile_serialization=False)
    assert fault_of(HELD, tmp_path / "x.pth") is None


def test_an_archive_of_torchscript_counts_as_what_it_is(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        archive.writestr("archive/code/__torch__.py", "")
        archive.writestr("archive/data.pkl", "")
    assert fault_of(HELD, tmp_path / "x.pt") is None


def test_nothing_in_a_file_is_executed(tmp_path):
    class Harmful:
        def __reduce__(self):
            return Path.touch, (tmp_path / "executed",)

    torch.save({"logit_scale": Harmful()}, tmp_path / "x.pt")
    assert "cannot be opened" in fault_of(HELD, tmp_path / "x.pt")
    assert not (tmp_path / "executed").exists()


def test_what_is_no_weights_is_not_taken_for_them(tmp_path):
    (tmp_path / "x").write_bytes(bytes(100))
    assert "cannot be opened" in locate(HELD, tmp_path).why_not
    saved(tmp_path / "x", [1, 2])
    assert "has no tensor" in locate(HELD, tmp_path).why_not
    saved(tmp_path / "x", CLIP_LIKE)
    assert locate(HELD, tmp_path).intact


def test_what_is_looked_for_is_in_openclips_and_dinos_own_weights():
    clip, backbone, _ = required_files(preset("paper"))
    models = open_clip.create_model("ViT-B-32", pretrained=None), timm.create_model("vit_small_patch8_224")
    for file, model in zip((clip, backbone), models, strict=True):
        assert set(file.tensors) <= set(model.state_dict())
        assert file.tensors


# Fetching


def test_fetch_puts_the_file_and_its_digest_in_place(server, tmp_path):
    steps = []
    path = fetch(wanted(server), tmp_path / "new", progress=lambda done, total: steps.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert files_in(tmp_path / "new") == ["folder/x.bin", "folder/x.bin.sha256"]
    assert steps[0] == (0, len(CONTENT))
    assert steps[-1] == (len(CONTENT), len(CONTENT))
    assert expected_sha256(wanted(server), path) == (SHA256, "kept")


# What git calls a file: `git hash-object FILE`.
BLOBS = {
    b"": "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391",
    b"hello\n": "ce013625030ba8dba906f756967f9e9ca394464a",
}


@pytest.mark.parametrize(("content", "blob"), BLOBS.items(), ids=["empty", "a line"])
def test_what_git_calls_a_file(tmp_path, content, blob):
    path = tmp_path / "file"
    path.write_bytes(content)
    assert git_blob_sha1(path) == blob


def test_a_file_known_by_its_git_blob_is_fetched_and_checked_from_then_on(server, tmp_path):
    blob = hashlib.sha1(b"blob %d\x00" % len(CONTENT) + CONTENT).hexdigest()
    file = wanted(server, git_sha1=blob)
    path = fetch(file, tmp_path)
    assert path.with_name("x.bin.sha256").read_text().split()[0] == SHA256
    assert expected_sha256(file, path) == (SHA256, "pinned")
    path.write_bytes(CONTENT + b"!")
    assert not locate(file, tmp_path).intact
    with pytest.raises(WeightsError, match=f"expected that of git blob {blob}"):
        require([file], tmp_path)


def test_a_fetched_file_that_is_another_git_blob_is_not_kept(server, tmp_path):
    with pytest.raises(WeightsError, match="nothing was kept"):
        fetch(wanted(server, git_sha1="0" * 40), tmp_path)
    assert files_in(tmp_path) == []


def test_a_body_that_ends_early_is_told_whoever_reads_it(tmp_path):
    """As with an older urllib3, which takes what comes for all there is."""
    response = SimpleNamespace(headers={"Content-Length": "8"}, iter_content=lambda size: iter([b"1234"]))
    with pytest.raises(OSError, match="after 6 of 10 bytes"):
        weights_room._append(response, tmp_path / "part", 2, lambda done, total: None)
    whole = SimpleNamespace(headers={"Content-Length": "4"}, iter_content=lambda size: iter([b"1234"]))
    weights_room._append(whole, tmp_path / "part", 0, lambda done, total: None)
    assert (tmp_path / "part").read_bytes() == b"1234"


@pytest.mark.parametrize("pinned", [None, SHA256])
def test_a_cut_connection_keeps_what_came_and_the_next_try_goes_on(server, tmp_path, pinned):
    file = wanted(server, sha256=pinned)
    server.cut_after = 1_500_000
    with pytest.raises(WeightsError, match=r"a test's weights.*Run it again"):
        fetch(file, tmp_path)
    have = (tmp_path / "folder" / "x.bin.part").stat().st_size
    assert 0 < have <= 1_500_000
    assert find(file, tmp_path) is None, "half a file counts as the file"
    steps = []
    assert fetch(file, tmp_path, progress=lambda *step: steps.append(step)).read_bytes() == CONTENT
    assert server.asked[-1] == ("/x.bin", f"bytes={have}-")
    assert steps[0] == (have, len(CONTENT))
    assert files_in(tmp_path) == ["folder/x.bin", "folder/x.bin.sha256"]


def test_a_server_without_ranges_is_read_from_the_start(server, tmp_path):
    server.cut_after, server.ranges = 1_500_000, False
    with pytest.raises(WeightsError):
        fetch(wanted(server), tmp_path)
    assert fetch(wanted(server), tmp_path).read_bytes() == CONTENT


def test_a_complete_part_is_not_downloaded_again(server, tmp_path):
    part = tmp_path / "folder" / "x.bin.part"
    part.parent.mkdir()
    part.write_bytes(CONTENT)
    assert fetch(wanted(server), tmp_path).read_bytes() == CONTENT
    assert server.asked == [("/x.bin", f"bytes={len(CONTENT)}-")]


def test_a_part_longer_than_the_file_is_begun_again(server, tmp_path):
    part = tmp_path / "folder" / "x.bin.part"
    part.parent.mkdir()
    part.write_bytes(CONTENT + b"more")
    assert fetch(wanted(server), tmp_path).read_bytes() == CONTENT


def test_a_wrong_digest_keeps_nothing(server, tmp_path):
    with pytest.raises(WeightsError, match=f"SHA-256 {SHA256}, expected {'1' * 64}"):
        fetch(wanted(server, sha256="1" * 64), tmp_path)
    assert files_in(tmp_path) == []


def test_the_begin_of_another_file_is_noticed_and_thrown_away(server, tmp_path):
    part = tmp_path / "folder" / "x.bin.part"
    part.parent.mkdir()
    part.write_bytes(b"an older version")
    file = wanted(server, sha256=SHA256)
    with pytest.raises(WeightsError, match="nothing was kept"):
        fetch(file, tmp_path)
    assert fetch(file, tmp_path).read_bytes() == CONTENT


def test_the_digest_that_the_hub_states_is_checked(server, tmp_path):
    server.stated_sha256 = SHA256
    assert fetch(wanted(server, "/hub/x.bin"), tmp_path / "right").read_bytes() == CONTENT
    server.stated_sha256 = "2" * 64
    with pytest.raises(WeightsError, match="2" * 64):
        fetch(wanted(server, "/hub/x.bin"), tmp_path / "wrong")
    assert files_in(tmp_path / "wrong") == []


def test_an_entity_tag_that_is_no_sha256_is_not_taken_for_one(server, tmp_path):
    server.stated_sha256 = "b" * 40
    assert fetch(wanted(server, "/hub/x.bin"), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("status", [403, 404, 500])
def test_a_refusal_names_file_source_and_remedy(server, tmp_path, status):
    server.status = status
    with pytest.raises(WeightsError) as raised:
        fetch(wanted(server), tmp_path)
    for part in (str(status), "a test's weights", f"{server.url}/x.bin", str(tmp_path / "folder" / "x.bin"), "by hand"):
        assert part in str(raised.value)
    assert files_in(tmp_path) == []


def test_no_server_at_all(tmp_path):
    with running(WeightServer()) as server:
        file = wanted(server)
    with pytest.raises(WeightsError, match="without a network"):
        fetch(file, tmp_path)


def test_a_folder_that_cannot_be_written(server, tmp_path):
    (tmp_path / "folder").write_text("a file is in the way")
    with pytest.raises(WeightsError, match="cannot fetch"):
        fetch(wanted(server), tmp_path)


# Finding and checking


def test_required_files_of_the_paper():
    clip, backbone, head = required_files(preset("paper"))
    assert clip.url == (
        "https://huggingface.co/laion/CLIP-ViT-B-32-laion2B-s34B-b79K/resolve/main/open_clip_model.safetensors"
    )
    # Not dino_deitsmall8_pretrain, which timm's vit_small_patch8_224.dino loads: FOUND's head belongs to this one.
    assert backbone.name == "found/dino_deitsmall8_300ep_pretrain.pth"
    assert backbone.url.endswith("/dino_deitsmall8_300ep_pretrain.pth")
    assert head.sha256 == FOUND_HEAD_SHA256


def test_presets_need_what_they_say():
    assert required_files(preset("starter")) == ()
    assert [file.name.split("/")[0] for file in required_files(preset("paper-b16"))] == [
        "CLIP-ViT-B-16-laion2B-s34B-b88K",
        "found",
        "found",
    ]
    assert len(required_files(preset("paper", objectness=ObjectnessConfig("none")))) == 1
    assert len(required_files(preset("paper", clip="local-dir:/x"))) == 2
    assert len(required_files(preset("paper", found="local-dir:/x"))) == 1


def test_published_repositories_are_openclips():
    for name, hub in PUBLISHED_HUBS.items():
        assert clip_tag_config(name)["hf_hub"] == hub
    assert {preset(name).clip for name in ("paper", "paper-b16")} == set(PUBLISHED_HUBS)


def test_openai_weights_are_pinned_by_their_address():
    file = required_files(CoreConfig(clip="ViT-B-32:openai"))[0]
    if file.hub is None:
        assert file.sha256 in file.url
    else:
        assert file.hub[0].endswith("openai")


DIGEST = "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"
# What OpenCLIP's table may say of weights, which differs between its versions.
ENTRIES = {
    "an address that holds the digest": (
        {"url": f"https://models.example/clip/models/{DIGEST}/ViT-B-32.pt"},
        ("ViT-B-32-openai/ViT-B-32.pt", DIGEST, None),
    ),
    "an address without": (
        {"url": "https://files.example/releases/download/v0.2-weights/vit_b_32-d867053b.pt"},
        ("ViT-B-32-openai/vit_b_32-d867053b.pt", None, None),
    ),
    "an address without a folder": ({"url": "https://files.example/x.pt"}, ("ViT-B-32-openai/x.pt", None, None)),
    "a repository of the hub": (
        {"hf_hub": "somebody/models/"},
        ("models/open_clip_model.safetensors", None, ("somebody/models", "open_clip_model.safetensors")),
    ),
    "a file in one": (
        {"hf_hub": "somebody/models/clip.bin"},
        ("models/clip.bin", None, ("somebody/models", "clip.bin")),
    ),
}


@pytest.mark.parametrize(("entry", "expected"), ENTRIES.values(), ids=ENTRIES)
def test_where_weights_of_clip_come_from(entry, expected, monkeypatch):
    monkeypatch.setattr("clipdiy.weights.clip_tag_config", lambda _name: entry)
    file = required_files(CoreConfig(clip="ViT-B-32:openai"))[0]
    assert (file.name, file.sha256, file.hub) == expected
    if file.hub is None:
        assert file.url == entry["url"]
    else:
        assert file.url == f"https://huggingface.co/{file.hub[0]}/resolve/main/{file.hub[1]}"
        # The same weights as they were written before there were safetensors.
        assert file.instead == (("models/open_clip_pytorch_model.bin",) if "safetensors" in file.name else ())


def test_the_folder_where_no_other_is_named():
    assert default_weights_dir() == Path("~/.cache/clipdiy/weights").expanduser()


@pytest.mark.parametrize("architecture", ["ViT-B-32", "ViT-L-14", "convnext_base_w", "RN50"])
def test_every_tag_has_a_file_and_a_source(architecture):
    for tag in open_clip.list_pretrained_tags_by_model(architecture):
        file = required_files(CoreConfig(clip=f"{architecture}:{tag}"))[0]
        assert file.url.startswith("https://")
        assert file.name.count("/") == 1
        assert not file.name.endswith("/")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"clip": "ViT-B-32:nope"}, "tags of it: .*laion2b_s34b_b79k"),
        ({"clip": "ViT-Z-99:openai"}, "no such architecture"),
        ({"clip": "ViT-B-32"}, "ARCHITECTURE:TAG"),
        ({"clip": ""}, "ARCHITECTURE:TAG"),
        ({"found": "sam"}, "found must be dino-vits8, starter or local-dir:FOLDER, got 'sam'"),
    ],
)
def test_names_that_do_not_exist(config, message):
    with pytest.raises(ConfigError, match=message):
        required_files(preset("paper", **config))


@pytest.mark.usefixtures("no_hub_cache")
def test_missing_weights_name_every_file_its_source_and_the_folder(tmp_path, monkeypatch):
    with pytest.raises(WeightsError) as raised:
        require(required_files(preset("paper")), tmp_path)
    for file in required_files(preset("paper")):
        assert str(tmp_path / file.name) in str(raised.value)
        assert file.url in str(raised.value)
    assert "`clipdiy weights fetch`" in str(raised.value)
    assert "CLIPDIY_PRESET=starter" in str(raised.value), "as it is set for the service"
    with pytest.raises(WeightsError, match="fetch --clip ViT-B-16:laion2b_s34b_b88k`"):
        require_weights(preset("paper-b16"), tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with pytest.raises(WeightsError, match=re.escape(str(tmp_path / "home" / ".cache" / "clipdiy" / "weights"))):
        require_weights(preset("paper"))
    assert fetch_command(CoreConfig(method="other")) == "clipdiy weights fetch --method other"


@pytest.mark.usefixtures("no_hub_cache")
def test_only_what_is_missing_is_named(tmp_path):
    clip, backbone, head = required_files(preset("paper"))
    for file in (clip, head):
        (tmp_path / file.name).parent.mkdir(exist_ok=True)
        (tmp_path / file.name).write_bytes(b"x")
    with pytest.raises(WeightsError) as raised:
        require(required_files(preset("paper")), tmp_path)
    assert backbone.name in str(raised.value)
    assert clip.name not in str(raised.value)


def test_a_file_that_is_not_the_pinned_one_is_refused(tmp_path):
    config = preset("paper", clip="local-dir:/x")
    backbone, head = required_files(config)
    (tmp_path / head.name).parent.mkdir(exist_ok=True)
    saved(tmp_path / backbone.name, {name: torch.zeros(1) for name in backbone.tensors})
    (tmp_path / head.name).write_bytes(b"x")
    with pytest.raises(WeightsError, match=f"expected {FOUND_HEAD_SHA256}"):
        require(required_files(config), tmp_path)


def test_a_file_that_changed_since_it_was_fetched_is_refused(server, tmp_path):
    file = wanted(server)
    path = fetch(file, tmp_path)
    assert locate(file, tmp_path).intact
    path.write_bytes(CONTENT[:-1])
    assert not locate(file, tmp_path).intact


def test_the_same_weights_in_another_format_are_taken(tmp_path, no_hub_cache):
    file = WeightFile("w", "m/a.safetensors", "https://x/a", sha256="3" * 64, instead=("m/a.bin",))
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "a.bin").write_bytes(b"x")
    weight = locate(file, tmp_path)
    assert weight.path.name == "a.bin"
    assert weight.expected is None, "the pin belongs to the other format"
    (tmp_path / "m" / "a.safetensors").write_bytes(b"x")
    assert locate(file, tmp_path).path.name == "a.safetensors"
    assert not locate(file, tmp_path).intact


def test_an_empty_note_beside_a_file_says_nothing(tmp_path):
    file = WeightFile("w", "a.bin", "https://x/a")
    for name in ("a.bin", "a.bin.sha256"):
        (tmp_path / name).write_bytes(b"")
    assert locate(file, tmp_path).expected is None


@pytest.mark.parametrize("name", ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"])
def test_the_hubs_own_cache_is_looked_at(tmp_path, monkeypatch, name):
    cache = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    repository = cache / "models--laion--CLIP-ViT-B-32-laion2B-s34B-b79K"
    for folder in ("refs", "snapshots/abc"):
        (repository / folder).mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    (repository / "snapshots" / "abc" / name).write_bytes(b"weights")
    clip = required_files(preset("paper"))[0]
    path = find(clip, tmp_path / "weights")
    assert path is not None
    assert path.name == name
