"""What becomes of a picture's masks under a fit: other names, and another line between foreground and background.

The words' own maps stay beside the adapted ones: foreground against background is decided on the texts' own cosines.
Reading the maps, block by block over the classes that can win, is as for the words (`clipdiy.label_maps`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from clipdiy.aggregate import SimilarityField, grid_similarity, similarity_field
from clipdiy.config import Pamr
from clipdiy.guide import ObjectnessField
from clipdiy.label_maps import Candidates
from clipdiy.learning.errors import LearningError
from clipdiy.learning.learned import Learned, label_keys
from clipdiy.learning.objectness import EMBEDDING_SCALE, LEAST_CHANCE, LEAST_COSINE, RULE_TERMS
from clipdiy.objectness.found import ObjectnessMap
from clipdiy.pamr import pamr
from clipdiy.scores import SCORE_PX, SCORE_SHARPNESS
from clipdiy.upsample import name_largest, upsampled_argmax
from clipdiy.vocabulary import Vocabulary

BLOCKS = 16  # to a side of the picture
LEAST_BLOCK_PX = 48


@dataclass(frozen=True)
class Rule:
    """How foreground is told: z + F.theta - shift > 0 (see `clipdiy.learning.objectness`).

    Attributes:
        on_objectness: 1 + theta for logit(o).
        on_margin: 1 + theta for the log-margin.
        constant: theta for 1, less the shift.
        grids: Per scale (1, h, w) float32: 3 <crop, theta> for the embedding; `None` where it takes no part.
    """

    on_objectness: float
    on_margin: float
    constant: float
    grids: tuple[Tensor, ...] | None


@dataclass(frozen=True)
class AdaptedMaps:
    """Everything that the masks of one picture are read off.

    Attributes:
        words: Per scale (C, h, w) float32: cosines with the texts, background first, others last.
        naming: Per scale (C, h, w) float32: the adapted logits divided by tau; channel 0 is the words'.
        objectness: As for `full_label_map`.
        rule: The corrected rule, or `None` for the paper's.
        has_examples: (C,) bool: where one of these is named the corrected rule holds, elsewhere the paper's.
        ground: How many of the first classes are on the background's side; see `clipdiy.guide`.
    """

    words: tuple[Tensor, ...]
    naming: tuple[Tensor, ...]
    objectness: ObjectnessMap | None
    rule: Rule | None
    has_examples: Tensor
    ground: int = 1

    @property
    def sides(self) -> tuple[slice, slice]:
        """The classes on the background's side, and the objects."""
        return slice(0, self.ground), slice(self.ground, len(self.words[0]))

    def of(self, classes: Tensor, ground: int) -> "AdaptedMaps":
        """Return the maps of some classes, as `ground_first` orders them."""
        return replace(
            self,
            ground=ground,
            words=tuple(grid[classes] for grid in self.words),
            naming=tuple(grid[classes] for grid in self.naming),
            has_examples=self.has_examples[classes],
        )


@dataclass(frozen=True)
class _Read:
    """Maps read out at some pixels.

    Attributes:
        ground: Words' best cosine on the background's side, (h, w) float32.
        lying: Class that the adapted naming puts first on that side, (h, w) int16.
        best: Words' best cosine with an object, (h, w) float32.
        named: Object that the adapted naming puts first, (h, w) int16; `None` if no class is one.
        chance: Objectness as corrected, (h, w) float32 in [0, 1]; `None` if there is none and no rule that makes one.
    """

    ground: Tensor
    lying: Tensor
    best: Tensor
    named: Tensor | None
    chance: Tensor | None

    def labels(self) -> Tensor:
        """Return (h, w) int16; 0 where it is background. A tie goes to the background's side."""
        if self.named is None:
            return self.lying
        best, ground = self.best, self.ground
        if self.chance is not None:
            best, ground = best * self.chance, ground * (1 - self.chance)
        return torch.where(best <= ground, self.lying, self.named)


