"""Arguments of each benchmark; imports nothing heavy, so that ``--help`` answers at once."""

import argparse
from collections.abc import Callable
from pathlib import Path

from pe_unified.options import BATCH_SIZE, positive, positive_number
from pe_unified.tasks import SLICE_TASKS

BACKBONES = ("R50", "Swin-T")
#: Networks that have a counterpart in another library.
NETS = ("unet", "attention_unet", "unet_plus_plus", "resnet34", "smp_unet_plus_plus")
EXAM_PARTS = ("features", "extract", "waiting", "study")
#: Backend and precision, with and without the gate.
WAYS = tuple(
    f"{way}{gate}"
    for way in (
        *("torch-fp32", "torch-bf16", "onnx-fp32"),
        *("openvino-fp32", "openvino-bf16", "openvino-int8"),
    )
    for gate in ("", "-nogate")
)
#: Those timed if none are named.
USUAL_WAYS = ("torch-bf16", "openvino-bf16", "openvino-bf16-nogate")


def _convert(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--patients", type=positive, default=4)
    parser.add_argument("--slices", type=positive, default=100, help="per patient")
    parser.add_argument("--size", type=positive, default=512, help="rows and columns")
    parser.add_argument(
        "--workers", type=positive, nargs="+", default=[1, 2], help="numbers to try"
    )
    parser.add_argument("--syntax", choices=["plain", "rle"], default="plain", help="of the DICOM")
    parser.add_argument("--repeats", type=positive, default=5)


def _load(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data-root", type=Path, help="a converted set; generated if not given")
    parser.add_argument("--configs", nargs="+", default=["pe_cls_r50", "pe_unified_r50"])
    parser.add_argument("--input-size", type=positive, default=256)
    parser.add_argument("--batch-size", type=positive, default=8)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--iterations", type=positive, default=20)
    parser.add_argument("--warmup", type=int, default=4)


def _train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", type=positive, default=256, help="rows and columns of a slice")
    parser.add_argument("--batch-size", type=positive, default=2, help="slices per iteration")
    parser.add_argument(
        "--repeats", type=positive, default=15, help="timed repeats, median reported"
    )
    parser.add_argument("--threads", type=positive, default=2, help="CPU threads of torch")
    parser.add_argument("--backbones", nargs="+", default=list(BACKBONES), choices=BACKBONES)
    parser.add_argument("--heads", nargs="+", default=list(SLICE_TASKS), choices=SLICE_TASKS)
    parser.add_argument("--amp", action="store_true", help="bfloat16 autocast on both sides")


def _learn(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data-root", type=Path, required=True, help="a converted set")
    parser.add_argument(
        "--configs",
        nargs="+",
        default=["benchmarks/smp_unet_r50", "pe_seg_r50", "pe_cls_r50", "pe_cls_seg_r50"],
        help="in the order of the table; the first with a metric is its reference",
    )
    parser.add_argument("--minutes", type=positive_number, default=20.0, help="of training, each")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--points", type=positive, default=5, help="validations of each")
    parser.add_argument("--input-size", type=positive, default=256)
    parser.add_argument("--batch-size", type=positive, default=8, help="slices per iteration")
    parser.add_argument("--threads", type=positive, default=1, help="CPU threads of torch")
    parser.add_argument("--work-dir", type=Path, default=Path("work_dirs/learn"))
    parser.add_argument("--note", default="", help="a line printed under the figure")


def _infer(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", type=positive, default=512, help="rows and columns of a slice")
    parser.add_argument(
        "--repeats", type=positive, default=9, help="timed repeats, median reported"
    )
    parser.add_argument("--threads", type=positive, default=2, help="CPU threads of torch")
    parser.add_argument("--backbones", nargs="+", default=list(BACKBONES), choices=BACKBONES)
    parser.add_argument("--amp", action="store_true", help="bfloat16 autocast on both sides")


def _study(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--checkpoint", type=Path, help="by pe-unified publish; without one only the ladder is run"
    )
    parser.add_argument("--study", type=Path, help="a DICOM folder; painted if not given")
    parser.add_argument("--slices", type=positive, default=300, help="of the painted study")
    parser.add_argument(
        "--ladder-slices", type=int, default=32, help="timed on every rung; 0: no ladder"
    )
    parser.add_argument(
        "--memory-of",
        type=positive,
        metavar="SLICES",
        help="show how much memory a study of so many slices takes; nothing is timed",
    )
    parser.add_argument("--size", type=positive, default=512, help="of the stock models' input")
    parser.add_argument("--device", default="cpu", help="cpu or cuda, for all models")
    parser.add_argument("--backbone", default="R50", choices=BACKBONES)
    parser.add_argument("--threads", type=positive, default=2, help="CPU threads")
    parser.add_argument(
        "--batch-size",
        type=positive,
        default=BATCH_SIZE,
        help="ours, and of the tuned stock models",
    )
    parser.add_argument(
        "--ways",
        nargs="*",
        choices=WAYS,
        metavar="WAY",
        help=f"of {', '.join(WAYS)}; default: {' '.join(USUAL_WAYS)}; none for the ladder alone",
    )


def _exam(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--parts", nargs="+", default=list(EXAM_PARTS), choices=EXAM_PARTS)
    features = parser.add_argument_group("stored features")
    features.add_argument("--exams", type=positive, default=700, help="as many as are stored")
    features.add_argument("--slices", type=positive, default=128, help="of such an exam")
    features.add_argument("--width", type=positive, default=2048, help="features of a slice")
    features.add_argument("--in-memory", type=positive, default=200, help="exams of the reference")
    features.add_argument("--batch-size", type=positive, default=16, help="exams per iteration")
    reading = parser.add_argument_group("extracting, waiting")
    reading.add_argument("--data-root", type=Path, help="a converted set; painted if not given")
    reading.add_argument("--studies", type=positive, default=8, help="of the painted set")
    reading.add_argument("--study-slices", type=positive, default=24, help="of such a study")
    study = parser.add_argument_group("a study")
    study.add_argument("--study", type=Path, help="a DICOM folder; painted if not given")
    study.add_argument("--long", type=positive, default=300, help="slices of the painted one")
    parser.add_argument("--input-size", type=positive, help="that of the configs if not given")
    parser.add_argument("--workers", type=int, help="that of the configs if not given")
    parser.add_argument("--iterations", type=positive, default=10)
    parser.add_argument("--warmup", type=int, default=5)
    parser.add_argument("--repeats", type=positive, default=3, help="median reported")
    parser.add_argument("--threads", type=positive, default=2, help="CPU threads of torch")


def _evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cases", type=positive, default=10)
    parser.add_argument("--slices", type=positive, default=300, help="of a case")
    parser.add_argument("--size", type=positive, default=512, help="rows and columns")
    parser.add_argument("--lesions", type=positive, default=12, help="of a case")
    parser.add_argument("--workers", type=positive, default=2, help="ours")
    parser.add_argument("--repeats", type=positive, default=1, help="median reported")


def _batch(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", type=Path, help="untrained if not given")
    parser.add_argument("--studies", type=Path, help="a folder of studies; painted if not given")
    parser.add_argument("--workers", type=positive, default=2, help="cores, a worker on each")
    parser.add_argument("--slices", type=positive, default=80, help="of a painted study")
    parser.add_argument("--size", type=positive, default=512, help="rows and columns of a slice")


def _seg(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--nets", nargs="+", default=list(NETS), choices=NETS)
    parser.add_argument(
        "--configs", nargs="+", metavar="CONFIG", help="any models, in place of --nets"
    )
    parser.add_argument("--size", type=positive, default=256, help="rows and columns of a slice")
    parser.add_argument("--batch-size", type=positive, default=2, help="slices per iteration")
    parser.add_argument(
        "--repeats", type=positive, default=15, help="timed repeats, median reported"
    )
    parser.add_argument("--threads", type=positive, default=2, help="CPU threads of torch")
    parser.add_argument("--amp", action="store_true", help="bfloat16 autocast on both sides")


def _serve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--study", type=Path, help="a DICOM folder; painted if not given")
    parser.add_argument("--slices", type=positive, default=600, help="of the painted study")
    parser.add_argument("--studies", type=positive, default=500, help="in the worklist")
    parser.add_argument(
        "--input-size", type=positive, default=64, help="of the model that writes the report"
    )
    parser.add_argument("--repeats", type=positive, default=3, help="median reported")


#: Functions that add the arguments, by kind of benchmark.
ADD_ARGUMENTS: dict[str, Callable[[argparse.ArgumentParser], None]] = {
    "batch": _batch,
    "convert": _convert,
    "learn": _learn,
    "load": _load,
    "train": _train,
    "infer": _infer,
    "study": _study,
    "exam": _exam,
    "evaluate": _evaluate,
    "seg": _seg,
    "serve": _serve,
}
