"""From corrected pictures to a fit: evidence, both fits on every fold, guards, both fits on all. In this order.

A function of what it is given: the same pictures, in any order, give the same bytes. Nothing is added up from fit to
fit, so a picture that is no longer given leaves no trace.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from clipdiy.learning.errors import LearningError
from clipdiy.learning.evidence import (
    CELLS,
    WHOLE,
    ClassShares,
    CorrectedPicture,
    cell_embeddings,
    cell_objectness,
    in_order,
)
from clipdiy.learning.guards import choose_prior, deal_folds, iou, objectness_is_better, weakest_prior
from clipdiy.learning.learned import Learned, label_keys
from clipdiy.learning.naming import (
    NamingRows,
    NamingWeights,
    fit_naming,
    is_right,
    log_loss,
    naming_rows,
    newcomer_bias,
)
from clipdiy.learning.objectness import (
    ForegroundRule,
    ObjectnessEvidence,
    ObjectnessWeights,
    fit_objectness,
    foreground_iou,
    objectness_evidence,
)
from clipdiy.vocabulary import Vocabulary

# rho, from the words alone to hardly bound to them, in units of text embeddings.
PRIORS = (float("inf"), 300.0, 100.0, 30.0, 10.0, 3.0, 1.0, 0.3)
# Down only: shifts upwards looked better on whole cells, and then cut pieces off the objects of rare classes.
SHIFTS = (-1.0, -0.5, 0.0)
SHIFTS_FROM = 5  # pictures
EMBEDDING_FROM = 10

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class _Space:
    """What words mean: text embeddings by position, CLIP's logit scale, and how many are labels but the background."""

    texts: Floats
    tau: float
    labels: int


@dataclass(frozen=True)
class _Side:
    """What competes for a name once it is decided whether something is an object.

    Attributes:
        labels: Positions in the vocabulary, ascending.
        rivals: Positions of what competes with them and is not learned for, or 0 for the background.
    """

    labels: tuple[int, ...]
    rivals: tuple[int, ...]

    def space(self, texts: Floats, tau: float) -> _Space:
        """Return the words of this side: one that is never named, the labels, the rivals."""
        return _Space(texts[[0, *self.labels, *self.rivals]], tau, len(self.labels))

    def of(self, shares: ClassShares) -> ClassShares:
        """Return what a person left of this side's labels."""
        return shares.moved({0: 0, **{position: place for place, position in enumerate(self.labels, 1)}})


