"""The paper's tables as named variants."""

from dataclasses import replace

import pytest

from clipdiy.config import CleanUp, CropGrid, ObjectnessConfig, Pamr, preset
from clipdiy.dinoiser.config import DinoiserConfig, settings_of
from clipdiy.errors import ConfigError
from clipdiy.evaluate.variants import TABLES, VARIANTS, choose


@pytest.mark.parametrize(
    ("name", "keys", "published"),
    [
        ("1", ["b32", "b16"], [(59.9, 31.0), (59.0, 30.4)]),
        ("2", ["clip-diy", "no-multi-scale", "no-objectness"], [(59.9, 31.0), (56.0, 25.9), (24.1, 15.5)]),
        ("4", ["found", "found-bkg", "cutler"], [(59.9, None), (48.4, None), (55.4, None)]),
    ],
)
def test_tables_carry_the_papers_figures(name, keys, published):
    _, chosen = choose(name, [], "paper")
    assert [variant.key for variant in chosen] == keys
    assert [(v.published.get("voc"), v.published.get("coco")) for v in chosen] == published


def test_beside_the_larger_backbone_stands_what_the_paper_says_of_it():
    def beside(preset_name):
        _, chosen = choose("2,4,3", ["b32", "b16"], preset_name)
        return {variant.key: dict(variant.published) for variant in chosen if variant.published}

    b32, b16 = {"voc": 59.9, "coco": 31.0}, {"voc": 59.0, "coco": 30.4}
    assert beside("paper-b16") == {"clip-diy": b16, "found": b16, "scales-012": b16, "b32": b32, "b16": b16}
    assert beside("paper")["no-multi-scale"] == {"voc": 56.0, "coco": 25.9}
    assert choose(None, [], "paper-b16")[1][0].published == b16
    assert choose(None, [], "paper")[1][0].published == choose(None, [], "starter")[1][0].published == b32


def test_table_3_has_the_papers_scales():
    _, chosen = choose("3", [], "paper")
    sides = {variant.key: variant.configure(preset("paper")).grid.patch_px for variant in chosen}
    assert sides["scales-01234"] == (256, 128, 64, 32, 16)
    assert sides["scales-0"] == (256,)
    assert sides["scales-123"] == (128, 64, 32)
    voc = {"scales-0": 56.0, "scales-01": 58.8, "scales-012": 59.9, "scales-0123": 59.5, "scales-01234": 59.3,
           "scales-123": 53.8}  # fmt: skip
    assert {variant.key: variant.published["voc"] for variant in chosen if variant.published} == voc
    coco = {"scales-0": 25.9, "scales-01": 28.7, "scales-012": 31.0, "scales-0123": 29.9, "scales-01234": 29.4,
            "scales-123": 26.4}  # fmt: skip
    assert {variant.key: variant.published["coco"] for variant in chosen if variant.published} == coco


def test_backbones_bring_their_own_preset():
    base = preset("paper", device="cpu", label_map="square", clean_up=CleanUp(0))
    b16 = VARIANTS["b16"].configure(base)
    assert b16 == replace(preset("paper-b16"), device="cpu", label_map="square", clean_up=CleanUp(0))
    assert [variant.key for variant in choose("1", [], "starter")[1]] == ["clip-diy"]


def test_variants_change_only_what_they_are_named_for():
    base = preset("starter")
    assert VARIANTS["clip-diy"].configure(base) == base
    assert VARIANTS["stride-full"].configure(base).grid == CropGrid(stride_ratio=1.0)
    apart = replace(base, grid=CropGrid(stride_ratio=1.0), clean_up=CleanUp(0), pamr=Pamr())
    assert VARIANTS["stride-half"].configure(apart) == replace(apart, grid=CropGrid(stride_ratio=0.5))
    refined = {
        "plain": (CleanUp(0), None),
        "clean-up": (CleanUp(), None),
        "pamr": (CleanUp(0), Pamr()),
        "pamr-clean-up": (CleanUp(), Pamr()),
    }
    for key, (clean_up, pamr) in refined.items():
        assert VARIANTS[key].configure(base) == replace(base, clean_up=clean_up, pamr=pamr), key
    assert VARIANTS["pamr"].configure(base) == replace(base, pamr=Pamr(), clean_up=CleanUp(0))
    assert VARIANTS["prune-4"].configure(base) == replace(base, prune_logits=4)
    assert VARIANTS["no-objectness"].configure(base).objectness == ObjectnessConfig(method="none", square_px=256)
    assert all(key in VARIANTS for table in TABLES.values() for key in table.keys)


def test_dinoiser_is_the_published_one_through_windows_unless_the_starter_is_evaluated():
    dinoiser = VARIANTS["dinoiser"]
    published = {"device": "cpu", "label_map": "square", "clean_up": CleanUp(0)}
    windows = DinoiserConfig(way="windows")
    assert (windows.windows.short_px, windows.windows.window_px, windows.windows.stride_px) == (448, 448, 224)
    expected = replace(preset("dinoiser", **published), method_config=windows)
    assert dinoiser.configure(preset("paper", **published)) == expected
    assert dinoiser.configure(preset("dinoiser", **published)) == expected
    # As the service does it: the picture whole.
    assert dinoiser.configure(preset("paper")) == preset("dinoiser")
    starter = preset("starter", **published)
    assert dinoiser.configure(starter) == replace(starter, method="clip-dinoiser")
    assert settings_of(dinoiser.configure(starter)).way == "whole"
    own = DinoiserConfig(heads="local-dir:/x", gamma=0.3)
    assert settings_of(dinoiser.configure(preset("dinoiser", method_config=own, **published))) == replace(
        own, way="windows"
    )


def test_each_preset_stands_for_its_method():
    for name, own in (("paper", "clip-diy"), ("paper-b16", "clip-diy"), ("starter", "clip-diy"), ("dinoiser",) * 2):
        assert [variant.key for variant in choose(None, [], name)[1]] == [own]
    assert choose(None, [], "an earlier name")[1][0].key == "clip-diy"
    assert [variant.key for variant in choose("methods", [], "dinoiser")[1]] == ["clip-diy", "dinoiser"]
    beside = VARIANTS["clip-diy"].configure(preset("dinoiser", method_config=DinoiserConfig()))
    assert (beside.method, beside.method_config, beside.clip) == ("clip-diy", None, preset("paper-b16").clip)


@pytest.mark.parametrize(("table", "keys"), [("2,9", []), (None, ["best"])], ids=["table", "variant"])
def test_what_is_not_there_is_refused_with_what_is(table, keys):
    with pytest.raises(ConfigError, match="there are: "):
        choose(table, keys, "paper")


def test_several_tables_share_their_rows():
    title, chosen = choose("2,peer", ["prune-4"], "starter")
    assert title == "Table 2: ablation; A training-free peer"
    assert [variant.key for variant in chosen] == [
        "clip-diy", "no-multi-scale", "no-objectness", "maskclip", "maskclip-no-objectness", "prune-4",
    ]  # fmt: skip
