#!/usr/bin/env python
"""Figures of synthetic studies: their emboli compared with real ones, and example slices.

    python tools/phantom_figure.py sizes sizes.png --reference MASKS --anatomy DIR
    python tools/phantom_figure.py slices slices.png --anatomy DIR

``sizes`` compares 2D areas, 3D volumes, emboli per patient and the share of positive slices with
reference masks (MASKS: a folder of NIfTI, one per patient, anything above 0 is embolus); ``slices``
shows a few studies in the mediastinal and the lung window, with emboli outlined. DIR holds label
maps of patients to paint on, in addition to the made-up chests.
"""

import argparse
import io
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import matplotlib
import nibabel
import numpy as np
from PIL import Image
from scipy import ndimage

from pe_unified.command import exit_on_user_error
from pe_unified.ct.windows import window_to_uint8
from pe_unified.paths import require_there
from pe_unified.phantom.labelmap import list_anatomies, read_label_map
from pe_unified.phantom.study import PhantomStudy, paint_study
from pe_unified.progress import track

matplotlib.use("Agg")
from matplotlib import pyplot as plt

_OUTLINE, _LETTERS = (255, 40, 40), (255, 255, 255)
#: Noisy pictures compress badly: shades of grey are reduced until they fit.
_MOST_BYTES, _SHADES = 1_000_000, (64, 48, 32, 24, 16, 12)
#: Default number of studies.
_STUDIES = {"sizes": 35, "slices": 3}


@dataclass(frozen=True)
class EmbolusSizes:
    """Sizes of the emboli of one patient.

    Attributes:
        areas_mm2: of every 8-connected component of every slice.
        volumes_ml: of every 26-connected component.
        positive_share: of the slices.
    """

    areas_mm2: np.ndarray
    volumes_ml: np.ndarray
    positive_share: float


def embolus_sizes(mask: np.ndarray, spacing: Sequence[float]) -> EmbolusSizes:
    """Measure a mask (slices, rows, cols) with spacing in mm."""
    mask = np.asarray(mask) > 0
    areas: list[float] = []
    positive = np.flatnonzero(mask.any((1, 2)))
    for k in positive:
        _, _, stats, _ = cv2.connectedComponentsWithStats(mask[k].astype(np.uint8), connectivity=8)
        areas += (stats[1:, cv2.CC_STAT_AREA] * spacing[1] * spacing[2]).tolist()
    volumes = np.zeros(0)
    if len(positive):
        box = ndimage.find_objects(mask.astype(np.uint8))[0]
        labels, _ = ndimage.label(mask[box], np.ones((3, 3, 3)))
        volumes = np.bincount(labels.ravel())[1:] * np.prod(spacing) / 1000
    return EmbolusSizes(np.array(areas), volumes, len(positive) / len(mask))


def reference_sizes(folder: Path) -> list[EmbolusSizes]:
    """Sizes in a folder of NIfTI masks.

    Raises:
        FileNotFoundError: there are none.
    """
    paths = sorted(folder.glob("*.nii*"))
    if not paths:
        raise FileNotFoundError(f"no NIfTI masks in {folder}; check --reference")
    sizes = []
    for path in paths:
        image = nibabel.Nifti1Image.from_filename(path)
        data = np.asarray(image.dataobj).transpose(2, 1, 0)
        sizes.append(embolus_sizes(data, image.header.get_zooms()[2::-1]))
    return sizes


def paint(
    seeds: Sequence[int], shape: tuple[int, int, int], anatomy: Path | None, positive: bool | None
) -> Iterable[PhantomStudy]:
    """Studies of consecutive seeds, on made-up chests or in turn on those of a folder."""
    found = list(list_anatomies(anatomy).items()) if anatomy is not None else []
    for index, seed in enumerate(track(seeds, "painting")):
        source = None
        if found:
            name, path = found[index % len(found)]
            source = read_label_map(path, name)
        yield paint_study(seed, shape, anatomy=source, positive=positive)


def _told(values: np.ndarray, unit: str) -> str:
    low, middle, high = np.percentile(values, [25, 50, 75]) if len(values) else (np.nan,) * 3
    return f"{middle:.3g} [{low:.3g}, {high:.3g}]{unit}"


