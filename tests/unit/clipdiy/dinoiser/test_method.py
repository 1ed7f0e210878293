"""The method as a whole: sizes, batches, configurations, what is kept and what is refused."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from dinoiser_tiny import CONFIG, PHOTO, changed, load_dinoiser
from tiny import VOCABULARY
from tiny import photo as noise

from clipdiy.config import CleanUp, OthersConfig, Pamr, SegmentOptions
from clipdiy.dinoiser.config import DinoiserConfig, Windows
from clipdiy.dinoiser.features import DinoiserFeatures, FeatureTile
from clipdiy.dinoiser.heads import DinoiserHeads, pool
from clipdiy.dinoiser.method import Dinoiser, as_colours
from clipdiy.dinoiser.windows import Window
from clipdiy.errors import ConfigError, FeaturesError
from clipdiy.photo import Photo
from clipdiy.vocabulary import Label, make_vocabulary

WINDOWED = changed(CONFIG, way="windows", windows=Windows(short_px=48, window_px=48, stride_px=24))


@pytest.fixture(scope="module")
def loaded():
    return load_dinoiser()


def plain_pooled(loaded, pixels):
    """Return the pooled unit vectors (h, w, D) of one picture by itself."""
    read = loaded.read(torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None])
    pooled = pool(read.dense[0], read.directions[0], loaded.settings.gamma)
    return torch.nn.functional.normalize(pooled, dim=0).permute(1, 2, 0), read.background[0]


SIZES = {"one pixel": (1, 1), "one patch": (16, 16), "odd": (37, 95), "tall": (130, 20), "whole patches": (64, 96)}


@pytest.mark.parametrize("size_hw", SIZES.values(), ids=SIZES)
def test_a_picture_of_any_size(loaded, size_hw):
    photo = noise(1, *size_hw)
    features = loaded.encode([photo])[0]
    (tile,) = features.tiles
    pooled, background = plain_pooled(loaded, photo.pixels)
    assert tile.pooled.dtype == tile.background.dtype == torch.float16
    assert tile.pooled.shape == (-(-size_hw[0] // 16), -(-size_hw[1] // 16), 32)
    torch.testing.assert_close(tile.pooled.float(), pooled, atol=1e-3, rtol=0)
    torch.testing.assert_close(tile.background.float(), background, atol=1e-2, rtol=1e-3)
    result = loaded.segment(features, VOCABULARY)
    assert result.label_map.shape == size_hw
    assert result.label_map.dtype == np.uint16
    assert result.area.sum() == pytest.approx(1)
    assert ((result.score > 0) <= (result.area > 0)).all()
    assert 0 <= result.image_score <= 1


@pytest.mark.parametrize("config", [CONFIG, WINDOWED], ids=["whole", "windows"])
@pytest.mark.parametrize("batch", [1, 3], ids=["one by one", "together"])
def test_photos_together_are_photos_alone(loaded, config, batch):
    dinoiser = loaded.with_config(changed(config, crop_batch=batch))
    photos = [noise(1, 40, 60), noise(2, 61, 30), noise(3, 40, 60), noise(4, 40, 60), noise(5, 40, 60)]
    for photo, together in zip(photos, dinoiser.encode(photos), strict=True):
        alone = dinoiser.encode([photo])[0]
        assert together.size_hw == photo.size_hw
        assert len(together.tiles) == len(alone.tiles)
        for ours, theirs in zip(together.tiles, alone.tiles, strict=True):
            assert (ours.window, ours.extent_hw) == (theirs.window, theirs.extent_hw)
            torch.testing.assert_close(ours.pooled.float(), theirs.pooled.float(), atol=2e-3, rtol=0)
    assert dinoiser.encode([]) == []


def test_photos_of_one_size_go_through_the_tower_together(loaded, monkeypatch):
    dinoiser = loaded.with_config(changed(CONFIG, crop_batch=3))
    sizes, body = [], dinoiser._tower.body

    def counted(images, positions):
        sizes.append(len(images))
        return body(images, positions)

    monkeypatch.setattr(dinoiser._tower, "body", counted)
    dinoiser.encode([noise(i, 32, 48) for i in range(4)] + [noise(9, 48, 32)])
    assert sizes == [3, 1, 1]


def test_windows_of_a_photo_go_through_the_tower_together(loaded, monkeypatch):
    dinoiser = loaded.with_config(changed(WINDOWED, crop_batch=32))
    sizes, body = [], dinoiser._tower.body
    monkeypatch.setattr(
        dinoiser._tower, "body", lambda images, positions: sizes.append(len(images)) or body(images, positions)
    )
    dinoiser.encode([noise(1, 48, 96), noise(2, 48, 72)])
    assert sizes == [5]


class TestWhole:
    def test_large_photos_are_reduced(self, loaded):
        dinoiser = loaded.with_config(changed(CONFIG, long_px=64))
        photo = noise(1, 90, 128)
        features = dinoiser.encode([photo])[0]
        assert features.seen_hw is None
        assert features.size_hw == (90, 128)
        assert features.tiles[0].window.size_hw == (45, 64)
        assert features.tiles[0].extent_hw == (45 / 16, 4)
        assert dinoiser.segment(features, VOCABULARY).label_map.shape == (90, 128)
        assert (dinoiser.keep_long_px, dinoiser.keep_short_px) == (64, 0)

    def test_a_photo_that_came_reduced_is_seen_as_it_is(self, loaded):
        photo = noise(1, 45, 64)
        dinoiser = loaded.with_config(changed(CONFIG, long_px=64))
        features = dinoiser.encode([Photo(photo.pixels, (900, 1280))])[0]
        pooled, _ = plain_pooled(loaded, photo.pixels)
        torch.testing.assert_close(features.tiles[0].pooled.float(), pooled, atol=1e-3, rtol=0)
        assert dinoiser.segment(features, VOCABULARY).label_map.shape == (900, 1280)


def test_gamma_is_the_configured_one(loaded):
    dinoiser = loaded.with_config(changed(CONFIG, gamma=0.8))
    read = loaded.read(torch.from_numpy(PHOTO.pixels.transpose(2, 0, 1).copy())[None])
    pooled = torch.nn.functional.normalize(pool(read.dense[0], read.directions[0], 0.8), dim=0)
    (tile,) = dinoiser.encode([PHOTO])[0].tiles
    torch.testing.assert_close(tile.pooled.float(), pooled.permute(1, 2, 0), atol=1e-3, rtol=0)


class TestWindows:
    def test_the_size_follows_from_the_original_not_from_what_came(self, loaded):
        dinoiser = loaded.with_config(WINDOWED)
        # 50.4 columns by the original, 49.7 by the pixels that came: two roundings are not one.
        features = dinoiser.encode([Photo(noise(1, 85, 88).pixels, (1000, 1050))])[0]
        assert features.seen_hw == (48, 50)
        features = dinoiser.encode([Photo(noise(1, 85, 88).pixels, (1000, 1080))])[0]
        assert features.seen_hw == (48, 52)

    def test_the_published_resize(self, loaded):
        dinoiser = loaded.with_config(WINDOWED)
        photo = noise(1, 60, 81)
        features = dinoiser.encode([photo])[0]
        assert features.seen_hw == (48, 65)
        assert [tile.window.left for tile in features.tiles] == [0, 17]
        seen = cv2.resize(photo.pixels, (65, 48), interpolation=cv2.INTER_LINEAR)
        for tile in features.tiles:
            pooled, _ = plain_pooled(loaded, seen[:, tile.window.left : tile.window.right])
            torch.testing.assert_close(tile.pooled.float(), pooled, atol=1e-3, rtol=0)
            assert tile.extent_hw == (3, 3)
        assert (dinoiser.keep_long_px, dinoiser.keep_short_px) == (48, 96)

    def test_a_window_that_is_no_multiple_of_a_patch_is_stretched(self, loaded):
        config = changed(WINDOWED, windows=Windows(short_px=None, window_px=40, stride_px=20))
        dinoiser = loaded.with_config(config)
        features = dinoiser.encode([noise(1, 40, 40)])[0]
        assert dinoiser.keep_short_px == 0
        assert features.tiles[0].extent_hw == (3, 3)
        assert features.tiles[0].window.size_hw == (40, 40)


class TestBackground:
    def maps(self, loaded, **changes):
        dinoiser = loaded.with_config(changed(CONFIG, **changes))
        return dinoiser.segment(dinoiser.encode([PHOTO])[0], VOCABULARY)

    def test_refined_is_plain_and_more_background(self, loaded):
        plain, refined = (self.maps(loaded, background=use) for use in ("plain", "refined"))
        changed = plain.label_map != refined.label_map
        assert 0.01 < changed.mean() < 0.9
        assert (refined.label_map[changed] == 0).all()

    def test_delta_is_the_configured_one(self, loaded):
        plain = self.maps(loaded, background="plain").label_map
        changed = [
            (self.maps(loaded, background="refined", delta=delta).label_map != plain).mean()
            for delta in (0, 0.2577, 0.99)
        ]
        assert 0 == changed[0] < changed[1] < changed[2]

    def test_auto_refines_lists_of_objects_and_not_lists_with_stuff(self, loaded):
        auto, refined, plain = (self.maps(loaded, background=use) for use in ("auto", "refined", "plain"))
        assert (auto.label_map == refined.label_map).all()
        stuff = make_vocabulary(["cat", "dog", "sofa"], stuff=["dog"])
        dinoiser = loaded.with_config(changed(CONFIG, background="auto"))
        assert (dinoiser.segment(dinoiser.encode([PHOTO])[0], stuff).label_map == plain.label_map).all()

    def test_none_gives_every_pixel_a_label(self, loaded):
        plain, none = (self.maps(loaded, background=use) for use in ("plain", "none"))
        assert (plain.label_map == 0).any()
        assert none.label_map.min() >= 1
        assert none.score[0] == none.area[0] == 0
        assert none.score[none.area > 0.02].min() > 0, "each score stands at its own position"
        assert len(none.present) >= 2
        kept = plain.label_map > 0
        assert (none.label_map[kept] == plain.label_map[kept]).mean() >= 0.9

    def test_one_question_can_leave_the_background_out(self, loaded):
        none = self.maps(loaded, background="none")
        dinoiser = loaded.with_config(changed(CONFIG, background="refined", clean_up=CleanUp(0.05)))
        features = dinoiser.encode([PHOTO])[0]
        others = VOCABULARY.with_others([Label("tree", ("a photo of a tree",))])
        eager = dinoiser.with_config(replace(dinoiser.config, others=OthersConfig(-100.0, None)))
        for one, vocabulary in ((dinoiser, VOCABULARY), (eager, others)):
            asked = one.segment(features, vocabulary, SegmentOptions(background=False))
            # Nothing is cleaned up either: a speck would become what is not there.
            np.testing.assert_array_equal(asked.label_map, none.label_map)
            np.testing.assert_allclose(asked.score, none.score)


def test_pruned_classes_are_gone_and_names_stay(loaded):
    dinoiser = loaded.with_config(changed(CONFIG, background="plain", prune_logits=1e-4))
    features = dinoiser.encode([PHOTO])[0]
    pruned = dinoiser.segment(features, VOCABULARY)
    full = loaded.with_config(changed(CONFIG, background="plain")).segment(features, VOCABULARY)
    assert len(pruned.present) == 1
    assert set(pruned.present) <= set(full.present)


class TestOthers:
    words = (Label("tree", ("a photo of a tree",)), Label("road", ("a photo of a road",)))

    def test_what_an_other_wins_is_background(self, loaded):
        dinoiser = loaded.with_config(changed(CONFIG, background="plain", others=OthersConfig(-100.0, None)))
        features = dinoiser.encode([PHOTO])[0]
        # As a label and as an other, a word competes alike.
        named = make_vocabulary(["cat", "tree", "road"])
        beside = make_vocabulary(["cat"]).with_others(self.words)
        as_labels, as_others = dinoiser.segment(features, named), dinoiser.segment(features, beside)
        assert {2, 3} & set(as_labels.present), "otherwise there is nothing to see"
        expected = np.where(as_labels.label_map >= 2, 0, as_labels.label_map)
        assert (as_others.label_map == expected).mean() >= 0.999
        assert as_others.score.shape == (2,)
        shown = dinoiser.explain(PHOTO, features, beside)
        assert shown.steps[-1].values.shape == (2, 256, 256)
        taken = shown.pictures[-1]
        assert taken.caption == "taken by others"
        assert taken.names == ("tree", "road")
        share = [float((taken.regions == i).float().mean()) for i in (1, 2)]
        np.testing.assert_allclose(share, as_labels.area[2:], atol=0.02)

    def test_a_label_that_is_no_nearer_than_most_other_words_is_not_there(self, loaded, monkeypatch):
        """It would win a quarter of the picture; its best patch is worse than the best patches of most others are."""
        unit = torch.eye(32)
        near = torch.linspace(0.5, 0.9, 16)[:, None]
        others = near * unit[3] + (1 - near**2).sqrt() * unit[10:26]
        # The second label has a cosine of 0.6 with the second patch, and the others have none with it.
        texts = torch.cat([unit[2:3], unit[:1], 0.6 * unit[1:2] + 0.8 * unit[5:6], others])
        monkeypatch.setattr(loaded.clip, "embed_vocabulary", lambda vocabulary: texts[: len(vocabulary.prompts)])
        pooled = unit[:4].reshape(2, 2, 32).half()
        tile = FeatureTile(pooled, torch.full((2, 2), 3.0).half(), Window(0, 0, 32, 32), (2.0, 2.0))
        features = DinoiserFeatures((tile,), None, (32, 32), loaded.encoder_identity)
        alone = make_vocabulary(["cat", "dog"])
        beside = alone.with_others([Label(f"thing {i}", (f"a photo of a thing {i}",)) for i in range(16)])
        answers = [loaded.segment(features, alone), loaded.segment(features, beside)]
        off = loaded.with_config(changed(CONFIG, others=OthersConfig(absent_quantile=None)))
        answers.append(off.segment(features, beside))
        for answer, is_there in zip(answers, (True, False, True), strict=True):
            assert (answer.label_map[0, 0], answer.label_map[0, -1]) == (1, 2 if is_there else 0)
            assert (answer.area[2] > 0) == (answer.score[2] > 0) == is_there

    def test_they_are_part_of_the_identity(self, loaded):
        other = loaded.with_config(changed(CONFIG, others=OthersConfig(absent_quantile=None)))
        assert other.identity != loaded.identity
        assert other.encoder_identity == loaded.encoder_identity

    def test_a_person_can_name_them(self, loaded):
        choice = loaded.choose_others(make_vocabulary(["cat"]), ["tree", "cat"])
        assert [label.name for label in choice.competing] == ["tree"]
        assert [left.other for left in choice.left_out] == ["cat"]


def test_prompts_can_be_embedded_before_they_are_asked_for(loaded):
    loaded.embed_prompts(["a photo of a zebra"])
    assert "a photo of a zebra" in loaded.clip._known_texts


def test_refined_by_colours(loaded):
    dinoiser = loaded.with_config(changed(CONFIG, pamr=Pamr(long_px=120)))
    features = dinoiser.encode([PHOTO])[0]
    assert features.picture is not None
    refined, plain = dinoiser.segment(features, VOCABULARY), loaded.segment(loaded.encode([PHOTO])[0], VOCABULARY)
    assert 0.5 < (refined.label_map == plain.label_map).mean() < 1
    without = replace(features, picture=None)
    with pytest.raises(FeaturesError, match="no picture"):
        dinoiser.segment(without, VOCABULARY)
    assert loaded.with_config(changed(CONFIG, pamr=Pamr(long_px=900))).keep_long_px == 900


def test_specks_are_removed(loaded):
    dinoiser = loaded.with_config(changed(CONFIG, clean_up=CleanUp(0.05)))
    features = loaded.encode([PHOTO])[0]
    counts = [
        np.unique(one.segment(features, VOCABULARY).label_map, return_counts=True)[1] for one in (loaded, dinoiser)
    ]
    assert counts[1].min() >= 0.05 * PHOTO.pixels[..., 0].size or len(counts[1]) < len(counts[0])


CHANGES = {
    "another way": ({"way": "windows"}, True),
    "gamma": ({"gamma": 0.3}, True),
    "size": ({"long_px": 320}, True),
    "a picture": ({"pamr": Pamr()}, True),
    "delta": ({"delta": 0.9}, False),
    "background": ({"background": "plain"}, False),
    "clean-up": ({"clean_up": CleanUp(0.5)}, False),
    "prune": ({"prune_logits": 5.0}, False),
}


@pytest.mark.parametrize(("changes", "features_differ"), CHANGES.values(), ids=CHANGES)
def test_identities(loaded, changes, features_differ):
    other = loaded.with_config(changed(CONFIG, **changes))
    assert other.identity != loaded.identity
    assert (other.encoder_identity != loaded.encoder_identity) == features_differ


def test_identity_of_windows_and_weights(loaded):
    first, second = (
        loaded.with_config(changed(WINDOWED, windows=replace(WINDOWED.method_config.windows, stride_px=stride)))
        for stride in (24, 12)
    )
    assert first.encoder_identity != second.encoder_identity
    other = Dinoiser(CONFIG, loaded.clip, loaded._heads, name="tiny", weights_id="other")
    assert other.encoder_identity != loaded.encoder_identity


def test_features_of_another_core_are_refused(loaded):
    features = replace(loaded.encode([PHOTO])[0], made_by="another")
    with pytest.raises(FeaturesError, match="encode the image again"):
        loaded.segment(features, VOCABULARY)


def test_heads_of_another_clip_are_refused(loaded):
    with pytest.raises(ConfigError, match="read 48 channels and tiny has 64"):
        Dinoiser(CONFIG, loaded.clip, DinoiserHeads(48, 8), name="tiny", weights_id="tiny")


class TestExplain:
    def test_what_it_shows_is_what_was_computed(self, loaded):
        seen = loaded.looked_at(PHOTO, patch=(3, 5))
        read = loaded.read(torch.from_numpy(PHOTO.pixels.transpose(2, 0, 1).copy())[None])
        assert seen.patch == (3, 5)
        flat = read.directions[0].flatten(1)
        torch.testing.assert_close(seen.correlation.flatten(), flat.T @ flat[:, 3 * 29 + 5])
        assert float(seen.correlation[3, 5]) == pytest.approx(1, abs=1e-5)
        torch.testing.assert_close(seen.background, read.background[0])
        assert seen.dense.shape == seen.pooled.shape == (19, 29, 3)

    def test_by_default_the_patch_that_looks_most_like_an_object(self, loaded):
        seen = loaded.looked_at(PHOTO)
        assert seen.background[seen.patch] == seen.background.max()

    def test_a_patch_outside_is_the_nearest_inside(self, loaded):
        assert loaded.looked_at(PHOTO, patch=(99, -1)).patch == (18, 0)

    def test_gamma_of_the_shown_features_is_the_configured_one(self, loaded):
        strict = loaded.with_config(changed(CONFIG, gamma=0.999)).looked_at(PHOTO)
        torch.testing.assert_close(strict.pooled, strict.dense, atol=1e-3, rtol=0)  # each patch belongs to itself alone
        assert (loaded.looked_at(PHOTO).pooled - loaded.looked_at(PHOTO).dense).abs().max() > 0.1

    @pytest.mark.parametrize("config", [CONFIG, WINDOWED], ids=["whole", "windows"])
    def test_explanation(self, loaded, config):
        dinoiser = loaded.with_config(config)
        features = dinoiser.encode([PHOTO])[0]
        shown = dinoiser.explain(PHOTO, features, VOCABULARY, patch=(2, 1))
        captions = [seen.caption for seen in shown.pictures]
        assert captions == ["patches as colours", "patches like 2, 1", "pooled", "foreground"]
        assert shown.pictures[1].limits == (-1, 1)
        low, high = shown.pictures[3].limits
        assert low == -high <= shown.pictures[3].values.min() <= shown.pictures[3].values.max() <= high
        cosine, probability = shown.steps
        assert cosine.values.shape == probability.values.shape == (4, 256, 256)
        assert cosine.scale != probability.scale
        torch.testing.assert_close(shown.closeness, cosine.values.flatten(1).amax(dim=1))
        winners = probability.values.argmax(dim=0)
        drawn = torch.bincount(winners.flatten(), minlength=4) / 256**2
        area = torch.from_numpy(dinoiser.segment(features, VOCABULARY).area).float()
        torch.testing.assert_close(drawn, area, atol=0.02, rtol=0)

    def test_classes_that_do_not_compete_are_nowhere(self, loaded):
        none = loaded.with_config(changed(CONFIG, background="none"))
        probability = none.explain(PHOTO, none.encode([PHOTO])[0], VOCABULARY).steps[-1].values
        assert float(probability[0].max()) == 0
        assert float(probability.sum(dim=0).min()) == pytest.approx(1, abs=1e-4)

    def test_features_of_another_core_are_refused(self, loaded):
        with pytest.raises(FeaturesError, match="encode the image again"):
            loaded.explain(PHOTO, replace(loaded.encode([PHOTO])[0], made_by="another"), VOCABULARY)

    def test_colours_say_which_patches_are_alike(self):
        features = torch.zeros(5, 2, 4)
        features[0, 0], features[1, 1, :2], features[2, 1, 2:] = 1, 1, 1
        noisy, clean = as_colours(features * 3, features)
        torch.testing.assert_close(noisy, clean)  # only directions count
        flat = clean.reshape(8, 3)
        assert torch.equal(flat[0], flat[3])
        assert (flat[0] - flat[4]).abs().max() > 0.5
        assert (flat[4] - flat[6]).abs().max() > 0.5
        assert as_colours(torch.rand(7, 1, 1))[0].shape == (1, 1, 3)

    @pytest.mark.parametrize("seed", range(8))
    def test_the_same_patches_get_the_same_colours_wherever_they_are(self, seed):
        made = torch.Generator().manual_seed(seed)
        features = torch.randn(6, 1, 12, generator=made)
        order = torch.randperm(12, generator=made)
        (first,), (moved,) = as_colours(features), as_colours(features[:, :, order])
        torch.testing.assert_close(moved, first[:, order], atol=1e-3, rtol=0)


def test_features_survive_their_bytes(loaded):
    for config in (CONFIG, WINDOWED):
        dinoiser = loaded.with_config(config)
        features = dinoiser.encode([PHOTO])[0]
        again = DinoiserFeatures.from_bytes(features.to_bytes())
        vocabulary = make_vocabulary(["cat", "sofa"])
        assert (dinoiser.segment(again, vocabulary).label_map == dinoiser.segment(features, vocabulary).label_map).all()


@pytest.mark.parametrize("config", [CONFIG, WINDOWED], ids=["whole", "windows"])
@pytest.mark.parametrize("pamr", [None, Pamr(long_px=120)], ids=["plain", "with a picture"])
@pytest.mark.parametrize("size_hw", [(300, 451), (90, 50)], ids=str)
def test_what_is_kept_is_about_what_is_said(loaded, config, pamr, size_hw):
    dinoiser = loaded.with_config(changed(config, pamr=pamr))
    photo = Photo.from_array(np.ascontiguousarray(PHOTO.pixels[: size_hw[0], : size_hw[1]]))
    kept = len(dinoiser.encode([photo])[0].to_bytes())
    header = 200 * len(dinoiser.encode([photo])[0].tiles) + 200
    picture = 30_000 if pamr else 0
    assert dinoiser.kept_bytes(size_hw) <= kept + picture
    assert kept <= dinoiser.kept_bytes(size_hw) + header + picture
    if not pamr:
        assert dinoiser.kept_bytes(size_hw) >= kept - header


@pytest.mark.parametrize(
    ("size_hw", "way", "megabytes"),
    [
        ((448, 448), "whole", 0.80),
        ((480, 640), "whole", 1.23),
        ((3000, 4000), "whole", 1.23),
        ((9000, 9000), "whole", 1.64),
        ((480, 640), "windows", 1.61),
    ],
    ids=str,
)
def test_a_picture_of_any_size_takes_no_more_than_so_much(loaded, size_hw, way, megabytes):
    """With the published sizes: patches of 16 pixels, 512 numbers each."""

    class PublishedTower:
        patch_px, width, embed_dim = 16, 64, 512

    config = replace(CONFIG, method_config=DinoiserConfig(heads=CONFIG.method_config.heads, way=way))
    one = Dinoiser(config, loaded.clip, loaded._heads, name="wide", weights_id="wide", tower=PublishedTower())
    assert one.kept_bytes(size_hw) / 1e6 == pytest.approx(megabytes, abs=0.01)


def test_pieces_are_encoded_in_one_pass_and_not_too_large(loaded):
    pieces = loaded.with_config(changed(WINDOWED, delta=0.5)).for_pieces()
    assert pieces.settings.way == "whole"
    assert (pieces.settings.long_px, pieces.settings.delta) == (48, 0.5)
    assert loaded.for_pieces().settings.long_px == 448


def test_edges_as_they_are_where_the_configuration_refines_them(loaded):
    refining = loaded.with_config(changed(CONFIG, pamr=Pamr(long_px=120)))
    features = refining.encode([PHOTO])[0]
    plain = loaded.segment(loaded.encode([PHOTO])[0], VOCABULARY).label_map
    np.testing.assert_array_equal(refining.segment(features, VOCABULARY, SegmentOptions(refine=False)).label_map, plain)


def test_description_is_for_a_report(loaded):
    said = json.loads(json.dumps(loaded.description))
    assert said["clip"].endswith("tiny_clip")
    assert said["heads"].endswith("golden_dinoiser")
    assert (said["way"], said["gamma"], said["dtype"]) == ("whole", 0.2, "float32")


def test_what_others_win_stays_empty(loaded):
    """They compete as classes and are drawn as nothing; nobody is told of them."""
    [features] = loaded.encode([PHOTO])
    alone = loaded.segment(features, VOCABULARY)
    words = ("thing 0",)
    beside = VOCABULARY.with_others(loaded.choose_others(VOCABULARY, words).competing)
    competed = loaded.segment(features, beside)
    assert competed.label_map.max() < len(VOCABULARY)
    assert len(competed.score) == len(competed.area) == len(VOCABULARY)
    lost = (alone.label_map > 0) & (competed.label_map == 0)
    kept = competed.label_map > 0
    assert lost.any()
    assert (competed.label_map[kept] == alone.label_map[kept]).mean() > 0.9
    explained = loaded.explain(PHOTO, features, beside)
    assert all(len(step.values) == len(VOCABULARY) for step in explained.steps)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU; the same code runs on the CPU above")
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("config", [CONFIG, WINDOWED], ids=["whole", "windows"])
def test_cuda_agrees_with_the_cpu(loaded, config, dtype):
    on_gpu, on_cpu = load_dinoiser(replace(config, device="cuda", dtype=dtype)), loaded.with_config(config)
    photos = [PHOTO, noise(3, 48, 96), PHOTO]
    for gpu, cpu in zip(on_gpu.encode(photos), on_cpu.encode(photos), strict=True):
        for ours, theirs in zip(gpu.tiles, cpu.tiles, strict=True):
            same = torch.nn.functional.cosine_similarity(ours.pooled.float(), theirs.pooled.float(), dim=-1)
            assert same.min() > 0.98
        labels = on_gpu.segment(gpu, VOCABULARY).label_map
        assert (labels == on_cpu.segment(cpu, VOCABULARY).label_map).mean() > 0.95
