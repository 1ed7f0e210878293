"""Segmenter with the tiny golden networks: sizes, states, identities."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import TINY, VOCABULARY, photo

from clipdiy.build import build_segmenter
from clipdiy.config import PRESETS, CleanUp, CropGrid, ObjectnessConfig, OthersConfig, Pamr, SegmentOptions
from clipdiy.errors import ConfigError, FeaturesError
from clipdiy.features import ImageFeatures
from clipdiy.pamr import pamr
from clipdiy.photo import Photo
from clipdiy.scores import class_scores
from clipdiy.segmenter import Segmenter
from clipdiy.starter.scenes import compose_scene
from clipdiy.vocabulary import Label, make_vocabulary


@pytest.fixture(scope="module")
def segmenter():
    return build_segmenter(TINY, warm_up=False)


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 300), (300, 1), (217, 333), (640, 480), (31, 900)], ids=str)
@pytest.mark.parametrize("label_map", ["full", "square"])
def test_any_size(segmenter, size_hw, label_map):
    model = Segmenter(
        replace(TINY, label_map=label_map), segmenter.clip, segmenter._objectness_network, name="x", weights_id="x"
    )
    result = model.segment(model.encode([photo(0, *size_hw)])[0], VOCABULARY)
    assert result.label_map.shape == size_hw
    assert result.label_map.dtype == np.uint16
    assert result.label_map.max() < len(VOCABULARY)
    assert result.area.sum() == pytest.approx(1)
    assert result.score.shape == (4,)
    assert ((result.score >= 0) & (result.score <= 1)).all()
    assert (result.score[result.area == 0] == 0).all()
    assert 0 <= result.image_score <= 1


def test_label_map_has_the_size_of_the_original_not_of_the_pixels(segmenter):
    reduced = Photo(photo(0, 100, 80).pixels, (1000, 800))
    assert segmenter.segment(segmenter.encode([reduced])[0], VOCABULARY).size_hw == (1000, 800)


def test_a_batch_is_the_photos_one_by_one(segmenter):
    photos = [photo(1, 90, 120), photo(2, 120, 90), photo(3, 90, 120)]
    together = segmenter.encode(photos)
    for single, batched in zip(photos, together, strict=True):
        alone = segmenter.encode([single])[0]
        for a, b in zip(alone.crop_embeddings, batched.crop_embeddings, strict=True):
            torch.testing.assert_close(a, b, atol=2e-3, rtol=0)
        np.testing.assert_array_equal(
            segmenter.segment(alone, VOCABULARY).label_map, segmenter.segment(batched, VOCABULARY).label_map
        )
    assert segmenter.encode([]) == []


@pytest.mark.parametrize("refinement", [None, Pamr(long_px=64)])
def test_photos_brought_to_a_gpu_a_few_at_a_time_are_the_same_photos(segmenter, monkeypatch, refinement):
    model = segmenter.with_config(replace(TINY, pamr=refinement))
    photos = [photo(seed, *((90, 120), (120, 90))[seed % 2]) for seed in range(5)]
    together = model.encode(photos)
    monkeypatch.setattr(Segmenter, "_photos_at_once", 2)
    for one, other in zip(model.encode(photos), together, strict=True):
        assert one.size_hw == other.size_hw
        assert (one.picture, one.made_by) == (other.picture, other.made_by)
        assert (one.picture is None) == (refinement is None)
        assert torch.equal(one.objectness.grid, other.objectness.grid)
        for a, b in zip(one.crop_embeddings, other.crop_embeddings, strict=True):
            torch.testing.assert_close(a, b, atol=2e-3, rtol=0)


def test_features_survive_their_bytes(segmenter):
    features = segmenter.encode([photo(4, 50, 70)])[0]
    back = ImageFeatures.from_bytes(features.to_bytes())
    np.testing.assert_array_equal(
        segmenter.segment(features, VOCABULARY).label_map, segmenter.segment(back, VOCABULARY).label_map
    )


def test_no_state_between_calls_from_many_threads(segmenter):
    photos = [photo(seed, 40, 60) for seed in range(4)]
    vocabularies = [make_vocabulary(names) for names in (["cat"], ["dog", "tree"], ["a", "b", "c"])]

    def work(i):
        features = segmenter.encode([photos[i % 4]])[0]
        return segmenter.segment(features, vocabularies[i % 3]).label_map

    expected = [work(i) for i in range(12)]
    with ThreadPoolExecutor(6) as pool:
        for got, wanted in zip(pool.map(work, range(12)), expected, strict=True):
            np.testing.assert_array_equal(got, wanted)


def test_features_of_another_core_are_refused(segmenter):
    other = Segmenter(
        replace(TINY, grid=CropGrid(patch_px=(256,))),
        segmenter.clip,
        segmenter._objectness_network,
        name="x",
        weights_id="x",
    )
    with pytest.raises(FeaturesError, match="encode the image again"):
        other.segment(segmenter.encode([photo(0, 20, 20)])[0], VOCABULARY)


@pytest.mark.parametrize("made_by", ["", "0" * 16, "~" * 16])
def test_features_are_refused_whichever_name_comes_first(segmenter, made_by):
    features = replace(segmenter.encode([photo(0, 20, 20)])[0], made_by=made_by)
    with pytest.raises(FeaturesError, match="encode the image again"):
        segmenter.segment(features, VOCABULARY)


def test_what_is_cleaned_up_to_nothing_has_no_score_and_counts_in_none(segmenter):
    labels = torch.zeros(20, 30, dtype=torch.int16)
    labels[:10], labels[15, 15] = 1, 2
    model = segmenter.with_config(replace(TINY, clean_up=CleanUp(0.01)))
    made = model._segmentation(labels, torch.tensor([0.1, 0.5, 0.75, 0.875]), (20, 30), VOCABULARY)
    np.testing.assert_allclose(made.area, [0.5, 0.5, 0, 0])
    np.testing.assert_array_equal(made.score, np.float32([0.1, 0.5, 0, 0]))
    assert made.image_score == 0.5
    untidy = model._segmentation(labels, torch.tensor([0.1, 0.5, 0.75, 0.875]), (20, 30), VOCABULARY, tidy=False)
    assert untidy.score[2] == 0.75
    assert untidy.image_score == pytest.approx(0.625)


def test_features_of_paper_and_paper_fast_never_mix(segmenter):
    exact, fast = (
        segmenter.with_config(replace(TINY, objectness=PRESETS[name].objectness)) for name in ("paper", "paper-fast")
    )
    assert exact.encoder_identity != fast.encoder_identity
    [features] = fast.encode([photo(0, 20, 500)])
    assert features.objectness.grid.shape[1] == 448 / 8
    with pytest.raises(FeaturesError):
        exact.segment(features, VOCABULARY)


@pytest.mark.parametrize(
    ("change", "features_change"),
    [
        ({"grid": CropGrid(patch_px=(256, 128), stride_ratio=1.0)}, True),
        ({"objectness": ObjectnessConfig(square_px=72)}, True),
        ({"label_map": "square"}, False),
        ({"clean_up": CleanUp(0.5)}, False),
    ],
    ids=["stride", "objectness size", "label map", "clean-up"],
)
def test_identities(segmenter, change, features_change):
    def make(config):
        return Segmenter(config, segmenter.clip, segmenter._objectness_network, name="x", weights_id="w")

    before, after = make(TINY), make(replace(TINY, **change))
    assert before.identity == make(TINY).identity
    assert before.identity != after.identity
    assert (before.encoder_identity != after.encoder_identity) == features_change


def test_other_weights_are_another_core(segmenter):
    a, b = (Segmenter(TINY, segmenter.clip, segmenter._objectness_network, name="x", weights_id=id_) for id_ in "ab")
    assert a.encoder_identity != b.encoder_identity


def test_objectness_none_is_plain_clip(segmenter):
    plain = Segmenter(
        replace(TINY, objectness=ObjectnessConfig(method="none")), segmenter.clip, None, name="x", weights_id="x"
    )
    features = plain.encode([photo(5, 60, 60)])[0]
    assert features.objectness is None
    assert plain.square_maps(features, VOCABULARY).objectness is None
    plain.segment(features, VOCABULARY)
    with pytest.raises(ConfigError):
        Segmenter(TINY, segmenter.clip, None, name="x", weights_id="x")


def test_found_bkg_is_hard(segmenter):
    config = replace(TINY, objectness=ObjectnessConfig(method="found-bkg", square_px=64))
    model = Segmenter(config, segmenter.clip, segmenter._objectness_network, name="x", weights_id="x")
    objectness = model.encode([photo(6, 60, 60)])[0].objectness
    assert not objectness.is_logit
    assert set(objectness.grid.unique().tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_stays_close(segmenter, dtype):
    half = build_segmenter(replace(TINY, dtype=dtype), warm_up=False)
    exact, near = (model.encode([photo(7, 80, 80)])[0].crop_embeddings[0] for model in (segmenter, half))
    assert torch.nn.functional.cosine_similarity(exact.float(), near.float(), dim=-1).min() > 0.99


def test_square_maps_are_those_of_every_step(segmenter):
    maps = segmenter.square_maps(segmenter.encode([photo(8, 50, 90)])[0], VOCABULARY)
    assert len(maps.scale_similarity) == 2
    for similarity in (*maps.scale_similarity, maps.similarity, maps.guided):
        assert similarity.shape == (4, 256, 256)
    assert maps.objectness.shape == (256, 256)


def test_explain_shows_objectness_and_every_step(segmenter):
    picture = photo(8, 50, 90)
    features = segmenter.encode([picture])[0]
    explanation = segmenter.explain(picture, features, VOCABULARY)
    maps = segmenter.square_maps(features, VOCABULARY)
    assert [seen.caption for seen in explanation.pictures] == ["objectness"]
    assert [step.detail for step in explanation.steps] == [
        "1 x 1, s = 0",
        "3 x 3, s = 1",
        "Eq. 2",
        "by objectness, Eq. 3",
    ]
    assert [step.scale for step in explanation.steps] == ["similarity"] * 3 + ["guided"]
    torch.testing.assert_close(explanation.steps[-1].values, maps.guided)
    torch.testing.assert_close(explanation.closeness, maps.similarity.flatten(1).amax(dim=1))


@pytest.mark.parametrize("scales", [(256,), (128,), (256, 128), (128, 256), (64,)], ids=str)
def test_fewer_scales_of_the_same_features(segmenter, scales):
    """As a core with these scales alone would have made them; sizes that are not there are ignored."""
    picture = photo(12, 60, 80)
    features = segmenter.encode([picture])[0]
    kept = tuple(scale for scale in TINY.grid.patch_px if scale in scales) or TINY.grid.patch_px
    fewer = segmenter.with_config(replace(TINY, grid=replace(TINY.grid, patch_px=kept)))
    expected = fewer.segment(fewer.encode([picture])[0], VOCABULARY)
    got = segmenter.segment(features, VOCABULARY, SegmentOptions(scales=scales))
    np.testing.assert_array_equal(got.label_map, expected.label_map)
    np.testing.assert_array_equal(got.score, expected.score)


def test_edges_as_they_are_where_the_configuration_refines_them(segmenter):
    picture = photo(13, 60, 80)
    refining = segmenter.with_config(replace(TINY, pamr=Pamr(long_px=40)))
    features = refining.encode([picture])[0]
    plain = segmenter.segment(segmenter.encode([picture])[0], VOCABULARY).label_map
    np.testing.assert_array_equal(refining.segment(features, VOCABULARY, SegmentOptions(refine=False)).label_map, plain)
    assert (refining.segment(features, VOCABULARY).label_map != plain).any()


@pytest.mark.parametrize("pamr", [None, Pamr()], ids=["plain", "with a picture"])
@pytest.mark.parametrize("size_hw", [(480, 640), (64, 900)], ids=str)
def test_what_is_kept_is_about_what_is_said(segmenter, size_hw, pamr):
    model = segmenter.with_config(replace(TINY, grid=CropGrid(), objectness=ObjectnessConfig(), pamr=pamr))
    scene = compose_scene(3, size_hw=size_hw)
    kept = len(model.encode([Photo.from_array(scene.image)])[0].to_bytes())
    assert model.kept_bytes(size_hw) == pytest.approx(kept, rel=0.35)


def test_pieces_are_encoded_with_fewer_crops_and_a_smaller_objectness(segmenter):
    model = segmenter.with_config(replace(TINY, grid=CropGrid(), objectness=ObjectnessConfig()))
    pieces = model.for_pieces()
    assert (model.crop_count, pieces.crop_count) == (59, 21)
    assert pieces.config.objectness.long_px == 256
    assert pieces.config.clip == model.config.clip
    odd = segmenter.with_config(replace(TINY, grid=CropGrid(square_px=96, patch_px=(64,), stride_ratio=0.5)))
    assert odd.for_pieces().config.grid == odd.config.grid, "crops side by side would not cover the square"


class TestStuff:
    labels = ("cat", "sky", "sofa", "grass")
    plain = make_vocabulary(labels)
    with_stuff = make_vocabulary(labels, stuff=("sky", "grass"))
    photo = photo(5, 256, 256)

    def guided(self, segmenter):
        """Guide by hand: the factor of each class from its position."""
        shown = segmenter.square_maps(segmenter.encode([self.photo])[0], self.plain)
        factor = torch.stack([1 - shown.objectness if c in (0, 2, 4) else shown.objectness for c in range(5)])
        return shown.similarity * factor

    def test_explained_in_the_vocabularys_order(self, segmenter):
        shown = segmenter.square_maps(segmenter.encode([self.photo])[0], self.with_stuff)
        torch.testing.assert_close(shown.guided, self.guided(segmenter))

    @pytest.mark.parametrize("way", ["full", "square", "pruned"])
    def test_label_map_and_scores(self, segmenter, way):
        changes = {"prune_logits": 1e6} if way == "pruned" else {"label_map": way}
        model = segmenter.with_config(replace(TINY, **changes))
        result = model.segment(model.encode([self.photo])[0], self.with_stuff)
        guided = self.guided(segmenter)
        best = guided.topk(2, dim=0).values
        clear = ((best[0] - best[1]) > 1e-6).numpy()
        assert (result.label_map == guided.argmax(dim=0).numpy())[clear].mean() >= 0.999
        assert len(np.unique(result.label_map)) >= 2
        assert ((result.score > 0) <= (result.area > 0)).all()
        assert result.score[result.area > 0.05].min() > 0

    def test_scores_know_the_sides(self, segmenter):
        features = segmenter.encode([self.photo])[0]
        result = segmenter.segment(features, self.with_stuff)
        order = torch.tensor([0, 2, 4, 1, 3])
        grids = tuple(
            (scale.float() @ segmenter.clip.embed_vocabulary(self.plain).T).permute(2, 0, 1)[order]
            for scale in features.crop_embeddings
        )
        expected = class_scores(grids, features.objectness, segmenter.clip.logit_scale, ground=3)[order.argsort()]
        drawn = result.area > 0
        np.testing.assert_allclose(result.score[drawn], expected.numpy()[drawn], atol=1e-4)

    def test_what_is_pruned_stays_away(self, segmenter):
        model = segmenter.with_config(replace(TINY, prune_logits=1e-6))
        features = model.encode([self.photo])[0]
        # One of each side is left, whatever the other side's best is.
        coarsest = [model._grids(features, self.with_stuff)[0][c].max() for c in range(5)]
        best = {max(side, key=lambda c: coarsest[c]) for side in ((1, 3), (1, 2, 3, 4))}
        assert set(model.segment(features, self.with_stuff).present) <= best
        kept, ground = model._competing(model._grids(features, self.with_stuff), self.with_stuff)
        assert set(kept.tolist()) == {0, *best}
        assert ground == 1 + len(best & {2, 4})

    def among_others(self, segmenter, cosines, others, stuff, **changes):
        """Who takes part, for labels with one crop each and others with one crop each."""
        names = ["cat", "sky", "dog"][: len(cosines)]
        vocabulary = make_vocabulary(names, stuff=stuff).with_others(
            [Label(f"other {i}", (f"other {i}",)) for i in range(len(others))]
        )
        grids = (torch.tensor([0.0, *cosines, *others])[:, None, None],)
        kept, ground = segmenter.with_config(replace(TINY, **changes))._competing(grids, vocabulary)
        return kept.tolist(), ground

    def test_what_competes_with_objects_is_not_kept_out_by_stuff(self, segmenter):
        others = [-0.9] * 15 + [0.8]
        assert self.among_others(segmenter, (0.0, 0.9), others, ["sky"]) == ([0, 2, 1, 18], 2)
        assert self.among_others(segmenter, (0.0, 0.9), others, []) == ([0, 1, 2], 1)

    def test_objects_that_are_left_are_held_against_objects(self, segmenter):
        # The cat is absent; of the rest the sky is by far the likeliest.
        others = [0.01 * i for i in range(16)]
        assert self.among_others(segmenter, (-0.9, 0.9, 0.5), others, ["sky"], prune_logits=0.5) == ([0, 2, 3], 2)

    def test_stuff_replaces_what_had_lost_to_the_background(self, segmenter):
        features = segmenter.encode([self.photo])[0]
        before, after = (segmenter.segment(features, one).label_map for one in (self.plain, self.with_stuff))
        changed = before != after
        assert changed.any()
        # Every change is to or from stuff; the background and objects among themselves stay.
        assert (np.isin(before, (2, 4)) | np.isin(after, (2, 4)))[changed].all()

    def test_refined_masks_keep_their_names(self, segmenter):
        refining = segmenter.with_config(replace(TINY, pamr=Pamr(long_px=128)))
        features = refining.encode([self.photo])[0]
        refined = refining.segment(features, self.with_stuff).label_map
        plain = segmenter.segment(segmenter.encode([self.photo])[0], self.with_stuff).label_map
        assert set(np.unique(refined)) <= set(np.unique(plain))
        assert (refined == plain).mean() > 0.5

    def test_without_objectness_there_is_no_side(self, segmenter):
        model = segmenter.with_config(replace(TINY, objectness=ObjectnessConfig(method="none")))
        features = model.encode([self.photo])[0]
        maps = [model.segment(features, one).label_map for one in (self.plain, self.with_stuff)]
        assert (maps[0] == maps[1]).mean() >= 0.999


class TestNoBackground:
    """Every pixel has one of the labels: the largest mean cosine among them, whatever objectness says."""

    photo = Photo.from_array(compose_scene(5, size_hw=(90, 130)).image)
    names = ("cat", "sofa", "sky")
    vocabulary = make_vocabulary(names)

    def ask(self, segmenter, vocabulary=vocabulary, **changes):
        model = segmenter.with_config(replace(TINY, **changes))
        return model.segment(model.encode([self.photo])[0], vocabulary, SegmentOptions(background=False))

    def test_it_is_the_argmax_over_the_labels(self, segmenter):
        side_px = TINY.grid.square_px
        model = segmenter.with_config(replace(TINY, label_map="square"))
        features = model.encode([Photo(self.photo.pixels, (side_px, side_px))])[0]
        answer = model.segment(features, self.vocabulary, SegmentOptions(background=False))
        maps = model.square_maps(features, self.vocabulary)
        np.testing.assert_array_equal(answer.label_map, maps.similarity[1:].argmax(dim=0) + 1)
        assert (maps.guided.argmax(dim=0) == 0).any(), "with a background some of it is"
        assert len(answer.present) >= 2
        assert answer.score[0] == answer.area[0] == 0
        assert (answer.score[answer.area > 0.02] > 0).all(), "each score stands at its own position"

    @pytest.mark.parametrize(
        "changes",
        [{}, {"label_map": "square"}, {"pamr": Pamr(long_px=64)}, {"prune_logits": 1.0}],
        ids=["full", "square", "pamr", "prune"],
    )
    def test_no_way_leaves_a_pixel_without_a_label(self, segmenter, changes):
        # A clean-up would: a speck between two classes would become background.
        answer = self.ask(segmenter, clean_up=CleanUp(0.3), **changes)
        assert answer.label_map.min() >= 1
        unguided = self.ask(segmenter, objectness=ObjectnessConfig(method="none"), **changes)
        np.testing.assert_array_equal(answer.label_map, unguided.label_map)

    def test_pruned_labels_are_gone(self, segmenter):
        assert len(self.ask(segmenter, prune_logits=1e-6).present) == 1
        assert len(self.ask(segmenter).present) > 1

    def test_stuff_and_others_change_nothing(self, segmenter):
        plain = self.ask(segmenter)
        stuff = make_vocabulary(self.names, stuff=self.names[:2])
        others = self.vocabulary.with_others([Label("tree", ("a photo of a tree",))])
        eager = OthersConfig(-100.0, None)
        for answer in (self.ask(segmenter, stuff), self.ask(segmenter, others, others=eager)):
            np.testing.assert_array_equal(answer.label_map, plain.label_map)
            np.testing.assert_allclose(answer.score, plain.score)

    def test_what_is_pruned_is_measured_by_labels(self, segmenter):
        nearer = Label("sofa", ("a photo of a sofa",))
        answer = self.ask(segmenter, make_vocabulary(["cat", "sky"]).with_others([nearer]), prune_logits=1e-6)
        assert answer.present == (2,)

    def test_a_single_label_has_everything(self, segmenter):
        assert (self.ask(segmenter, make_vocabulary(["cat"])).label_map == 1).all()


def test_prompts_are_averaged_as_unit_vectors(segmenter):
    one, other, both = (
        segmenter.clip.embed_vocabulary(make_vocabulary([("x", phrases)]))[1]
        for phrases in (["cat"], ["sofa"], ["cat", "sofa"])
    )
    torch.testing.assert_close(both, torch.nn.functional.normalize(one + other, dim=0), atol=1e-6, rtol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU; the same code runs on the CPU above")
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_cuda_agrees_with_the_cpu(segmenter, dtype):
    on_gpu = build_segmenter(replace(TINY, device="cuda", dtype=dtype), warm_up=False)
    picture = photo(9, 120, 160)
    gpu, cpu = (model.encode([picture])[0] for model in (on_gpu, segmenter))
    for a, b in zip(gpu.crop_embeddings, cpu.crop_embeddings, strict=True):
        assert torch.nn.functional.cosine_similarity(a.float(), b.float(), dim=-1).min() > 0.99
    labels = on_gpu.segment(gpu, VOCABULARY).label_map
    assert (labels == segmenter.segment(cpu, VOCABULARY).label_map).mean() > 0.95


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU; the same code runs on the CPU in test_pamr")
def test_cuda_refines_as_the_cpu(segmenter):
    generator = torch.manual_seed(0)
    image, masks = torch.rand(3, 60, 80, generator=generator), torch.rand(4, 60, 80, generator=generator).softmax(0)
    torch.testing.assert_close(
        pamr(masks.cuda(), image.cuda(), Pamr()).cpu(), pamr(masks, image, Pamr()), atol=1e-4, rtol=0
    )
