"""The method's own settings, and what follows from them and from what all methods share."""

from dataclasses import replace

import pytest

from clipdiy.config import CoreConfig, preset
from clipdiy.dinoiser.config import DinoiserConfig, Windows, clip_of, heads_of, settings_of, templates_of
from clipdiy.dinoiser.needs import HEADS, dinoiser_files
from clipdiy.errors import ConfigError

B16 = "ViT-B-16:laion2b_s34b_b88k"
PLAIN = CoreConfig(method="clip-dinoiser")
STARTER = preset("starter", method="clip-dinoiser")


@pytest.mark.parametrize(
    "values",
    [
        {"heads": "mine"},
        {"way": "both"},
        {"background": "maybe"},
        {"long_px": 8},
        {"long_px": 4096},
        {"gamma": -0.1},
        {"delta": 1.1},
        {"prompt_templates": ()},
        {"prompt_templates": ("a photo",)},
    ],
    ids=str,
)
def test_settings_that_make_no_sense(values):
    with pytest.raises(ConfigError, match=next(iter(values)).removesuffix("_templates")):
        DinoiserConfig(**values)


@pytest.mark.parametrize(
    "values", [{"short_px": 8}, {"long_px": 4096}, {"window_px": 8}, {"stride_px": 0}, {"stride_px": 449}], ids=str
)
def test_windows_that_make_no_sense(values):
    with pytest.raises(ConfigError, match=next(iter(values))):
        Windows(**values)


def test_settings_of_another_method_are_refused():
    with pytest.raises(ConfigError, match="must be a DinoiserConfig"):
        settings_of(replace(PLAIN, method_config=Windows()))
    assert settings_of(PLAIN) == DinoiserConfig()
    assert settings_of(STARTER).long_px == 256
    assert settings_of(replace(STARTER, method_config=DinoiserConfig())).long_px == 640


WEIGHTS = {
    "the preset": (preset("dinoiser"), B16, "published"),
    "nobody named a CLIP": (PLAIN, B16, "published"),
    "named": (replace(PLAIN, clip=B16), B16, "published"),
    "the starter": (STARTER, "starter", "starter"),
    "a folder": (
        replace(PLAIN, clip="local-dir:/a", method_config=DinoiserConfig(heads="local-dir:/b")),
        "local-dir:/a",
        "local-dir:/b",
    ),
}


@pytest.mark.parametrize(("config", "clip", "heads"), WEIGHTS.values(), ids=WEIGHTS)
def test_which_weights_serve(config, clip, heads):
    assert (clip_of(config), heads_of(config)) == (clip, heads)


@pytest.mark.parametrize(
    ("clip", "heads"),
    [("ViT-L-14:openai", "auto"), ("local-dir:/a", "published"), (B16, "starter"), ("starter", "published")],
)
def test_heads_of_another_clip_are_refused(clip, heads):
    with pytest.raises(ConfigError, match="belong to the CLIP"):
        dinoiser_files(replace(PLAIN, clip=clip, method_config=DinoiserConfig(heads=heads)))


def test_what_has_to_be_fetched():
    clip, heads = dinoiser_files(preset("dinoiser"))
    assert clip.hub == ("laion/CLIP-ViT-B-16-laion2B-s34B-b88K", "open_clip_model.safetensors")
    assert heads == HEADS
    assert heads.url.endswith("/clip_dinoiser/a954aae6fb61f5ff18834e50a0c78a2258cd9afb/checkpoints/last.pt")
    assert heads.git_sha1 == "0b6c94d9c439ebac7bcb07fe805be3654ea03c7f"
    assert dinoiser_files(STARTER) == ()
    assert dinoiser_files(WEIGHTS["a folder"][0]) == ()


def test_templates():
    assert len(templates_of(PLAIN)) == 80
    assert templates_of(replace(PLAIN, prompt_template="art of a {}")) == ("art of a {}",)
    assert templates_of(STARTER) == ("a photo of a {}",), "the starter knows few words"
    own = DinoiserConfig(prompt_templates=("a {}", "the {}"))
    assert templates_of(replace(STARTER, method_config=own)) == ("a {}", "the {}")
