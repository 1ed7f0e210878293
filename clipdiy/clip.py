"""OpenCLIP's two towers: crops to unit embeddings, prompts to unit embeddings."""

import copy
import threading
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from clipdiy.errors import ShapeError
from clipdiy.recent import Recent
from clipdiy.text_cache import TextCache
from clipdiy.text_tower import causal_text_tower
from clipdiy.vocabulary import Vocabulary

TEXT_BATCH = 64
TEXT_CACHE_SIZE = 20_000  # prompts; about 40 MB at 512 numbers each
VOCABULARY_CACHE_SIZE = 64


ImageEngine = Callable[[Tensor], Tensor]


def normalised_in(dtype: torch.dtype, images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Subtract a mean and divide by a standard deviation, each of its channel, in two passes over memory, not four.

    On a GPU it is passes that take time, and this is what a batch norm with known statistics does: computed in float32,
    read and written in a dtype of 16 bits. Intensities are exact in both of them.

    Args:
        dtype: float16 or bfloat16.
        images: (N, 3, h, w) uint8.
        mean: (3, 1, 1) float32.
        std: (3, 1, 1) float32, above 0.1.
    """
    small = 1e-5  # is added to the variance, and so taken off first
    return F.batch_norm(images.to(dtype), mean.flatten(), std.flatten().square() - small, eps=small)


class ClipNetwork(Protocol):
    """What is used of an `open_clip` model."""

    visual: torch.nn.Module
    logit_scale: Tensor

    def encode_image(self, image: Tensor, normalize: bool = ...) -> Tensor:
        """Embed normalised images."""

    def encode_text(self, text: Tensor, normalize: bool = ...) -> Tensor:
        """Embed token rows."""


class ClipEncoder:
    """Both towers of one CLIP model, with frozen weights.

    What it computes, and in what, is settled when it is made. Between calls it keeps text embeddings and nothing else,
    which never changes an answer. Safe to use from several threads.
    """

    def __init__(
        self,
        network: ClipNetwork,
        tokenizer: Callable[[list[str]], Tensor],
        *,
        input_px: int,
        mean: Sequence[float],
        std: Sequence[float],
        device: torch.device,
        dtype: torch.dtype,
        crop_batch: int,
        text_cache: TextCache | None = None,
        arithmetic: str | None = None,
    ) -> None:
        """Take a loaded model.

        Args:
            network: An `open_clip` model in evaluation mode on `device`, its image tower in `dtype`, its text tower
                in float32 (each prompt is embedded once, so nothing is gained by less).
            tokenizer: Texts to (B, context) token rows.
            input_px: Side of the image tower's input.
            mean: Mean of each channel on the 0..1 scale, as in training.
            std: Standard deviation of each channel.
            device: Where the model is.
            dtype: What the image tower computes in.
            crop_batch: How many crops go through the image tower at once.
            text_cache: Where text embeddings outlive this object, if they are to.
            arithmetic: See the property; the dtype, if nothing else is to be said.
        """
        self.network = network
        self.input_px = input_px
        self.device = device
        self.dtype = dtype
        self._tokenizer = tokenizer
        self.mean = torch.tensor(mean, device=device)[:, None, None]
        self.std = torch.tensor(std, device=device)[:, None, None]
        self._mean = self.mean * 255
        self._std = self.std * 255
        self.crop_batch = crop_batch
        self._engine: ImageEngine | None = None
        self._arithmetic = arithmetic or str(dtype)
        self._text_tower = causal_text_tower(network)
        self._text_cache = text_cache
        self._known_texts: Recent[str, Tensor] = Recent(TEXT_CACHE_SIZE)
        self._known_vocabularies: Recent[tuple[tuple[str, ...], ...], Tensor] = Recent(VOCABULARY_CACHE_SIZE)
        self._lock = threading.Lock()

    @property
    def logit_scale(self) -> float:
        """CLIP's learned inverse temperature: cosines are multiplied by it before a softmax (about 100)."""
        return float(self.network.logit_scale.detach().float().exp())

    @property
    def arithmetic(self) -> str:
        """What the image tower computes in and with. Embeddings differ a little between two encoders if this does."""
        return self._arithmetic

    @cached_property
    def embedding_size(self) -> int:
        """How many numbers an embedding has, D. Runs one black crop the first time, as no attribute of towers says."""
        black = torch.zeros(1, 3, self.input_px, self.input_px, dtype=torch.uint8)
        return self.embed_crops(black).shape[1]

    @property
    def trims_texts(self) -> bool:
        """Whether the text tower runs over a prompt's own tokens only, not over the padding."""
        return self._text_tower is not None

    def executed_by(self, engine: ImageEngine, arithmetic: str) -> "ClipEncoder":
        """Return an encoder of the same weights with something else than torch to execute the image tower.

        Args:
            engine: (N, 3, input_px, input_px) float32, normalised, to (N, D) float32; from any thread.
            arithmetic: Names it; see the property.
        """
        other = copy.copy(self)  # the text tower and what is known of texts are the same
        other._engine = engine
        other._arithmetic = arithmetic
        return other

    def normalise(self, images: Tensor) -> Tensor:
        """Bring (N, 3, h, w) uint8 pictures to the range the image tower was trained on: float32."""
        return (images.float() - self._mean) / self._std

    def _ready(self, crops: Tensor) -> Tensor:
        """Bring crops to the tower's range and dtype."""
        if crops.device.type == "cuda" and self.dtype is not torch.float32:
            return normalised_in(self.dtype, crops, self._mean, self._std)
        return self.normalise(crops).to(self.dtype)

    @torch.inference_mode()
    def embed_crops(self, crops: Tensor) -> Tensor:
        """Embed crops one by one, in batches.

        Args:
            crops: (N, 3, input_px, input_px) uint8.

        Returns:
            (N, D) float32 unit vectors.

        Raises:
            ShapeError: If the crops have another size or dtype.
        """
        side = self.input_px
        if crops.ndim != 4 or crops.shape[1:] != (3, side, side) or crops.dtype != torch.uint8:
            raise ShapeError(f"crops are (N, 3, {side}, {side}) uint8, got {tuple(crops.shape)} {crops.dtype}")
        embedded = []
        for batch in crops.split(self.crop_batch):
            batch = batch.to(self.device, non_blocking=True)
            if self._engine is not None:
                embedded.append(self._engine(self.normalise(batch)))
            else:
                # A copy in any case: a compiled tower writes every answer into the same place.
                made = self.network.encode_image(self._ready(batch))
                embedded.append(made.to(torch.float32, copy=True))
        return F.normalize(torch.cat(embedded), dim=-1)

    def embed_vocabulary(self, vocabulary: Vocabulary) -> Tensor:
        """Embed every label: the mean of its prompts' unit vectors, made a unit vector again.

        Args:
            vocabulary: Labels with their whole prompts.

        Returns:
            (C, D) float32 unit vectors on the model's device: background, labels, others.
        """
        # Read without the lock: a known vocabulary does not wait while another one is embedded.
        known = self._known_vocabularies.get(vocabulary.prompts)
        if known is not None:
            return known
        prompts = list(dict.fromkeys(prompt for prompts in vocabulary.prompts for prompt in prompts))
        embeddings = dict(zip(prompts, self.embed_texts(prompts), strict=True))
        # One prompt is its own mean: most labels, and hundreds of others, have one.
        means = [
            embeddings[prompts[0]]
            if len(prompts) == 1
            else torch.stack([embeddings[prompt] for prompt in prompts]).mean(dim=0)
            for prompts in vocabulary.prompts
        ]
        return self._known_vocabularies.put(vocabulary.prompts, F.normalize(torch.stack(means), dim=-1))

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Embed whole texts; each is run through the text tower once in the life of this object.

        Args:
            texts: Prompts as CLIP is to read them, at least one. What is longer than the model's context is cut off.

        Returns:
            (len(texts), D) float32 unit vectors on the model's device.
        """
        with self._lock:  # one thread embeds, the others then find it done
            wanted = dict.fromkeys(texts)
            known = {text: found for text in wanted if (found := self._known_texts.get(text)) is not None}
            if len(known) < len(wanted) and self._text_cache is not None:
                for text, embedding in self._text_cache.unread().items():
                    kept = self._known_texts.put(text, embedding.to(self.device))
                    if text in wanted:
                        known[text] = kept
            new = [text for text in wanted if text not in known]
            if new:
                embedded = dict(zip(new, self._embed_new(new), strict=True))
                for text, embedding in embedded.items():
                    known[text] = self._known_texts.put(text, embedding)
                if self._text_cache is not None:
                    self._text_cache.put(embedded)
        return torch.stack([known[text] for text in texts])

    def _embed_new(self, texts: list[str]) -> Tensor:
        """Run texts through the tower, those of about one length together; return (len(texts), D) unit vectors."""
        tokens = self._tokenizer(texts).to(self.device)
        tower = self._text_tower
        if tower is None:
            embedded = torch.cat([self.network.encode_text(batch).float() for batch in tokens.split(TEXT_BATCH)])
        else:
            order = tower.lengths(tokens).argsort()
            embedded = torch.cat([tower(batch).float() for batch in tokens[order].split(TEXT_BATCH)])[order.argsort()]
        return F.normalize(embedded, dim=-1)
