"""The slice model: one backbone and up to three heads."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pe_unified.datasets.data_sample import PEDataSample
from pe_unified.models.partly_frozen import PartlyFrozen
from pe_unified.models.protocols import Backbone
from pe_unified.registry import MODELS
from pe_unified.tasks import SLICE_TASKS, TASKS


@MODELS.register_module()
class PEUnified(PartlyFrozen):
    """Classification, segmentation and detection of emboli with one pass of the backbone.

    A batch may mix samples with different labels: each head learns from the samples that have its
    label. If no sample has it, the head's losses are zero. All parameters get a gradient, possibly
    zero, so distributed training need not search for unused ones.

    Args:
        backbone: config of a :class:`~pe_unified.models.protocols.Backbone`.
        cls_head, seg_head, det_head: configs of the heads, each optional; ``in_channels``
            and ``in_strides`` come from the backbone.
        data_preprocessor: config; its memory format becomes the model's.
        task_weights: factor on the losses of a task, e.g. ``dict(det=0.5)``; 1 if absent.
        frozen: names of frozen sub-modules, e.g. ``("backbone", "cls_head")``: no gradients, and
            batch norm and dropout in evaluation mode through every ``train()``.
    """

    backbone: Backbone

    def __init__(
        self,
        backbone: Mapping[str, Any],
        cls_head: Mapping[str, Any] | None = None,
        seg_head: Mapping[str, Any] | None = None,
        det_head: Mapping[str, Any] | None = None,
        data_preprocessor: Mapping[str, Any] | None = None,
        task_weights: Mapping[str, float] | None = None,
        frozen: Sequence[str] = (),
        init_cfg: dict | None = None,
    ) -> None:
        preprocessor = dict(data_preprocessor or {"type": "pe_unified.PEDataPreprocessor"})
        super().__init__(MODELS.build(preprocessor), init_cfg)
        configs = {"cls": cls_head, "seg": seg_head, "det": det_head}
        self.tasks = tuple(task for task in TASKS if configs.get(task) is not None)
        if not self.tasks:
            raise ValueError("PEUnified needs at least one of cls_head, seg_head, det_head")
        self.task_weights = _checked_weights(task_weights or {})
        self.backbone = MODELS.build(dict(backbone))
        levels = self.backbone.feature_info
        if not levels.channels and self.tasks != ("seg",):
            raise ValueError(
                f"{type(self.backbone).__name__} has no levels, which only a seg_head can do "
                "without; leave the other heads out, or take a backbone"
            )
        for task in self.tasks:
            head = {"in_channels": levels.channels, "in_strides": levels.strides, **configs[task]}
            setattr(self, f"{task}_head", MODELS.build(head))
        self.freeze(frozen)
        self.memory_format = getattr(
            self.data_preprocessor, "memory_format", torch.contiguous_format
        )
        self.to(memory_format=self.memory_format)

    def head(self, task: str) -> nn.Module:
        """The head of a task, a :class:`~pe_unified.models.protocols.Head`."""
        if task not in self.tasks:
            raise KeyError(f"this model has no '{task}' head; it has: {', '.join(self.tasks)}")
        return getattr(self, f"{task}_head")

    def forward(
        self,
        inputs: Tensor,
        data_samples: Sequence[PEDataSample] | None = None,
        mode: str = "tensor",
        heads: Iterable[str] | None = None,
    ) -> dict[str, Any] | list[PEDataSample]:
        """Run the model.

        Args:
            inputs: float (n, channels, rows, cols), from the data preprocessor.
            data_samples: one per row; labels for ``"loss"``, geometry for ``"predict"``.
            mode: ``"tensor"``: raw outputs by task; ``"loss"``: losses by name;
                ``"predict"``: the samples with their predictions set.
            heads: tasks to run, all of the model's if None.

        Returns:
            According to ``mode``. Loss keys are ``<task>_loss_<name>``.
        """
        tasks = self._chosen(heads)
        if mode == "loss":
            if data_samples is None:
                raise ValueError("mode 'loss' needs data_samples")
            return self.loss(inputs, data_samples, tasks)
        if mode == "predict":
            return self.predict(inputs, data_samples, tasks)
        if mode == "tensor":
            features = self.backbone(inputs)
            return {task: self.head(task)(features, inputs) for task in tasks}
        raise ValueError(f"mode is 'tensor', 'loss' or 'predict', got {mode!r}")

    def _chosen(self, heads: Iterable[str] | None) -> tuple[str, ...]:
        if heads is None:
            return self.tasks
        chosen = tuple(heads)
        for task in chosen:
            self.head(task)
        return chosen

    def loss(
        self,
        inputs: Tensor,
        data_samples: Sequence[PEDataSample],
        tasks: Sequence[str] | None = None,
    ) -> dict[str, Tensor]:
        """Losses of every task, each over the samples that have its label."""
        features = self.backbone(inputs)
        chosen = self._chosen(tasks)
        losses: dict[str, Tensor] = {}
        read: set[int] = set()
        for task in chosen:
            head = self.head(task)
            known = [i for i, sample in enumerate(data_samples) if TASKS[task].field in sample]
            if known:
                own = _rows(features, known, len(inputs))
                image = _rows([inputs], known, len(inputs))[0]
                values = head.loss(own, [data_samples[i] for i in known], image)
                read.update(head.levels_read)
            else:
                values = dict.fromkeys(head.loss_names, _zero_over(head.parameters(), inputs))
            weight = self.task_weights.get(task, 1.0)
            for name, value in values.items():
                losses[f"{task}_{name}"] = value * weight
        idle = self.backbone.parameters_behind(set(range(len(features))) - read)
        idle += [
            p for task in self.tasks if task not in chosen for p in self.head(task).parameters()
        ]
        first = next(iter(losses))
        losses[first] = losses[first] + _zero_over(idle, inputs)
        return losses

    def predict(
        self,
        inputs: Tensor,
        data_samples: Sequence[PEDataSample] | None = None,
        tasks: Sequence[str] | None = None,
    ) -> list[PEDataSample]:
        """Predictions in the geometry of the stored slice, set on the samples.

        Without samples, new ones are created that treat the input as the whole slice.
        """
        if data_samples is None:
            size = tuple(inputs.shape[-2:])
            meta = {"img_shape": size, "ori_shape": size, "pad_shape": size}
            data_samples = [PEDataSample(metainfo=meta) for _ in inputs]
        features = self.backbone(inputs)
        for task in self._chosen(tasks):
            self.head(task).predict(features, data_samples, inputs)
        return list(data_samples)


def _checked_weights(weights: Mapping[str, float]) -> dict[str, float]:
    unknown = sorted(set(weights) - set(SLICE_TASKS))
    if unknown:
        known = ", ".join(SLICE_TASKS)
        raise ValueError(f"task_weights: unknown task {unknown}; tasks are {known}")
    return dict(weights)


def _rows(tensors: Sequence[Tensor], rows: list[int], total: int) -> list[Tensor]:
    """The given rows of every tensor; the tensors themselves if that is all rows."""
    if len(rows) == total:
        return list(tensors)
    return [tensor[rows] for tensor in tensors]


def _zero_over(parameters: Iterable[nn.Parameter], like: Tensor) -> Tensor:
    """Zero whose gradient reaches every given parameter, as zeros."""
    total = like.new_zeros(())
    for parameter in parameters:
        if parameter.requires_grad:
            total = total + parameter.sum() * 0.0
    return total
