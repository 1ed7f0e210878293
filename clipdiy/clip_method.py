"""What methods whose words go through CLIP's text tower have in common: who competes, and how an answer is finished."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from clipdiy.clean_up import clean_up, count_pixels
from clipdiy.clip import ClipEncoder
from clipdiy.config import CoreConfig
from clipdiy.errors import FeaturesError
from clipdiy.features import unpack_picture
from clipdiy.others.choice import Choice, Chooser
from clipdiy.scores import picture_score
from clipdiy.segmentation import Segmentation
from clipdiy.vocabulary import Vocabulary


class ClipMethod(ABC):
    """The side of a `clipdiy.method.Method` that does not depend on what it keeps of a photo."""

    def __init__(
        self,
        config: CoreConfig,
        clip: ClipEncoder,
        *,
        name: str,
        weights_id: str,
        find_doubts: Callable[[Vocabulary], tuple[str, ...]] | None = None,
        chooser: Chooser | None = None,
    ) -> None:
        """Take CLIP, loaded.

        Args:
            config: What the method was built from.
            clip: Both CLIP towers.
            name: What a person calls these weights (`starter`, `ViT-B-32:laion2b_s34b_b79k`).
            weights_id: Changes whenever the weights do, for example a digest of the files.
            find_doubts: Says what in a vocabulary these weights cannot know; see `doubts`.
            chooser: Chooses what competes with labels; by default out of the list that comes with the product.
        """
        self.config = config
        self.clip = clip
        self.name = name
        self._weights_id = weights_id
        self._find_doubts = find_doubts
        self._chooser = chooser or Chooser(clip.embed_texts, clip.embed_vocabulary)

    @property
    @abstractmethod
    def encoder_identity(self) -> str:
        """Changes whenever `encode` would give other features for the same photo."""

    @property
    def device(self) -> torch.device:
        """Where the networks run."""
        return self.clip.device

    def doubts(self, vocabulary: Vocabulary) -> tuple[str, ...]:
        """Return warnings for a person about words that these weights never saw; empty for open-world weights."""
        return self._find_doubts(vocabulary) if self._find_doubts else ()

    def choose_others(self, vocabulary: Vocabulary, words: Sequence[str] | None = None) -> Choice:
        """Choose what competes with a vocabulary's labels: `vocabulary.with_others(choice.competing)`.

        Args:
            vocabulary: The labels.
            words: Others that a person named, instead of the list of these weights.
        """
        return self._chooser.choose(vocabulary, words)

    def other_prompts(self, words: Sequence[str] | None = None) -> tuple[str, ...]:
        """Return the texts that `choose_others` embeds."""
        return self._chooser.prompts(words)

    def embed_prompts(self, prompts: Sequence[str]) -> None:
        """Run prompts through the text tower that are not known yet, so that `segment` has no need to.

        Args:
            prompts: Whole texts, at least one.
        """
        self.clip.embed_texts(prompts)

    def _require_own(self, made_by: str) -> None:
        """Refuse features of another core.

        Raises:
            FeaturesError: If the encoder's identity is another one.
        """
        if made_by != self.encoder_identity:
            raise FeaturesError(
                f"these features were made by core {made_by}, this one is {self.encoder_identity}: "
                "encode the image again"
            )

    def _unpacked(self, picture: bytes | None) -> Tensor:
        """Return the picture that features hold, (3, h, w) uint8 on the device.

        Raises:
            FeaturesError: If they hold none.
        """
        if picture is None:
            raise FeaturesError("these features hold no picture to refine the masks by: encode the image again")
        return unpack_picture(picture).to(self.device)

    def _segmentation(
        self,
        labels: Tensor,
        score: Tensor,
        size_hw: tuple[int, int],
        vocabulary: Vocabulary,
        *,
        tidy: bool = True,
    ) -> Segmentation:
        """Clean a label map up, and say what is there.

        Args:
            labels: (H, W) int16, positions in the vocabulary.
            score: (C,) float32 in [0, 1], of every label.
            size_hw: H and W.
            vocabulary: Of C labels, background first.
            tidy: Whether specks and holes are cleaned up. Where every pixel must have a label they cannot be: what
                neither is enclosed by one class nor large enough becomes background.
        """
        pixels = size_hw[0] * size_hw[1]
        min_area = self.config.clean_up.min_area if tidy else 0
        label_map = clean_up(labels.cpu().numpy().view(np.uint16), min_area * pixels)
        area = count_pixels(label_map, len(vocabulary)) / pixels
        present = area > 0
        score = score.cpu()
        image_score = picture_score(score, torch.from_numpy(present))
        return Segmentation(label_map, area, np.where(present, score.numpy(), np.float32(0)), image_score)


def drawn_as(classes: Tensor, vocabulary: Vocabulary) -> Tensor:
    """Return as which position of the vocabulary each class that takes part is drawn: others as background.

    Args:
        classes: (N,) int64, positions among labels and others.
        vocabulary: The labels.
    """
    return classes.where(classes < len(vocabulary), 0)
