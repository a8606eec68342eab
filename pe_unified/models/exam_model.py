"""The exam model: an encoder for every step, an aggregator over the steps, and heads."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pe_unified.ct.exam_labels import EXAM_TARGETS
from pe_unified.datasets.exam_sample import PEExamSample
from pe_unified.models.exam_batches import (
    STEPS_AT_ONCE,
    encode_steps,
    stacked_exam_targets,
    stacked_step_targets,
)
from pe_unified.models.partly_frozen import PartlyFrozen
from pe_unified.models.protocols import Aggregator, Encoder
from pe_unified.registry import MODELS

_POSITIVE = EXAM_TARGETS.index("positive_exam_for_pe")


@MODELS.register_module()
class PEExam(PartlyFrozen):
    """Predictions for an exam and for its steps: slices, chunks of slices, or their features.

    Every part is optional, but a ``step_head`` or an ``exam_head`` is required:

    - The ``encoder`` computes the features; without one the input is features (``in_channels``).
    - The ``aggregator`` combines the steps of an exam; without one each step is independent.
    - The ``step_head`` classifies every step, the ``exam_head`` the exam, and the ``pair_head``
      compares pairs of steps of a batch in training.

    For example, phase one of a two-phase system is an encoder with a step head, phase two an
    aggregator with both heads on stored features, and a siamese network an encoder with a pair
    head.

    Args:
        encoder: config of an :class:`~pe_unified.models.protocols.Encoder`.
        in_channels: width of the features, if there is no encoder.
        aggregator: config of an :class:`~pe_unified.models.protocols.Aggregator`.
        step_head, exam_head, pair_head: configs; ``in_channels`` is set from their input.
        steps_read: whether step and pair head read the ``"encoder"``, so that steps are
            independent, or the ``"aggregator"``.
        labels_from: the label of a step for the step and pair head: its own (``"steps"``), or
            whether its ``"exam"`` is positive. A pair is positive if both labels are the same.
        loss_weights: factor on the losses of a head, e.g. ``dict(step=0.95, exam=0.05)``.
        frozen: names of frozen sub-modules.
        data_preprocessor: config.
    """

    encoder: Encoder | None
    aggregator: Aggregator | None

    def __init__(
        self,
        encoder: Mapping[str, Any] | None = None,
        in_channels: int | None = None,
        aggregator: Mapping[str, Any] | None = None,
        step_head: Mapping[str, Any] | None = None,
        exam_head: Mapping[str, Any] | None = None,
        pair_head: Mapping[str, Any] | None = None,
        steps_read: Literal["encoder", "aggregator"] = "aggregator",
        labels_from: Literal["steps", "exam"] = "steps",
        loss_weights: Mapping[str, float] | None = None,
        frozen: Sequence[str] = (),
        data_preprocessor: Mapping[str, Any] | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        preprocessor = dict(data_preprocessor or {"type": "pe_unified.PEExamPreprocessor"})
        super().__init__(MODELS.build(preprocessor), init_cfg)
        if (encoder is None) == (in_channels is None):
            raise ValueError("PEExam takes an encoder, or in_channels of stored features")
        if step_head is None and exam_head is None:
            raise ValueError("PEExam needs step_head, exam_head or both")
        if steps_read not in ("encoder", "aggregator") or labels_from not in ("steps", "exam"):
            raise ValueError(
                "steps_read is 'encoder' or 'aggregator', labels_from 'steps' or 'exam'; got "
                f"{steps_read!r} and {labels_from!r}"
            )
        self.steps_read, self.labels_from = steps_read, labels_from
        self.loss_weights = dict(loss_weights or {})
        self.encoder = MODELS.build(dict(encoder)) if encoder else None
        width = self.encoder.out_channels if self.encoder else int(in_channels or 0)
        self.aggregator = MODELS.build({"in_channels": width, **aggregator}) if aggregator else None
        wide = self.aggregator.out_channels if self.aggregator else width
        own = width if steps_read == "encoder" else wide
        self.step_head = _built(step_head, own)
        self.pair_head = _built(pair_head, own)
        self.exam_head = _built(exam_head, wide)
        self.freeze(frozen)

    @property
    def heads(self) -> tuple[str, ...]:
        """Names of the model's heads."""
        names = ("step", "exam", "pair")
        return tuple(name for name in names if getattr(self, f"{name}_head") is not None)

    def forward(
        self,
        inputs: Tensor,
        mask: Tensor,
        data_samples: Sequence[PEExamSample] | None = None,
        mode: str = "tensor",
    ) -> dict[str, Tensor] | list[PEExamSample]:
        """Run the model; n: exams.

        Args:
            inputs: float (n, steps, channels, rows, cols) of slices, (n, steps, channels, planes,
                rows, cols) of chunks, or (n, steps, width) of features.
            mask: bool (n, steps), True where a step is real; real steps come first.
            data_samples: one per exam; labels for ``"loss"``.
            mode: ``"tensor"``: raw outputs; ``"loss"``: losses by name; ``"predict"``: the samples
                with their predictions set.

        Returns:
            According to ``mode``. Raw outputs are ``features`` (n, steps, width) of the encoder,
            logits ``step`` (n, steps) and ``exam`` (n, labels), and ``attention`` (n, labels,
            steps). Loss keys are ``<head>_loss_<name>``.
        """
        if mode == "loss":
            if data_samples is None:
                raise ValueError("mode 'loss' needs data_samples")
            return self.loss(inputs, mask, data_samples)
        if mode == "predict":
            return self.predict(inputs, mask, data_samples)
        if mode == "tensor":
            return self.outputs(self.encode(inputs, mask), mask)[0]
        raise ValueError(f"mode is 'tensor', 'loss' or 'predict', got {mode!r}")

    def encode(self, inputs: Tensor, mask: Tensor, at_once: int | None = None) -> Tensor:
        """Features of every step, (n, steps, width), 0 for padding; without encoder, the input.

        Args:
            inputs, mask: as of :meth:`forward`.
            at_once: see :func:`~pe_unified.models.exam_batches.encode_steps`.
        """
        if self.encoder is None:
            return inputs.float()
        return encode_steps(self.encoder, inputs, mask, at_once)

    def outputs(self, own: Tensor, mask: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Raw outputs from features, see :meth:`forward`; and the input of step and pair head."""
        found = {"features": own}
        wide = self.aggregator(own, mask) if self.aggregator else own
        read = own if self.steps_read == "encoder" else wide
        if self.step_head is not None:
            found["step"] = self.step_head(read, mask)
        if self.exam_head is not None:
            found["exam"], attention = self.exam_head(wide, mask)
            if attention is not None:
                found["attention"] = attention
        return found, read

    def loss(
        self, inputs: Tensor, mask: Tensor, data_samples: Sequence[PEExamSample]
    ) -> dict[str, Tensor]:
        """Losses of every head, each over the known labels."""
        found, read = self.outputs(self.encode(inputs, mask), mask)
        exams, steps = (
            stacked_exam_targets(data_samples, mask.device),
            stacked_step_targets(data_samples, mask),
        )
        if self.labels_from == "exam":
            steps = exams[:, _POSITIVE, None].expand(mask.shape).masked_fill(~mask, torch.nan)
        losses: dict[str, dict[str, Tensor]] = {}
        if self.pair_head is not None:
            losses["pair"] = self.pair_head.loss(read, mask, steps)
        if self.step_head is not None:
            losses["step"] = self.step_head.loss(found["step"], mask, steps)
        if self.exam_head is not None:
            losses["exam"] = self.exam_head.loss(
                found["exam"], mask, exams, found.get("step"), steps
            )
        return {
            f"{head}_{name}": value * self.loss_weights.get(head, 1.0)
            for head, values in losses.items()
            for name, value in values.items()
        }

    def predict(
        self,
        inputs: Tensor,
        mask: Tensor,
        data_samples: Sequence[PEExamSample] | None = None,
    ) -> list[PEExamSample]:
        """Predictions, set on the samples, or on new ones if none are given."""
        return self.answer(self.encode(inputs, mask, STEPS_AT_ONCE), mask, data_samples)

    def answer(
        self,
        features: Tensor,
        mask: Tensor,
        data_samples: Sequence[PEExamSample] | None = None,
    ) -> list[PEExamSample]:
        """Like :meth:`predict`, from the features of :meth:`encode`."""
        samples = list(data_samples or (PEExamSample() for _ in features))
        found, _ = self.outputs(features, mask)
        answers = {"pred_steps": found["step"].sigmoid()} if "step" in found else {}
        if self.exam_head is not None:
            probabilities = self.exam_head.probabilities(found["exam"])
            for sample, row in zip(samples, probabilities):
                sample.pred_exam = row
        if "attention" in found:
            answers["attention"] = self.exam_head.spread(found["attention"])
        for name, values in answers.items():
            for sample, row, real in zip(samples, values, mask):
                sample.set_field(row[..., real], name)
        return samples


def _built(head: Mapping[str, Any] | None, width: int) -> nn.Module | None:
    return None if head is None else MODELS.build({"in_channels": width, **head})
