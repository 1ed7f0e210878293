"""Our program against the outputs of the authors' own (tests/fixtures/golden_dinoiser)."""

import numpy as np
import pytest
import torch
from dinoiser_tiny import CONFIG, GOLDEN_DINOISER, PHOTO, changed, load_dinoiser

from clipdiy.dinoiser.config import Windows
from clipdiy.dinoiser.features import DinoiserFeatures
from clipdiy.dinoiser.heads import correlations, pool
from clipdiy.dinoiser.labels import direct_label_map, strip_label_map
from clipdiy.dinoiser.probabilities import (
    ProbabilityField,
    ProbabilityTile,
    class_cosines,
    class_probabilities,
    refine_background,
)
from clipdiy.dinoiser.prompts import imagenet_templates
from clipdiy.dinoiser.tower import fit_positions, pad_to_patches
from clipdiy.dinoiser.windows import Window, sliding_windows
from clipdiy.vocabulary import Label, Vocabulary, make_vocabulary, phrases_to_prompts

SLIDING = changed(CONFIG, way="windows", windows=Windows(short_px=None, window_px=160, stride_px=80))
GAMMA, DELTA = 0.2, 0.99
WAYS = [
    ("labels", CONFIG, "plain"),
    ("labels_background", CONFIG, "refined"),
    ("slide_labels", SLIDING, "plain"),
    ("slide_labels_background", SLIDING, "refined"),
]


@pytest.fixture(scope="module")
def expected():
    return dict(np.load(GOLDEN_DINOISER / "expected.npz"))


@pytest.fixture(scope="module")
def dinoiser():
    return load_dinoiser(CONFIG)


@pytest.fixture(scope="module")
def texts(expected):
    return torch.from_numpy(expected["class_embeddings"])


def prepared(dinoiser, images):
    padded = pad_to_patches(images, 16)
    return (padded.float() / 255 - dinoiser.clip.mean) / dinoiser.clip.std


def read(dinoiser, images):
    """Return pooled features (D, h, w) and background logits of each picture, in float32."""
    seen = dinoiser.read(images)
    return seen, [pool(dense, one, GAMMA) for dense, one in zip(seen.dense, seen.directions, strict=True)]


@pytest.fixture(scope="module")
def image():
    return torch.from_numpy(PHOTO.pixels.transpose(2, 0, 1).copy())[None]


@pytest.fixture(scope="module")
def seen(dinoiser, image):
    return read(dinoiser, image)


def near(ours, theirs, atol):
    assert tuple(ours.shape) == theirs.shape
    np.testing.assert_allclose(ours, theirs, atol=atol, rtol=0)


def test_input_and_positions(dinoiser, image, expected):
    near(prepared(dinoiser, image)[0, :, -48:, -64:], expected["input_corner"], 1e-6)
    learned = dinoiser.clip.network.visual.positional_embedding
    near(fit_positions(learned, (19, 29)), expected["position_embedding"], 1e-6)


def test_features_correlations_and_background(seen, expected):
    read, pooled = seen
    near(read.intermediate[0], expected["intermediate"], 1e-4)
    near(read.dense[0], expected["maskclip_features"], 1e-4)
    rows = correlations(read.directions[0], torch.from_numpy(expected["correlation_cells"]))
    near(rows.reshape(-1, 19, 29), expected["correlation_rows"], 1e-5)
    near(pooled[0], expected["pooled_features"], 1e-4)
    near(read.background[0], expected["background_logits"], 1e-4)


def test_probabilities(seen, texts, expected):
    read, pooled = seen
    near(
        class_probabilities(class_cosines(read.dense[0].permute(1, 2, 0), texts)),
        expected["maskclip_probabilities"],
        1e-4,
    )
    cosines = class_cosines(pooled[0].permute(1, 2, 0), texts)
    near(cosines, expected["class_cosines"], 1e-5)
    probabilities = class_probabilities(cosines)
    near(probabilities, expected["probabilities"], 1e-4)
    near(refine_background(probabilities, read.background[0], DELTA), expected["probabilities_background"], 1e-4)


