"""Evaluate a checkpoint: AUC, Dice and IoU, mAP, with intervals over patients.

Operating thresholds come from validation (from the checkpoint, or chosen on the validation
split first) and are only applied here; --cfg-options test_evaluator.0.threshold=0.3 sets one that
was fixed before. Writes metrics.json into the work dir. The network and its input (size, windows,
...) are those that the checkpoint was trained with, unless --cfg-options names what differs.

An ensemble is tested by slices and by lesions, with the thresholds that were fixed when it was
made; the config provides the data.

For exam models it also writes ROC curves and a reliability plot, and DeLong's intervals into
metrics.json; for volume models the curve of emboli found against false positives (FROC).

Examples:
  pe-unified test pe_cls_swin work_dirs/pe_cls_swin/iter_20000.pth --data-root data/pe
  pe-unified test pe_unified_r50 ensemble.pth --data-root data/pe
  pe-unified test exam/semi_weak CHECKPOINT --data-root data/pe --prevalence 0.15
"""

import argparse
from pathlib import Path

from rich.console import Console

from pe_unified.cli.arguments import add_config_arguments, read_config
from pe_unified.command import exit_on_user_error
from pe_unified.options import share


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_config_arguments(parser)
    parser.add_argument("checkpoint", help="weights to evaluate")
    parser.add_argument("--amp", action="store_true", help="evaluate in bfloat16 mixed precision")
    parser.add_argument(
        "--prevalence",
        type=share,
        help="share of positive exams where the model will be used; adds PPV and NPV",
    )
    parser.add_argument(
        "--volume-checkpoint",
        default="",
        metavar="FILE",
        help="the 3D model that marks emboli, for an ensemble that was made with marks (default: "
        "the one in the ensemble)",
    )
    parser.add_argument(
        "--marks", default="", metavar="FILE", help="its marks on the test studies, instead"
    )
    parser.add_argument(
        "--submission", metavar="FILE", help="write the answers in the format of the RSNA challenge"
    )
    return parser


@exit_on_user_error()
def main() -> None:
    args = make_parser().parse_args()
    from mmengine.dist import is_main_process

    from pe_unified.checkpoints import load_checkpoint_safely
    from pe_unified.engine.config import ConfigError
    from pe_unified.engine.ensemble import marks_on
    from pe_unified.engine.evaluate import evaluate_checkpoint, write_metrics
    from pe_unified.engine.study_test import evaluate_studies
    from pe_unified.engine.submission_hook import SubmissionHook
    from pe_unified.evaluation.exam_details import exam_details
    from pe_unified.evaluation.figures import draw_exams, froc_panels_figure
    from pe_unified.evaluation.froc import EPSILONS_MM
    from pe_unified.inference.stored_model import is_ensemble
    from pe_unified.recipes.summary import metrics_table

    cfg = read_config(args, of_checkpoint=True)
    cfg.work_dir = args.work_dir or f"work_dirs/{Path(args.config).stem}/test"
    cfg.launcher = args.launcher
    hooks: list = [SubmissionHook(args.submission)] if args.submission else []
    if is_ensemble(load_checkpoint_safely(args.checkpoint, args.trust_checkpoint)):
        dataset, trust = cfg.test_dataloader.dataset.to_dict(), args.trust_checkpoint
        marks = marks_on(dataset, args.marks, args.volume_checkpoint, trust)
        evaluation = evaluate_studies(Path(args.checkpoint), dataset, trust, marks)
    elif args.marks or args.volume_checkpoint:
        raise ConfigError("marks of a 3D model count in ensembles; the checkpoint is a single one")
    else:
        evaluation = evaluate_checkpoint(cfg, args.checkpoint, hooks)
    if not is_main_process():
        return
    path = Path(cfg.work_dir) / "metrics.json"
    told = {"config": args.config, "checkpoint": args.checkpoint}
    exams = evaluation.tables.get("exam")
    if exams is not None:
        told["exam"] = exam_details(exams, evaluation.metrics, args.prevalence)
        draw_exams({Path(args.checkpoint).stem: exams}, path.parent, evaluation.notice)
    lesions = evaluation.tables.get("lesion")
    if lesions is not None:
        name = Path(args.checkpoint).stem
        marks = {name: {epsilon: lesions.marks(epsilon) for epsilon in EPSILONS_MM}}
        froc_panels_figure(marks, path.with_name("froc.png"), [name], evaluation.notice)
    write_metrics(path, evaluation, **told)
    for prefix, table in evaluation.tables.items():
        table.save(path.with_name(f"{prefix}.npz"))
    Console().print(metrics_table(evaluation))
    print(f"metrics written to {path}")
