"""Export a model to ONNX Runtime or OpenVINO, and check that it computes the same.

Backbone, classification, decoder, pyramid and RPN are exported; boxes are computed from them in
torch. The exported model is compared with torch in fp32 and not written if it differs. It is stored
beside the checkpoint, where pe-unified infer --backend looks for it.

--int8 then converts the OpenVINO model to 8-bit integers, calibrated and measured on slices of the
validation split of --data-root. Slice AUC, Dice and mAP_50, if the model has them, must be within
0.005 of float32. Parts of the network that prevent this stay in float; if no part can be int8,
nothing is written. export.json holds the parts and the metrics.

Example:
  pe-unified export model.pth --backend openvino
  pe-unified export model.pth --backend openvino --int8 --data-root data/pe
  pe-unified infer /data/case7 --checkpoint model.pth --backend openvino --out reports/case7
"""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from pe_unified.cli.arguments import add_trust
from pe_unified.command import exit_on_user_error
from pe_unified.options import BACKENDS, positive
from pe_unified.progress import phase


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path, help="the trained model")
    parser.add_argument("--backend", choices=BACKENDS[1:], required=True)
    parser.add_argument("--out", type=Path, help="folder; default: beside the checkpoint")
    parser.add_argument(
        "--int8", action="store_true", help="8-bit integers, for openvino; needs --data-root"
    )
    parser.add_argument("--data-root", help="folder of the converted data set, for --int8")
    parser.add_argument(
        "--slices",
        type=positive,
        default=500,
        help="approximate number of validation slices for --int8; default: %(default)s",
    )
    add_trust(parser)
    return parser


@exit_on_user_error(everything=True)
def main() -> None:
    parser = make_parser()
    args = parser.parse_args()
    if args.int8 and (args.backend != "openvino" or args.data_root is None):
        parser.error("--int8 needs --backend openvino and --data-root")
    from pe_unified.inference.engines import exported_folder
    from pe_unified.inference.export import TOLERANCE, export_model
    from pe_unified.inference.model import load_network

    with phase("loading the model"):
        model = load_network(args.checkpoint, args.trust_checkpoint, "cpu", "fp32")
    folder = args.out or exported_folder(args.checkpoint, args.backend)
    int8 = None
    if args.int8:
        from pe_unified.checkpoints import load_checkpoint_safely
        from pe_unified.engine.int8 import quantise
        from pe_unified.engine.unseen import require_unseen

        validation = dict(
            type="PESliceDataset", data_root=args.data_root, ann_file="annotations/val.json"
        )
        stored = load_checkpoint_safely(args.checkpoint, args.trust_checkpoint)
        require_unseen({str(args.checkpoint): stored}, validation)
        int8 = partial(quantise, model, validation, args.slices)
    with phase("exporting, and comparing with torch"):
        manifest = export_model(model, args.backend, folder, int8)
    for name, difference in manifest["differences"].items():
        print(f"{name}: largest difference from torch {difference:.1e} (allowed {TOLERANCE:.0e})")
    if args.int8:
        _tell(manifest["int8"])
    rows, cols = model.size
    print(f"written to {folder}, for inputs of {rows} x {cols}")


def _tell(int8: dict[str, Any]) -> None:
    for attempt in int8["attempts"]:
        found = ", ".join(
            f"{key} {value:.4f} (float32 {int8['float32'][key]:.4f})"
            for key, value in attempt["metrics"].items()
        )
        print(f"int8, {', '.join(attempt['float']) or 'nothing'} in float: {found}")
    print(
        f"int8: {', '.join(int8['parts'])}; within {int8['tolerance']} of float32 on "
        f"{int8['slices']} validation slices, {int8['calibration_slices']} of which calibrated it"
    )
