"""The benchmark of learning: what its projects are, how it counts, and that fits are worth having."""

import numpy as np
import pytest

from benchmarks.learning import Measured, Task, corrected, invented_pictures, make_task, measure, table, taught
from benchmarks.learning_pictures import LABELS, art_set, degrade, project_nouns
from clipdiy.build import build_segmenter
from clipdiy.config import preset
from clipdiy.method import build_method
from clipdiy.vocabulary import make_vocabulary
from clipdiy.weights import STARTER_DIR


@pytest.mark.parametrize(
    ("kind", "labels", "positions"),
    [
        pytest.param("all", ("a", "b", "c", "d"), [0, 1, 2, 3, 4], id="all"),
        pytest.param("meaningless", ("a", "thing A", "c", "thing B"), [0, 1, 2, 3, 4], id="meaningless"),
        pytest.param("half", ("a", "c"), [0, 1, 0, 2, 0], id="half"),
    ],
)
def test_tasks(kind, labels, positions):
    task = make_task(["a", "b", "c", "d"], kind)
    assert task.labels == labels
    assert task.position_of.tolist() == positions


def test_projects_differ_and_repeat():
    assert project_nouns(1) == project_nouns(1)
    assert len(set(project_nouns(1))) == LABELS
    assert project_nouns(1) != project_nouns(2)


def test_degraded_pictures_are_grey_and_flat():
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    spoiled = degrade(image, 3)
    assert spoiled.shape == image.shape
    assert (spoiled == spoiled[:, :, :1]).all()
    assert spoiled.std() < image.std() / 2
    assert (degrade(image, 3) == spoiled).all()
    assert (degrade(image, 4) != spoiled).any()


def test_table():
    measured = {
        ("known", 1): {2: Measured(80.0, 80.0, 79.0), 50: Measured(80.0, 79.7, None)},
        ("known", 2): {2: Measured(90.0, 92.0, 90.0), 50: Measured(90.0, 93.0, None)},
    }
    lines = table(measured, (2, 50))
    assert lines[2] == "| known | 85.0 | 86.0 (-0.5) | 86.3 |"
    assert "Worse than the words alone: 1 of 4, worst -0.3. known, seed 1, N = 50: -0.3" in lines
    assert "Without a guard: 1 of 2, worst -1.0. " in lines


def test_invented_pictures_have_what_they_say():
    pictures, texts = invented_pictures(3, 32, 5)
    assert len({picture.identity for picture in pictures}) == 3
    assert texts.shape == (6, 32)
    np.testing.assert_allclose(np.linalg.norm(texts, axis=1), 1, rtol=1e-5)
    assert pictures[0].features.crop_embeddings[2].shape == (7, 7, 32)
    assert set(pictures[0].shares.positions) <= set(range(6))


needs_starter = pytest.mark.skipif(
    not (STARTER_DIR / "clip").is_dir(), reason="needs the starter weights, and this checkout has none"
)


@needs_starter
def test_meaningless_labels_are_learned_and_known_ones_left_alone():
    segmenter = build_segmenter(preset("starter", dtype="float32", device="cpu"))
    pictures = art_set(segmenter, "known", 900, to_correct=15, to_measure=15)
    known, meaningless = (
        measure(segmenter, make_task(pictures.nouns, kind), pictures.to_correct, pictures.to_measure, [15])[15]
        for kind in ("all", "meaningless")
    )
    assert meaningless.learned > meaningless.words + 15
    assert known.learned > known.words - 0.5


@needs_starter
@pytest.mark.parametrize("method", ["clip-diy", "clip-dinoiser"])
def test_encoded_pictures_are_kept(tmp_path, method):
    segmenter = build_method(preset("starter", method=method, dtype="float32", device="cpu"), warm_up=False)
    first = art_set(segmenter, "known", 900, cache=tmp_path, to_correct=1, to_measure=1)
    segmenter.encode = None
    again = art_set(segmenter, "known", 900, cache=tmp_path, to_correct=1, to_measure=1)
    assert again.to_correct[0].features.to_bytes() == first.to_correct[0].features.to_bytes()
    (picture,) = corrected(first.to_correct, Task(("x",), np.minimum(np.arange(LABELS + 1), 1)), method)
    assert picture.shares.positions == (0, 1)
    assert taught(segmenter, [picture], make_vocabulary(["x"])).encoder == segmenter.encoder_identity


def test_invented_patches_are_one_grid():
    pictures, _ = invented_pictures(2, 32, 5, sides=(16,))
    (grid,) = pictures[0].features.crop_embeddings
    assert grid.shape == (16, 16, 32)
