"""Exams by single slices that are compared with each other."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from torch import Tensor

from pe_unified.ct.exam_labels import EXAM_TARGETS
from pe_unified.models.exam_steps import encode_steps, exam_targets, step_targets
from pe_unified.models.protocols import Encoder
from pe_unified.registry import MODELS

_LABELS_FROM = ("steps", "exam")
_POSITIVE = EXAM_TARGETS.index("positive_exam_for_pe")


@MODELS.register_module()
class SiameseExam(BaseModel):
    """One encoder, with the same weights, on some slices of every exam, and up to three heads.

    The pair head compares every two slices of the batch, within exams and between them, while
    training; the step head answers for every slice, the exam head for the exam, from the slices'
    vectors. No slice's vector depends on another slice.

    Args:
        encoder: config of an :class:`~pe_unified.models.protocols.Encoder`.
        pair_head: config of a :class:`~pe_unified.models.heads.pairs.PairHead`, or None.
        step_head: config of a :class:`~pe_unified.models.heads.step.StepHead`, or None.
        exam_head: config of an :class:`~pe_unified.models.heads.exam.ExamHead` (``pool=
            "attention"``) or a :class:`~pe_unified.models.heads.noisy_or.NoisyOrHead`, or None.
            ``in_channels`` of all heads comes from the encoder.
        labels_from: what pairs and steps take for a slice's label: ``"steps"``, its own
            (``gt_steps``), or ``"exam"``, its exam's ``positive_exam_for_pe``. With the first, a
            pair is positive if both slices show embolism or both do not; with the second, if both
            exams are positive or both are not, so all pairs within an exam are. A slice of unknown
            label is in no pair.
        data_preprocessor: config.
    """

    encoder: Encoder

    def __init__(
        self,
        encoder: Mapping[str, Any],
        pair_head: Mapping[str, Any] | None = None,
        step_head: Mapping[str, Any] | None = None,
        exam_head: Mapping[str, Any] | None = None,
        labels_from: str = "steps",
        data_preprocessor: Mapping[str, Any] | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor and MODELS.build(dict(data_preprocessor)), init_cfg)
        if labels_from not in _LABELS_FROM:
            raise ValueError(f"labels_from is one of {_LABELS_FROM}, got {labels_from!r}")
        if step_head is None and exam_head is None:
            raise ValueError("SiameseExam answers nothing: give it step_head, exam_head or both")
        self.labels_from = labels_from
        self.encoder = MODELS.build(dict(encoder))
        width = self.encoder.out_channels
        self.pair_head, self.step_head, self.exam_head = (
            None if head is None else MODELS.build({"in_channels": width, **head})
            for head in (pair_head, step_head, exam_head)
        )

    def forward(
        self,
        inputs: Tensor,
        mask: Tensor,
        data_samples: Sequence[BaseDataElement] | None = None,
        mode: str = "tensor",
    ) -> dict[str, Tensor] | list[BaseDataElement]:
        """Run the model; n: exams.

        Args:
            inputs: float (n, steps, channels, rows, cols), from the data preprocessor.
            mask: bool (n, steps), True where a step is real.
            data_samples: one per exam; ``gt_exam`` and ``gt_steps``, where known, for ``"loss"``.
            mode: ``"tensor"``: ``features``, float (n, steps, channels), and the logits ``step``,
                (n, steps), and ``exam``, (n, labels); ``"loss"``: losses by name; ``"predict"``:
                the samples with ``pred_steps`` and ``pred_exam`` set.

        Returns:
            According to ``mode``. Loss keys are ``<head>_loss_<name>``, of ``pair``, ``step`` and
            ``exam``.
        """
        if mode == "loss":
            if data_samples is None:
                raise ValueError("mode 'loss' needs data_samples")
            return self.loss(inputs, mask, data_samples)
        if mode == "predict":
            return self.predict(inputs, mask, data_samples)
        if mode == "tensor":
            features = encode_steps(self.encoder, inputs, mask)
            found = {"features": features}
            if self.step_head is not None:
                found["step"] = self.step_head(features, mask)
            if self.exam_head is not None:
                found["exam"], _ = self.exam_head(features, mask)
            return found
        raise ValueError(f"mode is 'tensor', 'loss' or 'predict', got {mode!r}")

    def loss(
        self, inputs: Tensor, mask: Tensor, data_samples: Sequence[BaseDataElement]
    ) -> dict[str, Tensor]:
        """Losses of every head, each from the labels that are known."""
        features = encode_steps(self.encoder, inputs, mask)
        exams, steps = exam_targets(data_samples, mask.device), step_targets(data_samples, mask)
        if self.labels_from == "exam":
            steps = exams[:, _POSITIVE, None].expand(mask.shape)
        losses, logits = {}, None
        if self.pair_head is not None:
            losses["pair"] = self.pair_head.loss(features, mask, steps)
        if self.step_head is not None:
            logits = self.step_head(features, mask)
            losses["step"] = self.step_head.loss_of(logits, mask, steps)
        if self.exam_head is not None:
            losses["exam"] = self.exam_head.loss(features, mask, exams, logits, steps)
        return {f"{head}_{name}": value for head in losses for name, value in losses[head].items()}

    def predict(
        self,
        inputs: Tensor,
        mask: Tensor,
        data_samples: Sequence[BaseDataElement] | None = None,
    ) -> list[BaseDataElement]:
        """Predictions, set on the samples; on new ones where none are given."""
        samples = list(data_samples or (BaseDataElement() for _ in inputs))
        features = encode_steps(self.encoder, inputs, mask)
        for head in (self.step_head, self.exam_head):
            if head is not None:
                head.predict(features, mask, samples)
        return samples
