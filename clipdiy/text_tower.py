"""CLIP's text tower over as many tokens as the prompts have, instead of the whole context of 77.

OpenCLIP pads every prompt to the context's length. Where the tower is causal and is read out at the end token, nothing
behind that token can change the result, so the rest is not computed: a prompt of 10 tokens costs an eighth. Other
towers (read out at the last token or at a class token, or looking both ways) are run as they are.
"""

from dataclasses import dataclass
from typing import Any

import torch
from open_clip.model import CLIP, CustomTextCLIP
from open_clip.transformer import TextTransformer, text_global_pool
from torch import Tensor, nn


@dataclass(frozen=True)
class TextTower:
    """The parts of a causal text tower that is read out at the end token.

    Attributes:
        parts: Module with the embedding, the transformer and the last norm: the CLIP model itself, or its `text`.
        pool_type: `argmax` (the end token is the highest number in each row) or `eos`.
        eos_id: Number of the end token; used with `eos` only.
    """

    parts: Any
    pool_type: str
    eos_id: int | None

    def __call__(self, tokens: Tensor) -> Tensor:
        """Do what OpenCLIP's `encode_text` does, over the tokens up to the last end token of the batch.

        Args:
            tokens: (B, context) int64.

        Returns:
            (B, D), not normalised.
        """
        parts = self.parts
        tokens = tokens[:, : int(self.lengths(tokens).max())]
        count = tokens.shape[1]
        dtype = parts.transformer.get_cast_dtype()
        values = parts.token_embedding(tokens).to(dtype) + parts.positional_embedding[:count].to(dtype)
        values = parts.ln_final(parts.transformer(values, attn_mask=parts.attn_mask[:count, :count]))
        pooled: Tensor = text_global_pool(values, tokens, self.pool_type, eos_token_id=self.eos_id)
        projection = parts.text_projection
        if projection is None:
            return pooled
        projected: Tensor = projection(pooled) if isinstance(projection, nn.Module) else pooled @ projection
        return projected

    def lengths(self, tokens: Tensor) -> Tensor:
        """Return how many tokens of each row are the prompt's own, its end token included: (B,) int64."""
        ends = tokens if self.pool_type == "argmax" else tokens.eq(self.eos_id if self.eos_id is not None else -1).int()
        return ends.argmax(dim=1) + 1


def causal_text_tower(network: Any) -> TextTower | None:
    """Return the text tower of a network if nothing behind the end token matters to it, else `None`."""
    if type(network) is CLIP:
        tower = TextTower(network, network.text_pool_type, network.text_eos_id)
    elif type(network) is CustomTextCLIP and type(network.text) is TextTransformer:
        text = network.text
        if text.cls_emb is not None or text.use_pad_mask or text.output_tokens:
            return None
        tower = TextTower(text, text.pool_type, text.eos_id)
    else:
        return None
    mask = tower.parts.attn_mask
    if tower.pool_type not in ("argmax", "eos") or mask is None:
        return None
    # Causal: nobody looks ahead.
    looks_ahead = torch.triu(torch.ones_like(mask, dtype=torch.bool), diagonal=1)
    return tower if bool((mask[looks_ahead] == -torch.inf).all()) else None
