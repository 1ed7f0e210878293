"""How the starter's heads learn: the loss by hand, the teacher's answers, a run that was cut off."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from clipdiy.dinoiser.heads import DinoiserHeads
from clipdiy.dinoiser.loading import load_heads
from clipdiy.starter.scenes import TRAINING_SEEDS_FROM, compose_scene, load_sprites
from clipdiy.starter.training.dinoiser import HeadsPlan, heads_loss, teach, train_heads
from clipdiy.starter.training.foreground import load_foreground
from clipdiy.weights import STARTER_DIR


@pytest.fixture(scope="module")
def foreground():
    return load_foreground(STARTER_DIR / "found")


def test_loss_by_hand():
    heads = DinoiserHeads(1, 2)
    with torch.no_grad():
        for parameter in heads.parameters():
            parameter.zero_()
        heads.obj_proj.bias.copy_(torch.tensor([1.0, 0.0]))  # all patches alike: every correlation 1
        heads.bkg_decoder.bias.fill_(0.0)  # every logit 0: log 2
        together = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
        loss = heads_loss(heads, torch.rand(1, 1, 1, 2), together, torch.tensor([[[1.0, 0.0]]]))
    wrong, right = -np.log(1e-4), -np.log(1 - 1e-4)
    assert float(loss) == pytest.approx((wrong + right) / 2 + np.log(2), rel=1e-3)


def test_the_teacher_tells_drawings_from_their_surroundings_and_mostly_from_each_other(foreground):
    sprites, same, other, ground, right = load_sprites(), [], [], [], []
    for seed in range(TRAINING_SEEDS_FROM, TRAINING_SEEDS_FROM + 6):
        scene = compose_scene(seed, n_objects=(2, 4), sprites=sprites)
        together, likely = teach(foreground, scene.image.transpose(2, 0, 1)[None], (16, 16))
        labels = scene.labels[8::16, 8::16].ravel()
        pairs, things = together[0].numpy(), labels > 0
        both = things[:, None] & things[None]
        same.append(pairs[both & (labels[:, None] == labels[None])].mean())
        if len(np.unique(labels[things])) > 1:
            other.append(pairs[both & (labels[:, None] != labels[None])].mean())
        ground.append(pairs[things[:, None] & ~things[None]].mean())
        right.append((likely[0].numpy().ravel() == things).mean())
    assert np.mean(same) > 2 * np.mean(other)
    assert np.mean(ground) < 0.1
    assert np.mean(right) > 0.9


def test_a_run_that_was_cut_off_goes_on(tmp_path, foreground):
    import open_clip

    clip = open_clip.create_model(f"local-dir:{STARTER_DIR / 'clip'}", require_pretrained=True).eval()
    sprites, lines = load_sprites(), []

    def train(plan, name):
        folder = tmp_path / name
        heads = train_heads(plan, clip.visual, foreground, sprites, folder / "c.pt", folder / "out", lines.append)
        return heads, folder

    plan = HeadsPlan(directions=8, steps=2, batch=1)
    heads, folder = train(plan, "a")
    again, _ = train(plan, "a")  # finished: nothing is trained, the same comes out
    for name, value in heads.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    written = load_heads(folder / "out" / "heads.safetensors").state_dict()
    assert all(torch.equal(written[name], value.half().float()) for name, value in heads.state_dict().items())
    assert {value.dtype for value in load_file(folder / "out" / "heads.safetensors").values()} == {torch.float16}
    assert lines[0].startswith("heads 2/2")
    with pytest.raises(ValueError, match="another plan"):
        train(HeadsPlan(directions=8, steps=3, batch=1), "a")