def learn(
    pictures: Sequence[CorrectedPicture],
    vocabulary: Vocabulary,
    texts: NDArray[np.float32],
    *,
    logit_scale: float,
    encoder: str,
    told_by: ForegroundRule | None = None,
) -> Learned:
    """Learn naming and objectness from corrected pictures, as far as the guards let it.

    Args:
        pictures: Any number, each once, in any order; their shares are by position in `vocabulary`.
        vocabulary: Background first. Its others compete, as they will when pictures are segmented. Labels that are
            stuff are named apart from objects, against the background, and are no foreground.
        texts: (C, D) float32 unit vectors: its embeddings, from `ClipEncoder.embed_vocabulary`, others last.
        logit_scale: CLIP's tau.
        encoder: `encoder_identity` of the core that made the pictures' features.
        told_by: By which the method tells objects: where objectness starts. CLIP-DIY's, if left out.

    Returns:
        The fit; `is_words_only` where nothing was sure to help.

    Raises:
        LearningError: If features are of another core, or shares name a class that the vocabulary has not.
        ShapeError: If two pictures have one identity.
    """
    ordered = in_order(pictures)
    for picture in ordered:
        if picture.features.made_by != encoder:
            raise LearningError(
                f"the features of {picture.identity} were made by core {picture.features.made_by}, not by {encoder}: "
                "encode the picture again"
            )
        if any(position >= len(vocabulary) for position in picture.shares.positions):
            raise LearningError(
                f"{picture.identity} has shares of classes {picture.shares.positions}, "
                f"the vocabulary has {len(vocabulary)}"
            )
    stuff, words = vocabulary.stuff, np.ascontiguousarray(texts, np.float32)
    standing = _Side(
        tuple(position for position in range(1, len(vocabulary)) if position not in stuff),
        tuple(range(len(vocabulary), len(words))),
    )
    embeddings = [cell_embeddings(picture.features) for picture in ordered]
    has_objects = bool(standing.labels or standing.rivals)
    evidence = [
        objectness_evidence(
            p.identity,
            e,
            cell_objectness(p.features),
            p.shares,
            words,
            stuff,
            competing=len(standing.rivals),
            told_by=told_by,
        )
        for p, e in zip(ordered if has_objects else [], embeddings if has_objects else [], strict=True)
    ]
    # What nobody drew can only be something else where something else competes.
    empty = [picture.left_empty for picture in evidence] if standing.rivals else None
    seen = [(p.identity, e, standing.of(p.shares)) for p, e in zip(ordered, embeddings, strict=True)]
    folds = deal_folds(len(ordered))
    space = standing.space(words, logit_scale)
    prior, naming, unseen_by = _learn_naming(naming_rows(seen, empty), folds, space)
    judged = evidence
    if standing.rivals:
        # What is named as something else stays empty, whatever is an object. By names learned without the picture.
        judged = [
            as_it_is_named(one, unseen_by.get(int(fold), naming), space.texts, logit_scale, standing.labels)
            for one, fold in zip(evidence, folds, strict=True)
        ]
    drawn = [frozenset(picture.shares.positions) for picture in ordered]
    objectness = _learn_objectness(evidence, judged, drawn, folds)
    # The background competes with stuff. It has no words that could be learned, but cells where it is.
    lying, lying_naming = _Side(stuff, (0,)), None
    with_examples = frozenset().union(*drawn)
    if stuff:
        seen = [(p.identity, e, lying.of(p.shares)) for p, e in zip(ordered, embeddings, strict=True)]
        rows = naming_rows(seen, [_nothing_drawn(picture.shares) for picture in ordered])
        _, lying_naming, _ = _learn_naming(rows, folds, lying.space(words, logit_scale))
    keys = label_keys(vocabulary)
    objects, grounds = (sorted(with_examples & {*side.labels}) for side in (standing, lying))
    return Learned(
        encoder,
        logit_scale,
        tuple(keys[position - 1] for position in (*objects, *grounds)),
        tuple(sum(position in positions for positions in drawn) for position in (*objects, *grounds)),
        len(ordered),
        None if naming is None else replace(naming, positions=np.arange(len(objects))),
        objectness,
        prior,
        len(grounds),
        None if lying_naming is None else replace(lying_naming, positions=np.arange(len(grounds))),
    )


def as_it_is_named(
    evidence: ObjectnessEvidence,
    naming: NamingWeights | None,
    texts: Floats,
    tau: float,
    labels: Sequence[int],
) -> ObjectnessEvidence:
    """Return what matters of a picture's evidence once names are learned: cells that are named as one of the labels.

    What competes keeps its words, so its best cosine is that of the evidence.

    Args:
        evidence: By the words, with `rival`.
        naming: What was learned of names, if anything was; its positions are those of `texts`.
        texts: (C, D) float32: one that is never named, the labels, what competes with them.
        tau: CLIP's logit scale.
        labels: Their positions in the vocabulary.
    """
    if evidence.rival is None or not labels:
        return evidence
    adapted, added = texts[: 1 + len(labels)].copy(), np.zeros(1 + len(labels), np.float32)
    if naming is not None:
        adapted[naming.positions] += naming.residual
        added[1:] = naming.newcomer
        added[naming.positions] = naming.bias - np.float32(tau) * (naming.residual @ naming.center)
    logits = evidence.embeddings.dot(np.ascontiguousarray(adapted[1:].T)) * np.float32(tau) + added[1:]
    is_label = logits.max(axis=1) >= np.float32(tau) * evidence.rival
    named = np.where(is_label, np.array(labels)[logits.argmax(axis=1)], evidence.named)
    return replace(evidence, named=named, known=np.where(is_label, evidence.known, 0.0))


def _nothing_drawn(shares: ClassShares) -> NDArray[np.bool_]:
    """Return the cells that are all background, (CELLS * CELLS,) bool."""
    if 0 not in shares.positions:
        return np.zeros(CELLS * CELLS, np.bool_)
    empty: NDArray[np.bool_] = shares.shares[shares.positions.index(0)].reshape(CELLS * CELLS) == WHOLE
    return empty


