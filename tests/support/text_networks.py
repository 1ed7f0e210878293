"""CLIP networks with a text tower like the published ones, only narrow, with random weights."""

import open_clip
import torch
import torch.nn.functional as F

from clipdiy.clip import ClipEncoder

TEXT = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
VISION = {"image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16}
TOKENIZER = open_clip.SimpleTokenizer()
PROMPTS = [
    "a photo of a cat",
    "cat",
    "",
    "a photo of a rusty red bicycle that leans against the wall of a house by the sea",
    " ".join(["word"] * 200),
    "a photo of a cat.",
    "ümlaut 🐈",
]


def make_network(text=None, custom=False, seed=0):
    torch.manual_seed(seed)
    kind = open_clip.CustomTextCLIP if custom else open_clip.CLIP
    network = kind(embed_dim=16, vision_cfg=dict(VISION), text_cfg={**TEXT, **(text or {})}).eval()
    return network.requires_grad_(False)


def make_encoder(network, text_cache=None, tokenizer=TOKENIZER):
    return ClipEncoder(
        network,
        tokenizer,
        input_px=32,
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        device=torch.device("cpu"),
        dtype=torch.float32,
        crop_batch=4,
        text_cache=text_cache,
    )


def untrimmed(network, prompts):
    with torch.inference_mode():
        return F.normalize(network.encode_text(TOKENIZER(prompts)), dim=-1)
