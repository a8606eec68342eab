"""Mark emboli in the studies of a converted set with a volume model.

Writes into DIR: marks.csv, a line id,x,y,z,prob for every mark (LPS millimetres; id is the patient,
or the study if a patient has several), and challenge_marks.txt, a line "scan x y z confidence"
in the format of the CAD-PE challenge (pixels); with --maps also ID.nii.gz, the probability of
embolus in every voxel.

Examples:
  pe-unified marks model.pth --data-root data/cadpe --out marks
  pe-unified marks model.pth --data-root data/cadpe --split val --maps --out marks
"""

import argparse
from collections import Counter
from pathlib import Path

from pe_unified.cli.arguments import add_device, add_trust
from pe_unified.command import exit_on_user_error


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path, help="checkpoint of a volume model")
    parser.add_argument("--data-root", type=Path, required=True, help="the converted data set")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="output folder")
    parser.add_argument("--split", choices=["train", "val", "test"], default="test")
    parser.add_argument("--maps", action="store_true", help="also write probability maps")
    add_device(parser)
    add_trust(parser)
    return parser


@exit_on_user_error()
def main() -> None:
    args = make_parser().parse_args()
    from pe_unified.ct.lung_crop import lung_grid
    from pe_unified.datasets.slice_dataset import DatasetError, read_annotations
    from pe_unified.datasets.volume_records import records_of
    from pe_unified.files import appearing
    from pe_unified.inference.volumes import load_volume_model, predict_study
    from pe_unified.paths import require_apart
    from pe_unified.progress import track
    from pe_unified.reports.marks import write_challenge_marks, write_marks
    from pe_unified.reports.mask_file import write_map

    require_apart(args.out, args.data_root)
    path, coco = read_annotations(args.data_root / "annotations" / f"{args.split}.json")
    records, left_out = records_of(coco, args.data_root)
    for each in left_out:
        print(f"patient {each['patient_id']} is left out: {each['reason']}")
    if not records:
        raise DatasetError(f"{path}: none of its studies is a volume with lungs")
    model = load_volume_model(args.checkpoint, args.trust_checkpoint, args.device, args.precision)
    several = Counter(record.patient_id for record in records)
    several.update(each["patient_id"] for each in left_out)
    found = []
    for record in track(records, "marking studies"):
        name = record.patient_id if several[record.patient_id] == 1 else record.study_uid
        study = record.study()
        shares = [each["lung_share"] or 0.0 for each in record.slices]
        grid = lung_grid(study, record.slices[0]["lung_box"], shares, model.step_mm)
        prediction = predict_study(model, study, grid)
        if args.maps:
            with appearing(args.out / f"{record.folder.name}.nii.gz") as partial:
                write_map(partial, study, prediction.maps["lesion"].slice)
        prediction.maps.clear()
        found.append((name, record, prediction))
    unplaced = [name for name, record, _ in found if not record.placed]
    if unplaced:
        named = ", ".join(unplaced[:5])
        print(
            f"no LPS marks for {len(unplaced)} studies ({named}): the set does not say where their "
            "slices lie; convert it again with this version"
        )
    placed = [(name, each) for name, record, each in found if record.placed]
    write_marks(args.out / "marks.csv", placed)
    numbers = [
        (name, [each["file_index"] for each in record.slices], prediction)
        for name, record, prediction in found
    ]
    write_challenge_marks(args.out / "challenge_marks.txt", numbers)
    count = sum(len(prediction.scores) for _, _, prediction in found)
    print(f"{count} marks on {len(found)} studies in {args.out}")
