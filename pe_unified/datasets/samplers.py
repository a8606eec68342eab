"""Endless samplers over slices, balanced by label, resumable at no cost."""

import itertools
from collections.abc import Iterator

import numpy as np
from mmengine.dist import get_dist_info
from torch.utils.data import Sampler

from pe_unified.datasets.slice_dataset import DatasetError, Draw, PESliceDataset
from pe_unified.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class SliceSampler(Sampler):
    """Slices in a seeded random order, for ever.

    Without ``positive_fraction`` every slice comes once a round. With it, that share of
    all draws shows embolism; positives and the others (labelled 0 or unknown) each go
    through rounds of their own, so that no slice is drawn twice before its like were
    drawn once.

    Ranks take turns: together they see the same global batches whatever their number.

    Args:
        dataset: the dataset, for its labels.
        positive_fraction: share of positive draws in (0, 1); None keeps the natural share.
        seed: of the order and of the augmentations.

    Raises:
        DatasetError: a share was asked for and the set lacks positives or others.
    """

    def __init__(
        self,
        dataset: PESliceDataset,
        positive_fraction: float | None = None,
        seed: int | None = 0,
    ) -> None:
        self.rank, self.world_size = get_dist_info()
        self.seed = 0 if seed is None else seed
        self.size = len(dataset)
        self.start = 0
        self.positive_fraction = positive_fraction
        self.pools = [np.arange(self.size)]
        if positive_fraction is not None:
            if not 0 < positive_fraction < 1:
                raise ValueError(f"positive_fraction lies in (0, 1), got {positive_fraction}")
            positive = dataset.labels() == 1
            self.pools = [np.flatnonzero(positive), np.flatnonzero(~positive)]
            if any(len(pool) == 0 for pool in self.pools):
                raise DatasetError(
                    f"positive_fraction={positive_fraction} needs positive and other slices; "
                    f"{dataset.ann_file} has {len(self.pools[0])} and {len(self.pools[1])}"
                )

    def skip(self, num_samples: int) -> None:
        """Begin after ``num_samples`` draws of this rank (counted from the very start)."""
        if num_samples < 0:
            raise ValueError(f"cannot skip {num_samples} draws")
        self.start = num_samples

    def set_epoch(self, epoch: int) -> None:
        """Nothing to do: the stream has no epochs."""

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
            if len(rounds) == 2:
                pool = int(choose.random() >= self.positive_fraction)
            yield Draw(next(rounds[pool]), seed=(self.seed << 40) + count)

    def _rounds(self, number: int) -> Iterator[int]:
        for turn in itertools.count():
            rng = np.random.default_rng((self.seed, number, turn))
            yield from rng.permutation(self.pools[number]).tolist()


@DATA_SAMPLERS.register_module()
class ClassBalancedSampler(SliceSampler):
    """As many positive as other slices."""

    def __init__(self, dataset: PESliceDataset, seed: int | None = 0) -> None:
        super().__init__(dataset, positive_fraction=0.5, seed=seed)


@DATA_SAMPLERS.register_module()
class PEOversamplingSampler(SliceSampler):
    """Every positive slice ``factor`` times as often as the others.

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
