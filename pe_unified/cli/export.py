"""Write a model for ONNX Runtime or OpenVINO, and check that it computes the same.

Exported are backbone, classification, decoder, pyramid and RPN; boxes are read off them in torch.
The exported model is compared with torch in fp32 and not written where it differs. It lies beside
the checkpoint, where pe-unified infer --backend looks for it.

Example:
  pe-unified export model.pth --backend openvino
  pe-unified infer /data/case7 --checkpoint model.pth --backend openvino --out reports/case7
"""

import argparse
from pathlib import Path

from pe_unified.cli.arguments import add_trust
from pe_unified.command import exit_on_user_error
from pe_unified.options import BACKENDS
from pe_unified.progress import phase


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path, help="the trained model")
    parser.add_argument("--backend", choices=BACKENDS[1:], required=True)
    parser.add_argument("--out", type=Path, help="folder; default: beside the checkpoint")
    add_trust(parser)
    return parser


@exit_on_user_error(everything=True)
def main() -> None:
    args = make_parser().parse_args()
    from pe_unified.inference.engines import exported_folder
    from pe_unified.inference.export import TOLERANCE, export_model
    from pe_unified.inference.model import load_network

    with phase("loading the model"):
        model = load_network(args.checkpoint, args.trust_checkpoint, "cpu", "fp32")
    folder = args.out or exported_folder(args.checkpoint, args.backend)
    with phase("exporting, and comparing with torch"):
        differences = export_model(model, args.backend, folder)
    for name, difference in differences.items():
        print(f"{name}: largest difference from torch {difference:.1e} (allowed {TOLERANCE:.0e})")
    rows, cols = model.size
    print(f"written to {folder}, for inputs of {rows} x {cols}")
