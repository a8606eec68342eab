"""The volume model: maps of emboli and of arteries, voxel by voxel."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pe_unified.datasets.volume_sample import PEVolumeSample
from pe_unified.models.partly_frozen import PartlyFrozen
from pe_unified.models.volume_marks import find_marks
from pe_unified.models.volume_windows import Windows
from pe_unified.registry import MODELS


@MODELS.register_module()
class PEVolume(PartlyFrozen):
    """Maps of emboli and of arteries in a volume, and marks where emboli are.

    Args:
        network: config of a network that returns logits of emboli and of arteries (either may be
            None), such as :class:`~pe_unified.models.nets.aanet3d.AANet3D`.
        lesion_head: config of a :class:`~pe_unified.models.heads.volume.VolumeHead` with the losses
            of the embolus map; None if the network gives none.
        artery_head: likewise for arteries.
        windows: settings of :class:`~pe_unified.models.volume_windows.Windows`.
        marks: settings of :func:`~pe_unified.models.volume_marks.find_marks`: ``cut``,
            ``apart_mm``, ``most``.
        frozen: names of frozen sub-modules.
        data_preprocessor: config.

    Raises:
        ValueError: no head, or windows that do not fit the network's stride.
    """

    def __init__(
        self,
        network: Mapping[str, Any],
        lesion_head: Mapping[str, Any] | None = None,
        artery_head: Mapping[str, Any] | None = None,
        windows: Mapping[str, Any] | None = None,
        marks: Mapping[str, Any] | None = None,
        frozen: Sequence[str] = (),
        data_preprocessor: Mapping[str, Any] | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        preprocessor = dict(data_preprocessor or {"type": "pe_unified.PEVolumePreprocessor"})
        super().__init__(MODELS.build(preprocessor), init_cfg)
        self.network = MODELS.build(dict(network))
        self.lesion_head = MODELS.build(dict(lesion_head)) if lesion_head else None
        self.artery_head = MODELS.build(dict(artery_head)) if artery_head else None
        if not self.heads:
            raise ValueError("PEVolume needs lesion_head, artery_head or both")
        self.windows, self.marks = Windows(**(windows or {})), dict(marks or {})
        if self.windows.size % self.network.stride:
            raise ValueError(
                f"windows of {self.windows.size} voxels, but the network takes multiples of "
                f"{self.network.stride}"
            )
        self.freeze(frozen)

    @property
    def heads(self) -> tuple[str, ...]:
        """Names of the maps that the model learns."""
        names = ("lesion", "artery")
        return tuple(name for name in names if getattr(self, f"{name}_head") is not None)

    def forward(
        self,
        inputs: Tensor,
        data_samples: Sequence[PEVolumeSample] | None = None,
        mode: str = "tensor",
    ) -> dict[str, Tensor] | list[PEVolumeSample]:
        """Run the model.

        Args:
            inputs: float (n, 1, levels, rows, cols), 0..1; n: patches, the same number per sample.
            data_samples: labels for ``"loss"``.
            mode: ``"tensor"``: logits by head; ``"loss"``: losses by name; ``"predict"``: the
                samples, one whole volume each, with their predictions set.

        Returns:
            According to ``mode``. Loss keys are ``<head>_loss_<name>``.
        """
        if mode == "loss":
            if data_samples is None:
                raise ValueError("mode 'loss' needs data_samples")
            return self.loss(inputs, data_samples)
        if mode == "predict":
            return self.predict(inputs, data_samples)
        if mode == "tensor":
            return self.logits(inputs)
        raise ValueError(f"mode is 'tensor', 'loss' or 'predict', got {mode!r}")

    def logits(self, inputs: Tensor) -> dict[str, Tensor]:
        """float32 (n, 1, levels, rows, cols) of every head, by its name.

        Raises:
            ValueError: the network does not give the map of a head.
        """
        answers = dict(zip(("lesion", "artery"), self.network(inputs), strict=True))
        silent = [head for head in self.heads if answers[head] is None]
        if silent:
            raise ValueError(
                f"the network has no output for {silent[0]}; leave {silent[0]}_head out"
            )
        return {head: answers[head] for head in self.heads}

    def loss(self, inputs: Tensor, data_samples: Sequence[PEVolumeSample]) -> dict[str, Tensor]:
        """Losses of every head, each over the studies with known labels."""
        patches = len(inputs) // len(data_samples)
        losses = {}
        for head, logits in self.logits(inputs).items():
            field, target = f"gt_{head}", None
            known = [index for index, sample in enumerate(data_samples) if field in sample]
            if known:
                target = torch.cat([data_samples[index].get(field) for index in known])[:, None]
                logits = logits.unflatten(0, (-1, patches))[known].flatten(0, 1)
            found = getattr(self, f"{head}_head").loss(logits, target)
            losses |= {f"{head}_{name}": value for name, value in found.items()}
        return losses

    @torch.no_grad()
    def predict(
        self, inputs: Tensor, data_samples: Sequence[PEVolumeSample] | None = None
    ) -> list[PEVolumeSample]:
        """Predictions, set on the samples, or on new ones if none are given."""
        samples = list(data_samples or (PEVolumeSample() for _ in inputs))
        for volume, sample in zip(inputs, samples, strict=True):
            for head, found in self.probabilities(volume[None]).items():
                sample.set_field(found.cpu(), f"pred_{head}")
            if "lesion" in self.heads:
                step_mm = sample.grid.step_mm if "grid" in sample else 1.0
                found = find_marks(sample.pred_lesion.numpy(), step_mm, **self.marks)
                sample.set_field(torch.from_numpy(found), "pred_marks")
        return samples

    def probabilities(self, volume: Tensor) -> dict[str, Tensor]:
        """float32 (levels, rows, cols) of every head, by its name.

        Args:
            volume: float (1, 1, levels, rows, cols), 0..1.
        """
        found = self.windows.over(
            volume, lambda part: torch.cat(list(self.logits(part).values()), dim=1).sigmoid()
        )
        return dict(zip(self.heads, found, strict=True))