def draw_sizes(groups: dict[str, list[EmbolusSizes]], out: Path) -> None:
    """Cumulative distributions side by side, one curve per group; medians in the legends."""
    panels = (
        ("area of a component in a slice", " mm²", True, lambda g: [s.areas_mm2 for s in g]),
        ("volume of an embolus", " ml", True, lambda g: [s.volumes_ml for s in g]),
        ("emboli in a patient", "", False, lambda g: [[len(s.volumes_ml)] for s in g]),
        ("share of positive slices", "", False, lambda g: [[s.positive_share] for s in g]),
    )
    figure, axes = plt.subplots(1, len(panels), figsize=(4.2 * len(panels), 4.6), dpi=110)
    for axis, (title, unit, logarithmic, values_of) in zip(axes, panels):
        for (name, group), style in zip(groups.items(), ("-", "-", "--")):
            values = np.sort(np.concatenate(values_of(group)).astype(float))
            share = np.arange(1, len(values) + 1) / max(len(values), 1)
            label = f"{name}: {_told(values, unit)}"
            axis.step(values, share, style, where="post", label=label)
        if logarithmic:
            axis.set_xscale("log")
        axis.set(
            title=title, xlabel=unit.strip() or "count", ylabel="share at most this", ylim=(0, 1)
        )
        axis.legend(
            fontsize=7,
            loc="upper center",
            bbox_to_anchor=(0.5, -0.16),
            title="median [quartiles]",
            title_fontsize=7,
        )
        axis.grid(alpha=0.3)
    axes[3].set_xlabel("share")
    figure.tight_layout()
    figure.savefig(out)
    plt.close(figure)


def _outlined(study: PhantomStudy, k: int, window: str) -> np.ndarray:
    picture = cv2.cvtColor(window_to_uint8(study.hu[k], window), cv2.COLOR_GRAY2RGB)
    # Outlines run around the emboli, so that they do not cover small ones.
    mask = cv2.dilate((study.emboli[k] > 0).astype(np.uint8), np.ones((3, 3)))
    lines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, lines, -1, _OUTLINE, 1)
    return picture


def draw_slices(studies: Iterable[PhantomStudy], out: Path, levels: int = 5) -> None:
    """A row per study: the slice with most embolus, others upwards, one in the lung window."""
    rows = []
    for study in studies:
        count = len(study.hu)
        most = int(np.argmax((study.emboli > 0).sum((1, 2))))
        if not study.emboli.any():
            most = count // 2
        picked = [most, *np.linspace(0.12, 0.9, levels).round(3) * (count - 1)]
        pictures = [_outlined(study, int(k), "mediastinal") for k in picked]
        pictures.append(_outlined(study, most, "lung"))
        label = f"{study.anatomy.name} {'PE' if study.findings else 'no PE'}"
        cv2.putText(pictures[0], label, (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.42, _LETTERS, 1)
        rows.append(np.hstack(pictures))
    _write_page(np.vstack(rows), out)


def _write_page(page: np.ndarray, out: Path) -> None:
    """Write a grey picture (rows, cols, RGB) with outlines as a PNG of at most a megabyte.

    The palette keeps the outlines' colour, whatever the number of shades of grey.
    """
    if out.suffix.lower() != ".png":
        raise ValueError(f"{out}: slices are written as PNG; give a name that ends in .png")
    outline = (page == _OUTLINE).all(-1)
    for shades in _SHADES:
        indices = np.round(page[:, :, 0] * ((shades - 1) / 255)).astype(np.uint8)
        indices[outline] = shades
        grays = np.linspace(0, 255, shades).round().astype(int).repeat(3)
        picture = Image.fromarray(indices)
        picture.putpalette([*grays.tolist(), *_OUTLINE])
        buffer = io.BytesIO()
        picture.save(buffer, "PNG", optimize=True)
        if buffer.tell() < _MOST_BYTES:
            out.write_bytes(buffer.getvalue())
            return
    raise ValueError(f"{out} would exceed a megabyte; take a smaller --size or fewer --studies")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=sorted(_STUDIES))
    parser.add_argument("out", type=Path, metavar="OUT.png")
    parser.add_argument("--studies", type=int, help="default: 35 for sizes, 3 for slices")
    parser.add_argument("--seed", type=int, default=0, help="of the first study; default: 0")
    parser.add_argument("--size", type=int, default=256, help="rows and columns; default: 256")
    parser.add_argument("--slices", type=int, default=150, help="per study; default: 150")
    parser.add_argument("--anatomy", type=Path, metavar="DIR", help="also on these patients")
    parser.add_argument("--reference", type=Path, metavar="MASKS", help="masks to compare with")
    return parser


@exit_on_user_error(status=2, also=(ValueError,))
def main(argv: list[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    shape = (args.slices, args.size, args.size)
    seeds = range(args.seed, args.seed + (args.studies or _STUDIES[args.what]))
    sources = {"made-up chests": None} | ({"real chests": args.anatomy} if args.anatomy else {})
    require_there(*filter(None, (args.anatomy, args.reference)))  # before the painting
    if args.what == "slices":
        pages = [s for place in sources.values() for s in paint(seeds, shape, place, None)]
        draw_slices(pages, args.out)
    else:
        groups = {} if args.reference is None else {"reference": reference_sizes(args.reference)}
        for name, place in sources.items():
            painted = paint(seeds, shape, place, None)
            groups[name] = [embolus_sizes(s.emboli, s.spacing) for s in painted]
        draw_sizes(groups, args.out)
    print(args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
