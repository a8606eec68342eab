"""Endless samplers of slices, balanced by label and embolus area; resuming costs nothing."""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from mmengine.dist import get_dist_info
from torch.utils.data import Sampler

from pe_unified.datasets.slice_dataset import DatasetError, Draw, PESliceDataset
from pe_unified.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class SliceSampler(Sampler):
    """An endless stream of slices in a seeded random order.

    Without ``positive_fraction`` and ``ratio_edges``, every slice is drawn once per round. With
    them, slices form pools: the positives, optionally split by embolus area, and the others
    (labelled 0 or unknown). Each pool has its share of all draws and its own rounds, so no slice is
    drawn again before all others of its pool.

    Ranks take turns, so the global batches do not depend on their number.

    Args:
        dataset: the dataset, for its labels and masks.
        positive_fraction: share of positive draws in (0, 1); None keeps the natural share.
        seed: seed of the order and of the augmentations.
        ratio_edges: ascending target ratios (embolus pixels over all pixels of a slice, such as
            0.0005) that split the positives into classes; ``(a, b)`` makes three. Positives with
            unknown masks are a separate class with its natural share of the positive draws.
        ratio_shares: relative frequency of each class, smallest ratios first; None: equal.

    Raises:
        DatasetError: a pool has a share of the draws but no slices.
    """

    def __init__(
        self,
        dataset: PESliceDataset,
        positive_fraction: float | None = None,
        seed: int | None = 0,
        ratio_edges: Sequence[float] = (),
        ratio_shares: Sequence[float] | None = None,
    ) -> None:
        self.rank, self.world_size = get_dist_info()
        self.seed = 0 if seed is None else seed
        self.size = len(dataset)
        self.start = 0
        self.pools, shares = [np.arange(self.size)], [1.0]
        if positive_fraction is not None and not 0 < positive_fraction < 1:
            raise ValueError(f"positive_fraction lies in (0, 1), got {positive_fraction}")
        if positive_fraction is not None or ratio_edges:
            positive = dataset.labels() == 1
            fraction = positive.mean() if positive_fraction is None else positive_fraction
            classes, weights = [np.flatnonzero(positive)], [1.0]
            if ratio_edges:
                classes, weights = _by_ratio(dataset, positive, ratio_edges, ratio_shares)
            self.pools = [*classes, np.flatnonzero(~positive)]
            shares = [*(fraction * weight for weight in weights), 1 - fraction]
            if any(len(pool) == 0 and share for pool, share in zip(self.pools, shares)):
                counts = ", ".join(str(len(pool)) for pool in self.pools)
                raise DatasetError(
                    f"positive_fraction={positive_fraction}, ratio_edges={tuple(ratio_edges)}: "
                    f"each pool of positives and the others need slices; {dataset.ann_file} has "
                    f"{counts}"
                )
        #: Upper ends of the pools' intervals in [0, 1), except for the last pool.
        self.ends = np.cumsum(shares)[:-1]

    def skip(self, num_samples: int) -> None:
        """Start after ``num_samples`` draws of this rank, counted from the first draw."""
        if num_samples < 0:
            raise ValueError(f"cannot skip {num_samples} draws")
        self.start = num_samples

    def set_epoch(self, epoch: int) -> None:
        """Does nothing: the stream has no epochs."""

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[Draw]:
        first = self.start * self.world_size + self.rank
        yield from itertools.islice(self._draws(), first, None, self.world_size)

    def _draws(self) -> Iterator[Draw]:
        rounds = [self._rounds(number) for number in range(len(self.pools))]
        choose = np.random.default_rng((self.seed, 0xC401CE))
        for count in itertools.count():
            pool = 0
            if len(rounds) > 1:
                pool = int(np.searchsorted(self.ends, choose.random(), side="right"))
            yield Draw(next(rounds[pool]), seed=(self.seed << 40) + count)

    def _rounds(self, number: int) -> Iterator[int]:
        for turn in itertools.count():
            rng = np.random.default_rng((self.seed, number, turn))
            yield from rng.permutation(self.pools[number]).tolist()


def _by_ratio(
    dataset: PESliceDataset,
    positive: np.ndarray,
    edges: Sequence[float],
    shares: Sequence[float] | None,
) -> tuple[list[np.ndarray], list[float]]:
    """Positive slices by target ratio class, and each class's share of the positive draws."""
    shares = (1.0,) * (len(edges) + 1) if shares is None else tuple(shares)
    if len(shares) != len(edges) + 1 or min(shares) < 0 or sum(shares) == 0:
        raise ValueError(
            f"ratio_shares needs one share per class, none below 0: {len(edges) + 1} shares for "
            f"ratio_edges={tuple(edges)}, got {shares}"
        )
    if any(low >= high for low, high in itertools.pairwise(edges)):
        raise ValueError(f"ratio_edges must increase, got {tuple(edges)}")
    ratios = dataset.target_ratios()
    known = positive & ~np.isnan(ratios)
    place = np.searchsorted(edges, ratios, side="right")
    classes = [np.flatnonzero(known & (place == k)) for k in range(len(shares))]
    measured = known.sum() / positive.sum() if positive.any() else 1.0
    weights = [measured * share / sum(shares) for share in shares]
    return [*classes, np.flatnonzero(positive & ~known)], [*weights, 1 - measured]


@DATA_SAMPLERS.register_module()
class ClassBalancedSampler(SliceSampler):
    """Positive and other slices equally often."""

    def __init__(self, dataset: PESliceDataset, seed: int | None = 0) -> None:
        super().__init__(dataset, positive_fraction=0.5, seed=seed)


@DATA_SAMPLERS.register_module()
class PEOversamplingSampler(SliceSampler):
    """Draws every positive slice ``factor`` times as often as the others.

    Args:
        factor: at least 1; 1 keeps the natural share.
    """

    def __init__(self, dataset: PESliceDataset, factor: float = 3.0, seed: int | None = 0) -> None:
        if factor < 1:
            raise ValueError(f"oversampling makes positives more frequent; got factor {factor}")
        positives = int((dataset.labels() == 1).sum())
        weighted = factor * positives
        others = len(dataset) - positives
        share = weighted / (weighted + others) if positives and others else None
        super().__init__(dataset, positive_fraction=share, seed=seed)
