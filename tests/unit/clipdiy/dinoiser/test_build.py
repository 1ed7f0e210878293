"""From the registry to an answer: loading, refusals, one picture on the command line."""

import json

import numpy as np
import pytest
import torch
from dinoiser_tiny import CONFIG, GOLDEN_DINOISER, PHOTO, changed, load_dinoiser
from PIL import Image
from tiny import VOCABULARY

from clipdiy.config import preset
from clipdiy.dinoiser.config import Windows
from clipdiy.dinoiser.method import Dinoiser
from clipdiy.errors import ConfigError, WeightsError
from clipdiy.method import build_method, method_named, read_features, require_weights
from clipdiy.panel import explain_panel
from clipdiy.photo import Photo
from clipdiy.starter.scenes import compose_scene
from clipdiy.vocabulary import make_vocabulary
from clipdiy.weights import STARTER_DIR


def test_the_registry_builds_it_and_reads_its_features():
    method = build_method(CONFIG)
    assert isinstance(method, Dinoiser)
    features = method.encode([PHOTO])[0]
    data = features.to_bytes()
    assert data.startswith(method_named("clip-dinoiser").magic)
    again = read_features(data)
    np.testing.assert_array_equal(
        method.segment(again, VOCABULARY).label_map, method.segment(features, VOCABULARY).label_map
    )


def test_heads_are_part_of_the_identity(tmp_path):
    state = {name: value.clone() for name, value in load_dinoiser()._heads.state_dict().items()}
    state["bkg_decoder.bias"] += 1
    torch.save({"epoch": 1, "model_state_dict": state}, tmp_path / "last.pt")
    other = build_method(changed(CONFIG, heads=f"local-dir:{tmp_path}"), warm_up=False)
    assert other.encoder_identity != load_dinoiser().encoder_identity
    assert (other.encode([PHOTO])[0].tiles[0].background > load_dinoiser().encode([PHOTO])[0].tiles[0].background).all()


@pytest.mark.parametrize("warm_up", [True, False])
def test_one_picture_is_run_before_it_serves(monkeypatch, warm_up):
    run = []
    monkeypatch.setattr(Dinoiser, "segment", lambda _self, features, *_: run.append(features.size_hw))
    build_method(CONFIG, warm_up=warm_up)
    assert len(run) == warm_up


def test_without_a_folder_weights_are_looked_for_where_they_are_fetched_to(monkeypatch, tmp_path):
    monkeypatch.setattr("clipdiy.dinoiser.build.default_weights_dir", lambda: tmp_path / "usual")
    with pytest.raises(WeightsError, match=str(tmp_path / "usual")):
        build_method(preset("dinoiser"))


def test_a_folder_without_heads(tmp_path):
    with pytest.raises(WeightsError, match=r"must hold heads.safetensors or last.pt"):
        build_method(changed(CONFIG, heads=f"local-dir:{tmp_path}"))


def test_all_that_is_missing_in_one_message(tmp_path):
    with pytest.raises(WeightsError) as caught:
        build_method(preset("dinoiser"), weights_dir=tmp_path)
    message = str(caught.value)
    assert "CLIP-ViT-B-16-laion2B-s34B-b88K" in message
    assert "clip_dinoiser/last.pt" in message
    assert "clipdiy weights fetch --method clip-dinoiser" in message
    with pytest.raises(WeightsError, match=r"clip_dinoiser/last.pt"):
        require_weights(preset("dinoiser"), tmp_path)


def test_published_heads_that_are_another_file_are_refused(tmp_path):
    wrong = tmp_path / "clip_dinoiser" / "last.pt"
    wrong.parent.mkdir()
    wrong.write_bytes((GOLDEN_DINOISER / "last.pt").read_bytes())
    from clipdiy.dinoiser.loading import locate_heads

    with pytest.raises(WeightsError, match="expected that of git blob 0b6c94d9c439ebac7bcb07fe805be3654ea03c7f"):
        locate_heads("published", tmp_path)


def test_compiling_is_refused():
    with pytest.raises(ConfigError, match="is not compiled: leave compiled at false"):
        build_method(changed(CONFIG, compiled=True))


def test_heads_of_another_width_are_refused():
    resnet = changed(CONFIG, clip=f"local-dir:{STARTER_DIR / 'clip'}")
    with pytest.raises(ConfigError, match=r"heads read 64 channels and .* has 256"):
        build_method(resnet, warm_up=False)


def test_the_starter_in_bfloat16_is_near_itself_in_float32():
    photo, vocabulary = Photo.from_array(compose_scene(7).image), make_vocabulary(["dog", "cat", "car"])
    kinds = ("float32", "bfloat16")
    exact, half = (
        build_method(preset("starter", method="clip-dinoiser", device="cpu", dtype=kind), warm_up=False)
        for kind in kinds
    )
    assert exact.encoder_identity != half.encoder_identity
    made = [method.encode([photo])[0] for method in (exact, half)]
    ours, theirs = (features.tiles[0] for features in made)
    assert not torch.equal(ours.pooled, theirs.pooled), "it did compute in bfloat16"
    assert torch.nn.functional.cosine_similarity(ours.pooled.float(), theirs.pooled.float(), dim=-1).min() > 0.995
    assert ((ours.background > 0) == (theirs.background > 0)).float().mean() > 0.98
    maps = [method.segment(one, vocabulary).label_map for method, one in zip((exact, half), made, strict=True)]
    assert (maps[0] == maps[1]).mean() > 0.99


def test_the_panel_draws_its_explanation():
    dinoiser = load_dinoiser()
    features = dinoiser.encode([PHOTO])[0]
    colours = np.zeros((4, 3), np.uint8)
    explanation = dinoiser.explain(PHOTO, features, VOCABULARY)
    result = dinoiser.segment(features, VOCABULARY)
    panel = explain_panel(PHOTO.pixels, explanation, result, VOCABULARY, colours)
    assert isinstance(panel, Image.Image)
    assert min(panel.size) > 300


@pytest.mark.parametrize("way", ["whole", "windows"])
def test_its_parts_can_be_timed(way):
    windows = Windows(short_px=None, window_px=160, stride_px=80)
    method = load_dinoiser(changed(CONFIG, way=way, windows=windows))
    profile = method_named("clip-dinoiser").profile(method, PHOTO, VOCABULARY)
    for part in (*profile.encoding.values(), *profile.asking.values()):
        part()
    assert set(profile.networks) <= set(profile.encoding)
    # By hand, 2 a multiplication: a block 24 n d^2 + 4 n^2 d, width 64; two whole blocks are the least there is.
    cells = 19 * 29 if way == "whole" else 3 * 5 * 100
    least = 2 * 24 * cells * 64**2 / 1e9
    assert least < sum(profile.work_gflop.values()) < 8 * least
    assert profile.sizes.startswith({"whole": "1 x 300 x 451", "windows": "15 x 160 x 160"}[way])


def test_the_report_can_be_written():
    json.dumps(load_dinoiser().description)