def exact_label_map(dinoiser, config, refined, image, texts):
    """Make a label map without ever storing features; also the field it was read from."""
    size_hw = tuple(image.shape[2:])
    if config.method_config.way == "whole":
        windows, seen_hw = [Window(0, 0, *size_hw)], None
    else:
        windows = sliding_windows(
            size_hw, config.method_config.windows.window_px, config.method_config.windows.stride_px
        )
        seen_hw = size_hw
    batch = torch.cat([image[:, :, one.top : one.bottom, one.left : one.right] for one in windows])
    read_, pooled = read(dinoiser, batch)
    tiles = []
    for window, one, logits in zip(windows, pooled, read_.background, strict=True):
        values = class_probabilities(class_cosines(one.permute(1, 2, 0), texts))
        if refined:
            values = refine_background(values, logits, DELTA)
        extent = (size_hw[0] / 16, size_hw[1] / 16) if seen_hw is None else values.shape[1:]
        tiles.append(ProbabilityTile(values, window, extent))
    if seen_hw is None:
        return direct_label_map(tiles[0].values, tiles[0].extent_hw, size_hw), ProbabilityField(tiles, None, size_hw)
    field = ProbabilityField(tiles, seen_hw, size_hw)
    return strip_label_map(field), field


@pytest.mark.parametrize(("name", "config", "background"), WAYS, ids=[way[0] for way in WAYS])
def test_label_maps(dinoiser, image, texts, expected, name, config, background):
    labels, field = exact_label_map(dinoiser, config, background == "refined", image, texts)
    assert len(np.unique(expected[name])) >= 4, "the golden map is varied, so that equality means something"
    assert (labels.numpy() == expected[name]).mean() >= 0.999
    assert torch.equal(strip_label_map(field, strip_values=4000), strip_label_map(field)), "strips change nothing"
    if name == "slide_labels":
        near(field.rows(0, 300)[:, ::8, ::8], expected["slide_probabilities_every_8"], 1e-4)


@pytest.fixture(scope="module")
def stored(expected):
    """Return the whole product's own label maps, from features that went through bytes."""
    vocabulary = make_vocabulary(list(expected["classes"][1:]))
    maps = {}
    for name, config, background in WAYS:
        dinoiser = load_dinoiser(changed(config, background=background))
        dinoiser.clip.embed_vocabulary = lambda _vocabulary: torch.from_numpy(expected["class_embeddings"])
        features = DinoiserFeatures.from_bytes(dinoiser.encode([PHOTO])[0].to_bytes())
        maps[name] = dinoiser.segment(features, vocabulary).label_map
    return maps


def test_features_stored_in_half_precision_keep_the_labels(stored, expected):
    shares = {name: (stored[name] == expected[name]).mean() for name in stored}
    assert all(share >= 0.999 for share in shares.values()), shares
    assert np.mean(list(shares.values())) >= 0.9999, shares


@pytest.mark.parametrize("tower", ["float32", "bfloat16"])
def test_the_tower_in_bfloat16_keeps_most_labels(expected, tower):
    dinoiser = load_dinoiser(changed(CONFIG, background="plain", dtype=tower))
    dinoiser.clip.embed_vocabulary = lambda _vocabulary: torch.from_numpy(expected["class_embeddings"])
    features = dinoiser.encode([PHOTO])[0]
    labels = dinoiser.segment(features, make_vocabulary(list(expected["classes"][1:]))).label_map
    agreement = (labels == expected["labels"]).mean()
    assert agreement >= {"float32": 0.9999, "bfloat16": 0.985}[tower]
    assert (agreement < 0.9999) == (tower == "bfloat16"), "it did compute in bfloat16"


@pytest.mark.parametrize(
    ("name", "templates"),
    [("text_embeddings_80", None), ("text_embeddings_2", ("a photo of a {}", "a photo of an {}"))],
    ids=["80 templates", "two"],
)
def test_text_embeddings(dinoiser, expected, name, templates):
    templates = templates or imagenet_templates()
    labels = [Label(str(word), phrases_to_prompts((str(word),), templates)) for word in expected["classes"]]
    near(dinoiser.clip.embed_vocabulary(Vocabulary(tuple(labels))), expected[name], 1e-5)


def test_the_templates_are_the_published_ones_in_their_order(expected):
    assert imagenet_templates() == tuple(expected["templates"])
