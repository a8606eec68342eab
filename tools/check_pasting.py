#!/usr/bin/env python
"""Where PasteEmboli puts emboli on synthetic slices, according to their truth.

    python tools/check_pasting.py data/imbalance/fumpe data/imbalance/raw/fumpe/truth
    python tools/check_pasting.py data/imbalance/fumpe data/imbalance/raw/fumpe/truth \
      --structures data/imbalance/raw/fumpe/structures

The set is made by `pe-unified phantom --truth --structures`, and converted. Pasting is tried on
every training slice.
"""

import argparse
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from pe_unified.command import exit_on_user_error
from pe_unified.phantom.tissue import STRUCTURES
from pe_unified.progress import track


def count_places(data: Path, truth: Path, structures: Path | None = None) -> dict[str, Any]:
    """How many slices got an embolus, and how many pasted pixels lie in each structure.

    Args:
        data: the converted set.
        truth: folder with one file per patient.
        structures: folder with artery masks, to paste into arteries only.
    """
    from pe_unified.datasets import Draw, PESliceDataset

    steps = [dict(type=name) for name in ("LoadCTSlice", "LoadPELabels", "CropToLungs")]
    slices, pasted = (
        PESliceDataset(
            "annotations/train.json",
            str(data),
            pipeline,
            needs=("masks",),
            structures=structures and str(structures),
        )
        for pipeline in (steps, [*steps, dict(type="PasteEmboli", probability=1.0)])
    )
    names = {0: "other", **{number: name for name, number in STRUCTURES.items()}}
    changed, pixels, patient = 0, Counter[str](), None
    for index in track(range(len(slices)), "pasting"):
        before, after = (each[Draw(index, 0)] for each in (slices, pasted))
        new = (after["instance_map"] > 0) & (before["instance_map"] == 0)
        if not new.any():
            continue
        if patient != before["patient_id"]:
            patient = before["patient_id"]
            painted = np.load(truth / f"{patient}.npz")["structures"]
        x0, y0, x1, y1 = before["crop_box"]
        seen = painted[before["slice_index"], y0:y1, x0:x1]
        changed += 1
        pixels.update(names[number] for number in seen[new].tolist())
    return {"slices": len(slices), "changed": changed, "pixels": dict(pixels)}


@exit_on_user_error()
def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="the converted set")
    parser.add_argument("truth", type=Path, help="folder of the truth")
    parser.add_argument("--structures", type=Path, help="folder of artery masks")
    args = parser.parse_args(argv)
    found = count_places(args.data, args.truth, args.structures)
    share = found["changed"] / found["slices"]
    print(f"{found['changed']} of {found['slices']} slices got an embolus ({share:.0%})")
    total = sum(found["pixels"].values())
    for name, count in Counter(found["pixels"]).most_common():
        print(f"{name}: {count / total:.1%} of {total} pixels")
    return 0


if __name__ == "__main__":
    sys.exit(main())
