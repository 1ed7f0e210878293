"""`clipdiy weights`: what is needed, whether it is there, and getting it."""

import re

import torch
from safetensors.torch import save_file
from tiny import GOLDEN

import clipdiy.weights
from clipdiy.config import preset
from clipdiy.method import required_files
from clipdiy.weights import FOUND_HEAD_SHA256


def put(file, folder):
    """Write a file that holds the names of the tensors that it must have."""
    path = folder / file.name
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {f"some.{name}": torch.zeros(1) for name in file.tensors}
    save_file(tensors, path) if path.suffix == ".safetensors" else torch.save(tensors, path)


def weights_of_paper(folder):
    """Put files under the right names: only FOUND's head is what it says."""
    for file in required_files(preset("paper")):
        put(file, folder)
    (folder / "found" / "decoder_weights.pt").write_bytes((GOLDEN / "found_head" / "decoder_weights.pt").read_bytes())


def test_weights_list_shows_what_is_missing_and_where_from(clipdiy_command, tmp_path):
    ran = clipdiy_command("weights", "list", "--weights-dir", tmp_path)
    assert ran.code == 0
    assert str(tmp_path) in ran.out
    for name in ("paper", "paper-b16"):
        for file in required_files(preset(name)):
            assert file.name in ran.out
            assert file.url in ran.out
    assert ran.out.count("missing") >= 4
    assert "starter" in ran.out
    assert "umbrella" in ran.out


def test_weights_list_reads_the_folder_from_the_environment(clipdiy_command, tmp_path, monkeypatch):
    weights_of_paper(tmp_path)
    monkeypatch.setenv("CLIPDIY_WEIGHTS_DIR", str(tmp_path))
    ran = clipdiy_command("weights", "list", "--preset", "paper")
    assert "missing" not in ran.out
    assert re.search(r"FOUND's trained head.*there.*kB.*pinned", ran.out)
    assert "starter" not in ran.out


def test_weights_check_says_what_is_right_missing_unknown_and_damaged(clipdiy_command, tmp_path):
    weights_of_paper(tmp_path)
    backbone = tmp_path / "found" / "dino_deitsmall8_300ep_pretrain.pth"
    check = "weights", "check", "--weights-dir", tmp_path
    ran = clipdiy_command(*check)
    assert ran.code == 0
    assert f"{FOUND_HEAD_SHA256} (pinned)" in ran.out
    assert ran.out.count("nothing to compare with") == 2
    clip = tmp_path / required_files(preset("paper"))[0].name
    good = clip.read_bytes()
    clip.write_bytes(bytes(1000))
    ran = clipdiy_command(*check)
    assert ran.code == 1
    assert "it cannot be opened as weights" in ran.out
    clip.write_bytes(good)
    backbone.with_name(backbone.name + ".sha256").write_text(f"{'0' * 64}  {backbone.name}\n")
    ran = clipdiy_command(*check)
    assert ran.code == 1
    assert f"expected {'0' * 64}" in ran.out
    backbone.unlink()
    ran = clipdiy_command(*check)
    assert ran.code == 1
    assert re.search(r"missing\s+" + re.escape(str(backbone)), ran.out)


def test_weights_check_of_bundled_weights_needs_nothing(clipdiy_command, tmp_path):
    assert clipdiy_command("weights", "check", "--preset", "starter", "--weights-dir", tmp_path).code == 0
    assert clipdiy_command("weights", "fetch", "--preset", "starter", "--weights-dir", tmp_path).code == 0


def test_weights_of_other_models(clipdiy_command, tmp_path):
    ran = clipdiy_command(
        "weights", "list", "--preset", "paper", "--clip", "ViT-L-14:laion2b_s32b_b82k", "--found", "local-dir:/x"
    )
    assert "CLIP-ViT-L-14-laion2B-s32B-b82K/open_clip_model.safetensors" in ran.out
    assert ran.out.count("missing") == 1


def test_the_other_methods_weights_are_named_by_preset_or_method(clipdiy_command, tmp_path, monkeypatch):
    files = required_files(preset("dinoiser"))
    assert len(files) == 2
    fetched = []

    def fetch(file, weights_dir, *, progress):
        fetched.append((file.name, file.git_sha1))
        put(file, weights_dir)
        return weights_dir / file.name

    monkeypatch.setattr("clipdiy.cli.weights.fetch", fetch)
    for number, named in enumerate((("--preset", "dinoiser"), ("--method", "clip-dinoiser"))):
        where = "--weights-dir", tmp_path / str(number)
        listed = clipdiy_command("weights", "list", "--preset", "paper", *where, *named)
        assert all(file.url in listed.out for file in files)
        assert "FOUND" not in listed.out
        assert clipdiy_command("weights", "fetch", *where, *named).code == 0
    assert fetched == [(file.name, file.git_sha1) for file in files] * 2


def test_weights_fetch_gets_what_is_missing_only(clipdiy_command, tmp_path, monkeypatch):
    weights_of_paper(tmp_path)
    clip = tmp_path / required_files(preset("paper"))[0].name
    clip.write_bytes(bytes(60_000))  # as long as you like: zeros are no weights
    fetched = []

    def fetch(file, weights_dir, *, progress):
        fetched.append(file.name)
        for done in range(0, 101):
            progress(done * 10_000, 1_000_000)
        put(file, weights_dir)
        return weights_dir / file.name

    monkeypatch.setattr("clipdiy.cli.weights.fetch", fetch)
    ran = clipdiy_command("weights", "fetch", "--weights-dir", tmp_path)
    assert ran.code == 0
    assert fetched == [clip.relative_to(tmp_path).as_posix()]
    assert ran.out.count("there already") == 2
    assert "damaged, fetched again" in ran.out
    assert ran.out.count(" of 1.0 MB") == 11, "a log without a terminal gets a line every tenth"


def test_weights_fetch_that_fails_is_one_message(clipdiy_command, tmp_path, monkeypatch):
    monkeypatch.setitem(clipdiy.weights.PUBLISHED_HUBS, "ViT-B-32:laion2b_s34b_b79k", "owner/model/")
    monkeypatch.setattr("requests.Session.get", lambda *_args, **_kwargs: (_ for _ in ()).throw(OSError("no network")))
    ran = clipdiy_command("weights", "fetch", "--weights-dir", tmp_path)
    assert ran.code == 2
    assert "no network" in ran.err
    assert "by hand" in ran.err
    assert "Traceback" not in ran.err