def adapted_maps(
    learned: Learned,
    vocabulary: Vocabulary,
    texts: Tensor,
    crop_embeddings: Sequence[Tensor],
    objectness: ObjectnessMap | None,
) -> AdaptedMaps:
    """Lay a fit over a picture.

    A label of the vocabulary takes the weights that were learned for it, wherever it stands. One that the fit does not
    know has its words and the newcomers' bias; the vocabulary's others have their words alone. Classes are in the
    vocabulary's order; `AdaptedMaps.of` brings those on the background's side to the front.

    Args:
        learned: The fit. It belongs to the CLIP that made it: see `Learned.encoder`.
        vocabulary: Background first.
        texts: (C, D) float32 unit vectors: of the labels, then of the others.
        crop_embeddings: Per scale (h, w, D) float32 unit vectors.
        objectness: On the device of the embeddings.

    Raises:
        LearningError: If the fit has embeddings of another length.
    """
    words = grid_similarity(crop_embeddings, texts)
    keys = label_keys(vocabulary)
    row_of = {key: row for row, key in enumerate(learned.labels)}
    known = [(position, row_of[key]) for position, key in enumerate(keys, 1) if key in row_of]
    positions = torch.tensor([position for position, _ in known], dtype=torch.long, device=texts.device)
    rows = torch.tensor([row for _, row in known], dtype=torch.long)
    has_examples = torch.zeros(len(texts), dtype=torch.bool, device=texts.device)
    has_examples[positions] = True
    naming = words
    if learned.naming is not None or learned.lying is not None:
        adapted, added = texts.clone(), torch.zeros(len(texts), device=texts.device)
        first_of_stuff = len(learned.labels) - learned.stuff
        objects = [position for position in range(1, len(vocabulary)) if position not in vocabulary.stuff]
        is_stuff = rows >= first_of_stuff
        for names, side, mine, first in (
            (learned.naming, objects, ~is_stuff, 0),
            (learned.lying, [*vocabulary.stuff], is_stuff, first_of_stuff),
        ):
            if names is None:
                continue
            residual, bias = torch.from_numpy(names.residual), torch.from_numpy(names.bias)
            center = torch.from_numpy(names.center)
            _check_length(len(center), texts)
            offset = bias / learned.logit_scale - residual @ center
            added[side] = names.newcomer / learned.logit_scale
            adapted[positions[mine]] += residual[rows[mine] - first].to(texts.device)
            added[positions[mine]] = offset[rows[mine] - first].to(texts.device)
        naming = tuple(grid + added[:, None, None] for grid in grid_similarity(crop_embeddings, adapted))
    rule = None
    if learned.objectness is not None:
        theta = learned.objectness.theta
        grids = None
        if len(theta) > RULE_TERMS:
            _check_length(len(theta) - RULE_TERMS, texts)
            weights = torch.from_numpy(EMBEDDING_SCALE * theta[RULE_TERMS:]).float().to(texts.device)
            grids = grid_similarity(crop_embeddings, weights[None])
        on_objectness, on_margin, constant = (float(value) for value in theta[:RULE_TERMS])
        rule = Rule(1 + on_objectness, 1 + on_margin, constant - learned.objectness.shift, grids)
    return AdaptedMaps(words, naming, objectness, rule, has_examples)


def adapted_label_map(maps: AdaptedMaps, size_hw: tuple[int, int]) -> Tensor:
    """Name every pixel, at any size: (H, W) int16 on the maps' device, positions among the maps' classes."""
    row_ends, col_ends = _block_ends(size_hw[0]), _block_ends(size_hw[1])
    by_words = [Candidates(maps.words, side).by_block(row_ends, col_ends, size_hw) for side in maps.sides]
    by_naming = by_words
    if maps.naming is not maps.words:
        by_naming = [Candidates(maps.naming, side).by_block(row_ends, col_ends, size_hw) for side in maps.sides]
    reader = _Reader(maps, size_hw)
    labels = torch.empty(size_hw, dtype=torch.int16, device=maps.words[0].device)
    for i, (top, bottom) in enumerate(pairwise(row_ends)):
        reader.go_to(top, bottom)
        for j, (left, right) in enumerate(pairwise(col_ends)):
            words, naming = ([blocks[i][j] for blocks in sides] for sides in (by_words, by_naming))
            labels[top:bottom, left:right] = reader.read(left, right, words, naming).labels()
    return labels