def _learn_naming(
    rows: NamingRows, folds: NDArray[np.int64], space: _Space
) -> tuple[float, NamingWeights | None, dict[int, NamingWeights]]:
    """Fit naming on each fold's others, let the guard choose a prior, and fit on all with it.

    Returns:
        rho, the fit on all, and by fold the fit on the others, all with that rho; `None` and none for the words alone.
    """
    priors = [rho for rho in PRIORS if rho >= weakest_prior(len(folds))]
    loss, right = np.zeros((2, len(priors), len(rows.position)))
    by_fold: dict[int, list[NamingWeights]] = {}
    for fold in np.unique(folds):
        held_out = folds[rows.picture] == fold
        if held_out.all():
            return float("inf"), None, {}
        if not held_out.any():
            continue
        x, position = rows.x[held_out], rows.position[held_out]
        by_fold[int(fold)] = fit_naming(rows.where(~held_out), space.texts, space.tau, priors)
        for i, weights in enumerate(by_fold[int(fold)]):
            logits = weights.logits(x, space.texts, space.tau)
            loss[i, held_out] = log_loss(logits, position, space.labels)
            right[i, held_out] = is_right(logits, position, space.labels)
    chosen = choose_prior(loss, right, rows.region, rows.picture) if len(rows.position) else 0
    if chosen == 0:
        return float("inf"), None, {}
    prior = priors[chosen]
    # The path to the prior, not the prior alone: each fit starts where the stronger one ended.
    weights = fit_naming(rows, space.texts, space.tau, priors[: chosen + 1])[-1]
    newcomer = newcomer_bias(rows, space.texts, space.tau, prior, space.labels)
    unseen_by = {fold: replace(fits[chosen], newcomer=newcomer) for fold, fits in by_fold.items()}
    return prior, replace(weights, newcomer=newcomer), unseen_by


def _learn_objectness(
    evidence: Sequence[ObjectnessEvidence],
    judged: Sequence[ObjectnessEvidence],
    drawn: Sequence[frozenset[int]],
    folds: NDArray[np.int64],
) -> ObjectnessWeights | None:
    """Fit the rule's correction on each fold's others, in each form there is, and keep the best form if it passes.

    Args:
        evidence: What is fitted.
        judged: The same pictures, with what of them the guard looks at.
        drawn: Positions that each has.
        folds: Which each is in.
    """
    count = len(evidence)
    if count == 0:
        return None
    shifts = SHIFTS if count >= SHIFTS_FROM else (0.0,)
    before = np.array([foreground_iou(picture.rule.sum(axis=1), picture) for picture in judged])
    best: tuple[float, bool, float, Doubles] | None = None
    for with_embedding in (False, True) if count >= EMBEDDING_FROM else (False,):
        after = np.zeros((len(shifts), count, 2))
        for fold in np.unique(folds):
            told = [i for i in range(count) if folds[i] != fold] or list(range(count))  # one picture: in sample
            theta = fit_objectness([evidence[i] for i in told], with_embedding=with_embedding)
            with_examples = frozenset().union(*(drawn[i] for i in told))
            for i in np.flatnonzero(folds == fold):
                for s, shift in enumerate(shifts):
                    scores = _scores(ObjectnessWeights(theta, shift), judged[i], with_examples)
                    after[s, i] = foreground_iou(scores, judged[i])
        for s, shift in enumerate(shifts):
            mean = float(iou(after[s]).mean())
            if best is None or mean > best[0]:
                best = mean, with_embedding, shift, after[s]
    assert best is not None, "there is always one form"
    _, with_embedding, shift, counts = best
    if not objectness_is_better(before, counts):
        return None
    return ObjectnessWeights(fit_objectness(evidence, with_embedding=with_embedding), shift)


def _scores(weights: ObjectnessWeights, picture: ObjectnessEvidence, with_examples: frozenset[int]) -> Doubles:
    """Return z + F.theta - shift, and the paper's z in cells whose class by the words has no examples."""
    has_examples = np.isin(picture.named, sorted(with_examples))
    return np.where(has_examples, weights.scores(picture), picture.rule.sum(axis=1))
