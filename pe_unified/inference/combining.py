"""Combining the predictions of several networks on a slice, by mean or by votes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pe_unified.evaluation.detection import box_iou
from pe_unified.evaluation.slices import DEFAULT_THRESHOLD

#: Boxes of different networks are fused from this overlap (IoU) on, as in ensemble-boxes.
SAME_BOX = 0.55


@dataclass(frozen=True, eq=False)
class SliceAnswer:
    """The predictions for a slice before any threshold; None if not predicted.

    Attributes:
        probability: probability of embolism.
        pixels: float (rows, cols), probability of embolus in the pixels of the slice.
        boxes: float32 (k, 4), x1 y1 x2 y2 in pixels of the slice, and ``scores`` (k,).
        box_votes: bool (networks, k), which networks found each box.
    """

    probability: float | None = None
    pixels: Tensor | None = None
    boxes: np.ndarray | None = None
    scores: np.ndarray | None = None
    box_votes: np.ndarray | None = None


@dataclass(frozen=True)
class Ballot:
    """The weight and thresholds of a network in an ensemble.

    Attributes:
        weight: weight of its predictions.
        slice, pixel, box: its own thresholds for a positive vote.
    """

    weight: float = 1.0
    slice: float = DEFAULT_THRESHOLD
    pixel: float = DEFAULT_THRESHOLD
    box: float = DEFAULT_THRESHOLD


def combine(answers: Sequence[SliceAnswer], ballots: Sequence[Ballot], rule: str) -> SliceAnswer:
    """The combined prediction of several networks; each part from the networks that predict it.

    Args:
        answers: predictions of the networks on one slice.
        ballots: weights and thresholds, in the same order.
        rule: ``"mean"``, the weighted mean of the predictions; ``"vote"``, the weighted share of
            the networks whose predictions reach their own thresholds.
    """
    votes = rule == "vote"
    pairs = list(zip(answers, ballots, strict=True))
    probabilities = [
        (ballot.weight, float(each.probability >= ballot.slice) if votes else each.probability)
        for each, ballot in pairs
        if each.probability is not None
    ]
    total = sum(weight for weight, _ in probabilities)
    return SliceAnswer(
        sum(weight / total * value for weight, value in probabilities) if probabilities else None,
        _pixels([pair for pair in pairs if pair[0].pixels is not None], votes),
        *_boxes(answers, ballots, votes),
    )


def _pixels(pairs: Sequence[tuple[SliceAnswer, Ballot]], votes: bool) -> Tensor | None:
    """Weighted mean of the maps. A single map is returned as it is.

    It is summed in place: temporary maps would fragment the memory, once per slice.
    """
    total = sum(ballot.weight for _, ballot in pairs)
    mean: Tensor | None = None
    for each, ballot in pairs:
        assert each.pixels is not None
        said = (each.pixels >= ballot.pixel).float() if votes else each.pixels
        if len(pairs) == 1:
            return said
        if mean is None:
            mean = torch.zeros_like(said)
        mean.add_(said, alpha=ballot.weight / total)
    return mean if mean is None else mean.clamp_(max=1.0)  # weights may add up to 1.0000001


def _boxes(
    answers: Sequence[SliceAnswer], ballots: Sequence[Ballot], votes: bool
) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:
    found, scores, network = [], [], []
    total = 0.0
    for number, (each, ballot) in enumerate(zip(answers, ballots, strict=True)):
        if each.boxes is None or each.scores is None:
            continue
        total += ballot.weight
        kept = each.scores >= ballot.box if votes else np.ones(len(each.scores), dtype=bool)
        found.append(each.boxes[kept])
        scores.append(np.ones(kept.sum()) if votes else each.scores[kept])
        network.append(np.full(int(kept.sum()), number))
    if not found:
        return None, None, None
    boxes, weighed, by = fuse_boxes(
        np.concatenate(found),
        np.concatenate(scores),
        np.concatenate(network),
        [ballot.weight for ballot in ballots],
        total,
    )
    own = np.array([ballot.box for ballot in ballots])
    return boxes, weighed, by >= own[:, None]


def fuse_boxes(
    boxes: np.ndarray,
    scores: np.ndarray,
    network: np.ndarray,
    weights: Sequence[float],
    total: float | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weighted boxes fusion (Solovyev et al. 2021, https://arxiv.org/abs/1910.13302).

    In descending order of score, a box joins the fused box that it overlaps most, with at least
    :data:`SAME_BOX`, or starts a new one. A fused box is the mean of its boxes, weighted by score
    and network weight; its score is the weighted mean over all networks, with 0 for networks
    without a box. Unlike in the paper, boxes of the same network are never fused, because its own
    suppression has already separated them.

    Args:
        boxes: (n, 4), x1 y1 x2 y2.
        scores: (n,).
        network: int (n,), network of each box.
        weights: weights of the networks.
        total: sum of the weights of the networks that predict boxes; of all by default.

    Returns:
        float32 boxes (k, 4) and scores (k,), best first, and the score of each network, (networks,
        k), -inf where it has no box.
    """
    weight = np.asarray(weights, dtype=np.float64)
    total = float(weight.sum()) if total is None else total
    given = weight[network] * scores
    members: list[list[int]] = []
    fused = np.empty((0, 4))
    for row in np.argsort(-given, kind="stable"):
        overlap = box_iou(boxes[row : row + 1].astype(np.float64), fused)[0]
        taken = [network[row] in network[each] for each in members]
        overlap = np.where(taken, 0.0, overlap)
        best = int(overlap.argmax()) if len(overlap) else -1
        if best >= 0 and overlap[best] >= SAME_BOX:
            members[best].append(row)
            rows = members[best]
            fused[best] = np.average(boxes[rows], axis=0, weights=np.maximum(given[rows], 1e-9))
        else:
            members.append([row])
            fused = np.concatenate([fused, boxes[row : row + 1]])
    said = np.full((len(weight), len(members)), -np.inf)
    for column, rows in enumerate(members):
        said[network[rows], column] = scores[rows]
    joined = np.array([given[rows].sum() for rows in members]) / total
    order = np.argsort(-joined, kind="stable")
    return (
        fused[order].astype(np.float32),
        joined[order].astype(np.float32),
        said[:, order],
    )


def pixel_votes(
    answers: Sequence[SliceAnswer], ballots: Sequence[Ballot], where: Tensor
) -> np.ndarray:
    """bool (networks, n): which networks predict embolus at pixels ``where``, row-major."""
    none = torch.zeros(len(where), dtype=torch.bool, device=where.device)
    rows = [
        none if each.pixels is None else each.pixels.flatten()[where] >= ballot.pixel
        for each, ballot in zip(answers, ballots, strict=True)
    ]
    return torch.stack(rows).cpu().numpy()
