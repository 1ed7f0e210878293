"""The seam: a toy method is registered here, and everybody who asks for a method gets it. No other file is touched."""

import json
import sys
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import TINY, VOCABULARY, photo

from clipdiy.build import build_segmenter
from clipdiy.cli import main
from clipdiy.config import AS_CONFIGURED, CoreConfig, SegmentOptions
from clipdiy.errors import ConfigError, FeaturesError, WeightsError
from clipdiy.explanation import ExplainedPicture, ExplainedStep, Explanation
from clipdiy.features import ImageFeatures
from clipdiy.method import (
    METHODS,
    MethodEntry,
    build_method,
    method_named,
    read_features,
    register_method,
    require_weights,
    required_files,
)
from clipdiy.others.choice import Choice
from clipdiy.segmentation import Segmentation
from clipdiy.segmenter import Segmenter
from clipdiy.weights import WeightFile

MAGIC = b"TOY__\x01"


@dataclass(frozen=True)
class Brightness:
    """A toy's features: how bright each pixel of a small copy is."""

    values: np.ndarray
    size_hw: tuple[int, int]
    made_by: str
    picture: None = None

    def to_bytes(self):
        rows, cols = self.values.shape
        head = json.dumps([self.made_by, self.size_hw, rows, cols]).encode()
        return MAGIC + len(head).to_bytes(4, "big") + head + self.values.tobytes()

    @classmethod
    def from_bytes(cls, data):
        length = int.from_bytes(data[6:10], "big")
        made_by, size_hw, rows, cols = json.loads(data[10 : 10 + length])
        return cls(np.frombuffer(data[10 + length :], np.uint8).reshape(rows, cols), tuple(size_hw), made_by)


