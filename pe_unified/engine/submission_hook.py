"""Keep a test's answers on exams for the challenge's submission file."""

from pathlib import Path
from typing import Any

from mmengine.dist import all_gather_object, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from pe_unified.evaluation.submission import AnsweredExam, SubmissionError, write_submission
from pe_unified.registry import HOOKS


@HOOKS.register_module()
class SubmissionHook(Hook):
    """Write ``submission.csv`` for the exams that are tested.

    Args:
        path: path of the file.

    Raises:
        SubmissionError: the test does not look at every slice of its exams separately.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.exams: dict[str, AnsweredExam] = {}

    def before_test(self, runner: Runner) -> None:
        dataset: Any = runner.test_dataloader.dataset
        steps = getattr(dataset, "steps", None)
        every_slice = getattr(steps, "span", "") == "all" and not steps.volumes
        if not every_slice or dataset.max_steps is not None:
            raise SubmissionError(
                "the challenge asks for every slice; --submission is for exam models whose steps "
                "are slices, with --cfg-options test_dataloader.dataset.steps.span=all and without "
                "max_steps"
            )

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        for sample in outputs or ():
            exam = AnsweredExam.of_sample(dict(sample.all_items()))
            self.exams[exam.study_uid] = exam

    def after_test_epoch(self, runner: Runner, metrics: Any = None) -> None:
        gathered = all_gather_object(self.exams)
        if is_main_process():
            exams = {study: exam for part in gathered for study, exam in part.items()}
            repaired = write_submission(self.path, exams.values())
            runner.logger.info(
                f"{self.path}: {len(exams)} exams, of which {len(repaired)} were moved to the "
                "nearest answers that keep the challenge's rules"
            )