def adapted_square_label_map(maps: AdaptedMaps, size_hw: tuple[int, int], square_px: int) -> Tensor:
    """Name the pixels of a square and bring the names to the photo's size, as `square_label_map` does."""
    labels = adapted_label_map(maps, (square_px, square_px))
    rows, cols = (torch.arange(size, device=labels.device) * square_px // size for size in size_hw)
    return labels[rows[:, None], cols[None, :]]


def adapted_refined_label_map(
    maps: AdaptedMaps, image: Tensor, size_hw: tuple[int, int], logit_scale: float, config: Pamr
) -> Tensor:
    """Name the pixels of a reduced picture, refine there, and bring the result to full size.

    As `clipdiy.pamr.refined_label_map`, of which the arguments are.
    """
    height, width = image.shape[1:]
    labels = adapted_label_map(maps, (height, width))
    winners = torch.unique(torch.cat([labels.new_zeros(1), labels.flatten()])).long()
    if len(winners) == 1:
        return torch.zeros(size_hw, dtype=torch.int16, device=labels.device)
    guided = _guided(maps.of(winners, int((winners < maps.ground).sum())), (height, width))
    drawn = pamr((guided * logit_scale).softmax(dim=0)[1:], image, config)
    refined = torch.cat([1 - drawn.sum(dim=0, keepdim=True), drawn])
    return upsampled_argmax(refined, winners.to(torch.int16), size_hw)


def adapted_scores(maps: AdaptedMaps, logit_scale: float, drawn: int) -> Tensor:
    """Say how good each class's mask may be expected to be: `clipdiy.scores.class_scores` of the adapted maps.

    Args:
        maps: Of the classes that take part, others last.
        logit_scale: CLIP's inverse temperature.
        drawn: How many of the classes are no others.

    Returns:
        (drawn,) float32 in [0, 1]; 0 for a class that wins nothing at this resolution. Not calibrated.
    """
    side_hw = (SCORE_PX, SCORE_PX)
    read = _whole(maps, side_hw)
    winner = read.labels().long().flatten()
    lying, named = _by_side(maps, side_hw)
    sharpness = logit_scale * SCORE_SHARPNESS
    if read.chance is None:
        # As far below the background as the words are, however far apart the adapted names are.
        likely = (_level(read, lying, named) * sharpness).softmax(dim=0).flatten(1)
    else:
        sides = (lying * sharpness).softmax(dim=0) * (1 - read.chance), (named * sharpness).softmax(dim=0) * read.chance
        likely = torch.cat(sides).flatten(1)
    winner = winner.where(winner < drawn, 0)
    likely = torch.cat([likely[:1] + likely[drawn:].sum(dim=0), likely[1:drawn]])
    pixels = torch.bincount(winner, minlength=drawn)
    inside = torch.zeros(drawn, device=likely.device).index_add_(0, winner, likely.gather(0, winner[None])[0])
    outside = (likely.sum(dim=1) - inside).clamp(min=0)  # for the rounding of float32
    return (inside / (pixels + outside).clamp(min=1e-6)).clamp(0, 1)


class _Reader:
    """Reads adapted maps, a strip of rows after the other."""

    def __init__(self, maps: AdaptedMaps, size_hw: tuple[int, int]) -> None:
        self._maps = maps
        self._size_hw = size_hw
        self._guidance = None if maps.objectness is None else ObjectnessField(maps.objectness, size_hw)
        self.go_to(0, size_hw[0])

    def go_to(self, top: int, bottom: int) -> None:
        """Choose the rows."""
        maps, rows = self._maps, slice(top, bottom)
        self._words = similarity_field(maps.words, self._size_hw, rows)
        same = maps.naming is maps.words
        self._naming = self._words if same else similarity_field(maps.naming, self._size_hw, rows)
        self._likely = None if self._guidance is None else self._guidance.rows(top, bottom)
        self._extra: SimilarityField | None = None
        if maps.rule is not None and maps.rule.grids is not None:
            self._extra = similarity_field(maps.rule.grids, self._size_hw, rows)

    def read(self, left: int, right: int, words: Sequence[Sequence[int]], naming: Sequence[Sequence[int]]) -> _Read:
        """Read columns left..right, over the classes that can have the best word there, and the best name.

        Both of each side, the background's first.
        """
        every = [*words[0], *words[1]]
        maps = self._words.left[every] @ self._words.right[:, left:right]
        lying_on = len(words[0])
        ground, lying = name_largest(maps[:lying_on], words[0])
        best, named = name_largest(maps[lying_on:], words[1]) if words[1] else (torch.zeros_like(ground), None)
        if self._naming is not self._words:
            lying = self._best_name(left, right, naming[0])
            if named is not None:
                named = self._best_name(left, right, naming[1])
        likely = None if self._likely is None else self._likely[:, left:right]
        rule = self._maps.rule
        if rule is None or named is None:
            return _Read(ground, lying, best, named, likely)
        chance = torch.full_like(best, 0.5) if likely is None else likely
        floored = best.clamp(min=LEAST_COSINE), ground.clamp(min=LEAST_COSINE)
        margin = (floored[0] / floored[1]).log()
        z = rule.on_objectness * chance.clamp(LEAST_CHANCE, 1 - LEAST_CHANCE).logit()
        z = z + rule.on_margin * margin + rule.constant
        if self._extra is not None:
            z = z + (self._extra.left @ self._extra.right[:, left:right])[0]
        # The objectness with which the paper's rule says what the corrected one does.
        corrected = self._maps.has_examples[named.long()]
        return _Read(
            torch.where(corrected, floored[1], ground),
            lying,
            torch.where(corrected, floored[0], best),
            named,
            torch.where(corrected, (z - margin).sigmoid(), chance),
        )

    def _best_name(self, left: int, right: int, classes: Sequence[int]) -> Tensor:
        return name_largest(self._naming.left[list(classes)] @ self._naming.right[:, left:right], classes)[1]


def _whole(maps: AdaptedMaps, size_hw: tuple[int, int]) -> _Read:
    """Read all of a picture at a small size."""
    classes = [range(side.start, side.stop) for side in maps.sides]
    return _Reader(maps, size_hw).read(0, size_hw[1], classes, classes)


def _by_side(maps: AdaptedMaps, size_hw: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Read the adapted names of both sides at a small size: (ground, h, w) and (C - ground, h, w)."""
    named = similarity_field(maps.naming, size_hw).rows(0, size_hw[0])
    return named[: maps.ground], named[maps.ground :]


def _level(read: _Read, lying: Tensor, named: Tensor) -> Tensor:
    """Put each side's best name where its best word is, and the others below it by how much less they are named."""
    ground = read.ground + (lying - lying.amax(dim=0))
    return ground if read.named is None else torch.cat([ground, read.best + named - named.amax(dim=0)])


def _guided(maps: AdaptedMaps, size_hw: tuple[int, int]) -> Tensor:
    """Return maps whose largest is `adapted_label_map` and which are Eq. 3 where nothing was learned: (C, H, W).

    The best name of a side has what its best word has after Eq. 3, and the others lie below it by how much less they
    are named.
    """
    read = _whole(maps, size_hw)
    level = _level(read, *_by_side(maps, size_hw))
    if read.chance is None:
        return level
    # Without objectness Eq. 3 is left out: twice a chance of 1/2.
    scale = 2 if maps.objectness is None else 1
    return torch.cat([level[: maps.ground] * (1 - read.chance), level[maps.ground :] * read.chance]) * scale


def _check_length(length: int, texts: Tensor) -> None:
    if length != texts.shape[1]:
        raise LearningError(
            f"the fit is for embeddings of {length} numbers, these have {texts.shape[1]}: it belongs to another CLIP"
        )


def _block_ends(size: int) -> list[int]:
    """Cut a side into blocks, as `clipdiy.label_maps` does."""
    count = max(1, min(BLOCKS, size // LEAST_BLOCK_PX))
    return [size * i // count for i in range(count + 1)]