class Bright:
    """Calls whatever is bright by the first label. Knows neither CLIP nor objectness."""

    name = "bright"
    device = torch.device("cpu")
    identity = "bright1"
    encoder_identity = "bright"
    description = {"threshold": 128}  # noqa: RUF012
    scales = ()
    keep_long_px = 64
    keep_short_px = 0

    def __init__(self, config):
        self.config = config

    def kept_bytes(self, size_hw):
        return size_hw[0] * size_hw[1]

    def doubts(self, vocabulary):
        return ("whatever is bright is a cat",)

    def choose_others(self, vocabulary, words=None):
        return Choice((), ())

    def encode(self, photos):
        return [Brightness(photo.pixels.mean(axis=2).astype(np.uint8), photo.size_hw, "bright") for photo in photos]

    def segment(self, features, vocabulary, options=AS_CONFIGURED):
        rows, cols = (np.arange(n) * m // n for n, m in zip(features.size_hw, features.values.shape, strict=True))
        label_map = (features.values[rows][:, cols] > 128).astype(np.uint16)
        area = np.bincount(label_map.ravel(), minlength=len(vocabulary)) / label_map.size
        return Segmentation(label_map, area, np.where(area > 0, 0.5, 0).astype(np.float32), 0.5)

    def explain(self, photo, features, vocabulary):
        maps = torch.from_numpy(features.values / np.float32(255)).expand(len(vocabulary), -1, -1)
        step = ExplainedStep("brightness", "", maps, "brightness")
        return Explanation((ExplainedPicture("photo", maps[0]),), (step,), torch.zeros(len(vocabulary)))

    def with_config(self, config):
        return Bright(config)

    def for_pieces(self):
        return self


def build(config, *, weights_dir, cache_dir, warm_up):
    return Bright(config)


TOY = MethodEntry(
    "bright",
    "what is bright",
    build=build,
    magic=MAGIC,
    read_features=Brightness.from_bytes,
    templates=lambda _: ("{}", "a bright {}"),
)


@pytest.fixture
def toy(monkeypatch):
    known = dict(METHODS)
    monkeypatch.setattr("clipdiy.method.METHODS", known)
    register_method(TOY)
    return known


@pytest.fixture
def clipdiy_command(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["clipdiy", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code or 0, capsys.readouterr()

    return run


@pytest.mark.usefixtures("toy")
def test_segment_from_the_command_line(clipdiy_command, tmp_path):
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:, 30:] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    out = tmp_path / "out"
    code, said = clipdiy_command(
        "segment", tmp_path / "a.png", "--labels", "cat", "--method", "bright", "--explain", "--out", out
    )
    assert code == 0
    assert "whatever is bright is a cat" in said.err
    assert (np.array(Image.open(out / "a.labels.png")) == (pixels[..., 0] > 0)).all()
    report = json.loads((out / "a.json").read_text())
    assert report["model"] == {"identity": "bright1", "method": "bright", "device": "cpu", "threshold": 128}
    assert report["labels"][1]["prompts"] == ["cat", "a bright cat"]
    assert (out / "a.explain.png").is_file()


@pytest.mark.usefixtures("toy")
def test_bench_from_the_command_line(clipdiy_command, tmp_path):
    code, said = clipdiy_command(
        "bench", "--method", "bright", "--size", "64x48", "--repeats", 1, "--batches", 1, "--json", tmp_path / "r.json"
    )
    assert code == 0
    assert "all of encoding" in said.out
    report = json.loads((tmp_path / "r.json").read_text())
    assert set(report["stages_ms"]) == {"all of encoding", "label map and scores"}
    assert report["floor"] is None


@pytest.mark.usefixtures("toy")
def test_weights_from_the_command_line(clipdiy_command, tmp_path, toy):
    code, said = clipdiy_command("weights", "check", "--method", "bright", "--weights-dir", tmp_path)
    assert (code, said.out) == (0, "")
    file = WeightFile("eyes", "bright/eyes.bin", "https://example.org/eyes.bin")
    toy["bright"] = replace(TOY, required_files=lambda _: (file,))
    code, said = clipdiy_command("weights", "check", "--method", "bright", "--weights-dir", tmp_path)
    assert code == 1
    assert "https://example.org/eyes.bin" in said.out
    config = CoreConfig(method="bright")
    assert required_files(config) == (file,)
    with pytest.raises(WeightsError, match="clipdiy weights fetch --method bright"):
        require_weights(config, tmp_path)


def test_an_unknown_method_is_one_message(clipdiy_command, tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    code, said = clipdiy_command("segment", tmp_path / "a.png", "--labels", "cat", "--method", "dark")
    assert code == 2
    assert "got 'dark'" in said.err


@pytest.mark.usefixtures("toy")
def test_features_of_all_methods_come_from_the_same_bytes():
    segmenter = build_method(TINY, warm_up=False)
    ours = segmenter.encode([photo(0, 40, 60)])[0]
    theirs = build_method(CoreConfig(method="bright")).encode([photo(0, 40, 60)])[0]
    back = [read_features(features.to_bytes()) for features in (ours, theirs)]
    assert [type(features) for features in back] == [type(ours), Brightness]
    assert [features.made_by for features in back] == [segmenter.encoder_identity, "bright"]
    assert [features.size_hw for features in back] == [(40, 60)] * 2
    segmenter.segment(back[0], VOCABULARY)
    np.testing.assert_array_equal(back[1].values, theirs.values)


@pytest.mark.parametrize("data", [b"", b"CDIYF\x02" + bytes(40), b"TOY__\x01" + bytes(40)], ids=repr)
def test_bytes_of_no_known_method(data):
    with pytest.raises(FeaturesError, match="no known method"):
        read_features(data)


def test_clip_diy_is_the_first_entry_and_the_default():
    assert next(iter(METHODS)) == CoreConfig().method == "clip-diy"
    method = build_method(TINY, warm_up=False)
    assert isinstance(method, Segmenter)
    assert method.identity == build_segmenter(TINY, warm_up=False).identity
    assert method_named("clip-diy").templates(CoreConfig(prompt_template="x {}")) == ("x {}",)


def test_another_method_is_not_built_as_clip_diy():
    with pytest.raises(ConfigError, match="build_method"):
        build_segmenter(CoreConfig(method="bright"))


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize(
    "entry",
    [replace(TOY, name="other"), replace(TOY, magic=b"OTHER1"), replace(TOY, name="clip-diy", magic=b"OTHER1")],
    ids=["magic", "name", "name of the first"],
)
def test_names_and_first_bytes_are_given_once(entry):
    with pytest.raises(ConfigError, match="has the name or the first bytes"):
        register_method(entry)


def test_what_learns_says_from_what():
    with pytest.raises(ConfigError, match="`evidence` is missing"):
        replace(TOY, learn=lambda method, pictures, vocabulary: None)


def test_a_picture_is_nothing_to_learn_from():
    features = ImageFeatures((), None, (3, 4), "core", b"a picture")
    assert method_named("clip-diy").evidence(features) == replace(features, picture=None)


def test_first_bytes_are_six():
    for magic in (b"TOY", b"TOY__\x01\x01"):
        with pytest.raises(ConfigError, match="must begin with 6 bytes"):
            replace(TOY, magic=magic)


def test_a_question_without_wishes_is_the_configuration():
    assert SegmentOptions(scales=None, refine=True) == AS_CONFIGURED
