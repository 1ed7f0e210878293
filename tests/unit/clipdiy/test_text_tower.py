"""The text tower over a prompt's own tokens: as exact as over the whole context."""

import open_clip
import pytest
import torch
import torch.nn.functional as F
from text_networks import PROMPTS, make_encoder, make_network, untrimmed

from clipdiy.text_tower import causal_text_tower
from clipdiy.weights import STARTER_DIR


@pytest.mark.parametrize("custom", [False, True], ids=["CLIP", "CustomTextCLIP"])
@pytest.mark.parametrize(
    "text",
    [{}, {"pool_type": "eos", "eos_id": 49407}, {"proj_type": "none", "width": 16}, {"proj_bias": True}],
    ids=["end token is the highest", "end token by its number", "no projection", "projection with a bias"],
)
def test_trimmed_is_untrimmed(custom, text):
    network = make_network(text, custom)
    assert causal_text_tower(network) is not None
    torch.testing.assert_close(
        make_encoder(network).embed_texts(PROMPTS), untrimmed(network, PROMPTS), atol=1e-5, rtol=0
    )


def test_only_the_tokens_that_count_are_run(monkeypatch):
    network = make_network()
    seen = []
    network.transformer.register_forward_pre_hook(lambda _module, arguments: seen.append(arguments[0].shape[1]))
    encoder = make_encoder(network)
    encoder.embed_texts(["a photo of a cat", "cat"])
    assert seen == [7]
    assert encoder.trims_texts


@pytest.mark.parametrize(
    "text",
    [
        {"pool_type": "last"},
        {"pool_type": "first"},
        {"no_causal_mask": True},
        {"embed_cls": True},
    ],
    ids=["read at the last token", "read at the first", "looks both ways", "class token"],
)
def test_other_towers_run_as_they_are(text):
    network = make_network(text, custom=True)
    assert causal_text_tower(network) is None
    assert not make_encoder(network).trims_texts
    torch.testing.assert_close(
        make_encoder(network).embed_texts(PROMPTS), untrimmed(network, PROMPTS), atol=1e-5, rtol=0
    )


def test_the_starter_is_trimmed():
    folder = STARTER_DIR / "clip"
    network = open_clip.create_model(f"local-dir:{folder}").eval()
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    assert causal_text_tower(network) is not None
    with torch.inference_mode():
        whole = F.normalize(network.encode_text(tokenizer(PROMPTS)), dim=-1)
    torch.testing.assert_close(
        make_encoder(network, tokenizer=tokenizer).embed_texts(PROMPTS), whole, atol=1e-5, rtol=0
    )
