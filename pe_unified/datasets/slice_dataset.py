"""The data set of CT slices."""

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, get_args, runtime_checkable

import numpy as np
import torch
from mmengine.dataset import BaseDataset
from pycocotools import mask as coco_mask

from pe_unified.ct.converted_study import converted_study
from pe_unified.ct.exam_labels import EXAM_LABELS
from pe_unified.ct.hu import HU_OFFSET
from pe_unified.datasets.artery_masks import ArteryMasks, artery_masks, structures_folder
from pe_unified.datasets.sources import sources_of
from pe_unified.errors import UserError
from pe_unified.registry import DATASETS, TRANSFORMS

#: Kinds of labels that may be known for a slice.
LABEL_KINDS = ("slice", "boxes", "masks")
#: The finding that slices are labelled for.
Finding = Literal["pe", "lung"]
#: Names for messages and reports.
FINDINGS: Mapping[Finding, str] = {"pe": "embolism", "lung": "lung"}


class DatasetError(UserError, ValueError):
    """A data set is invalid, or has none of the required items."""


class Draw(NamedTuple):
    """One draw of a sampler: the index of a slice and the seed of its augmentation.

    Because the augmentation depends only on the draw, batches do not depend on the number of
    workers, and an interrupted run can resume exactly.
    """

    index: int
    seed: int


@runtime_checkable
class MixesSlices(Protocol):
    """A transform that combines a slice with others of the set, like mmdet's mosaic.

    The others are in ``mix_results``, processed by the transforms before this one.
    """

    def draw_others(self, results: dict, with_emboli: np.ndarray) -> list[Draw]:
        """Draw other slices with the generator of ``results``; none leaves the slice unchanged.

        Args:
            results: the slice, after the transforms before this one.
            with_emboli: indices of the set's slices with embolus masks.
        """
        ...

    def __call__(self, results: dict) -> dict: ...


@DATASETS.register_module()
class PESliceDataset(BaseDataset):
    """Slices of one converted data set, read from its COCO JSON.

    Args:
        ann_file: the split's JSON, relative to ``data_root``.
        data_root: the folder that a converter wrote.
        pipeline: transforms, from loading to packing.
        needs: label kinds that must be known for a slice to be used: ``"slice"``, ``"boxes"``,
            ``"masks"``. Segmentation on a set that also has slices without masks needs
            ``("masks",)``.
        neighbours: slices on each side that the loader stacks with this one (2.5D).
        every: keep every n-th slice of each study, for quick tests.
        label: the finding: ``"pe"``, embolism; ``"lung"``, whether the slice shows lung, from its
            ``lung_share``. With ``"lung"``, masks and boxes of emboli are unknown in training;
            ``emboli`` has the masks, to measure what a crop to the lungs keeps.
        lung_from: smallest share of lung for a slice to count as lung, relative to the largest
            share in its series.
        structures: folder with masks of the pulmonary arteries, one folder or label map per patient
            or study, for :class:`PasteEmboli`.
        store: folder that keeps these masks in a form that loads fast, relative to ``data_root``.

    Each item is the pipeline's output. A transform gets a dict with ``img_path``, the meta
    information of :class:`~pe_unified.datasets.PEDataSample`, ``label`` (0, 1 or None), ``boxes``
    (float32 (n, 4) x1 y1 x2 y2, or None where unknown), ``masks`` (list of compressed RLE, or
    None), ``lung_box``, ``slice_paths`` (its own path and its neighbours'), ``exam_labels`` (labels
    of its exam by the names of EXAM_LABELS), ``rng``, a NumPy generator seeded by the draw, and
    ``arteries``, a function that reads the artery mask of the stored slice, bool (rows, cols), or
    None without masks.

    ``sources`` lists the origin of the slices: dicts of ``set``, ``source``, ``licence``,
    ``patients``, ``slices``, ``synthetic`` (None if not stated by the set) and ``studies``
    (:func:`~pe_unified.datasets.sources.study_digest` of each).

    Raises:
        FileNotFoundError: no annotation file; names the converter command.
        DatasetError: no slice is left, the file breaks the contract, or no patient to train on has
            masks in ``structures``.
        DataError: ``structures`` is not a folder.
    """

    METAINFO = dict(classes=("embolus",), palette=[(220, 50, 47)])

    def __init__(
        self,
        ann_file: str,
        data_root: str,
        pipeline: Sequence[dict] = (),
        needs: Sequence[str] = (),
        neighbours: int = 0,
        every: int = 1,
        label: Finding = "pe",
        lung_from: float = 0.5,
        structures: str | None = None,
        store: str = "volumes",
        **kwargs: Any,
    ) -> None:
        unknown = set(needs) - set(LABEL_KINDS)
        if unknown:
            raise ValueError(f"needs={sorted(unknown)}: label kinds are {LABEL_KINDS}")
        if neighbours < 0 or every < 1:
            raise ValueError(f"neighbours >= 0 and every >= 1, got {neighbours} and {every}")
        if label not in get_args(Finding) or not 0 < lung_from <= 1:
            raise ValueError(
                f"label is one of {get_args(Finding)}, lung_from above 0 and at most 1; got "
                f"{label!r} and {lung_from}"
            )
        self.label: Finding = label
        self.lung_from = lung_from
        self.needs = tuple(needs)
        self.neighbours = neighbours
        self.every = every
        self.structures = structures_folder(structures)
        self._artery_store = Path(data_root) / store
        transforms = [TRANSFORMS.build(t) if isinstance(t, dict) else t for t in pipeline]
        super().__init__(ann_file=ann_file, data_root=data_root, pipeline=transforms, **kwargs)

    def load_data_list(self) -> list[dict]:
        path, coco = read_annotations(self.ann_file)
        annotations = defaultdict(list)
        for annotation in coco["annotations"]:
            annotations[annotation["image_id"]].append(annotation)
        root = Path(self.data_root)
        slices = [
            parse_slice(image, annotations[image["id"]], root)
            for image in sorted(coco["images"], key=_reading_order)
        ]
        self._paths = self._index_series(slices)
        self._arteries = self._arteries_by_series(slices) if self.structures else {}
        if self.label == "lung":
            _label_by_lung(slices, self.lung_from)
        self._exams = {
            entry["study_uid"]: {name: entry.get(name) for name in EXAM_LABELS}
            for entry in coco.get("exams") or ()
        }
        kept = [
            item
            for item in slices
            if set(self.needs) <= set(item["labels_known"])
            and item["series_position"] % self.every == 0
        ]
        if not kept:
            kinds = " and ".join(self.needs)
            raise DatasetError(
                f"{path}: none of its {len(slices)} slices has a known label"
                + (f" of the kind {kinds}" if kinds else "")
                + "; take a config that needs other labels, or merge a set that has them into this "
                "one (pe-unified merge)"
            )
        used = {item["img_id"] for item in kept}
        self.sources = sources_of(coco, [each for each in coco["images"] if each["id"] in used])
        return kept

    @staticmethod
    def _index_series(slices: list[dict]) -> dict[tuple, dict[int, str]]:
        """Paths of every series by slice index; also sets each slice's ``series_position``."""
        series: dict[tuple, dict[int, str]] = defaultdict(dict)
        for item in slices:
            paths = series[_series_of(item)]
            item["series_position"] = len(paths)
            paths[item["slice_index"]] = item["img_path"]
        return dict(series)

    def _arteries_by_series(self, slices: list[dict]) -> dict[tuple, ArteryMasks]:
        found = {
            _series_of(own[0]): artery_masks(self.structures, converted_study(own))
            for own in in_series(slices)
        }
        if not any(found.values()) and not self.test_mode:
            raise DatasetError(
                f"{self.structures}: no masks of any patient in {self.ann_file}; name a folder or "
                "label map after each patient or study, or leave structures out"
            )
        return {series: masks for series, masks in found.items() if masks is not None}

    def labels(self) -> np.ndarray:
        """float (n,): label 1 or 0, NaN where unknown; in the order of the items."""
        values = [self.get_data_info(i)["label"] for i in range(len(self))]
        return np.array([np.nan if value is None else value for value in values])

    def target_ratios(self) -> np.ndarray:
        """float (n,): share of embolus pixels in the slice, NaN where masks are unknown."""
        return np.array([_target_ratio(self.get_data_info(i)) for i in range(len(self))])

    def patients(self) -> list[str]:
        """The patient of every item, in order."""
        return [self.get_data_info(i)["patient_id"] for i in range(len(self))]

    def neighbour_paths(self, item: dict) -> list[str]:
        """``2 * neighbours + 1`` paths in slice order, this slice in the middle.

        If a neighbour is not in the set (at the ends, in a subset), the next one towards this slice
        replaces it.
        """
        paths, index = self._paths[_series_of(item)], item["slice_index"]
        below, above = [item["img_path"]], [item["img_path"]]
        for distance in range(1, self.neighbours + 1):
            below.append(paths.get(index - distance, below[-1]))
            above.append(paths.get(index + distance, above[-1]))
        return [*reversed(below[1:]), *above]

    def __getitem__(self, draw: "int | Draw") -> dict:
        return self._processed(draw, self.pipeline.transforms)

    def _processed(self, draw: "int | Draw", transforms: Sequence[Callable]) -> dict:
        """A slice after the given transforms."""
        item, rng = seeded(self, draw)
        item["rng"] = rng
        item["slice_paths"] = self.neighbour_paths(item)
        item["exam_labels"] = self._exams.get(item["study_uid"])
        masks, position = self._arteries.get(_series_of(item)), item["series_position"]
        item["arteries"] = masks and partial(masks.of_slice, position, self._artery_store)
        for number, transform in enumerate(transforms):
            if isinstance(transform, MixesSlices):
                others = transform.draw_others(item, self.with_emboli)
                item["mix_results"] = [
                    self._processed(other, transforms[:number]) for other in others
                ]
            item = transform(item)
        return item

    @cached_property
    def with_emboli(self) -> np.ndarray:
        """Indices of the slices with embolus masks."""
        return np.flatnonzero(self.target_ratios() > 0)


def annotations_at(path: str | Path) -> Path:
    """The file that lists a split's slices.

    Raises:
        FileNotFoundError: the file does not exist; names the converter command.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"no annotations at {path}; convert a data set first "
            "(pe-unified convert), or name the folder of one (--data-root)"
        )
    return Path(path)


def read_annotations(ann_file: str | Path) -> tuple[Path, dict[str, Any]]:
    """The path and the JSON content of a split.

    Raises:
        FileNotFoundError: no such file; names the converter command.
        DatasetError: not JSON, or not from this version's converters.
    """
    path = annotations_at(ann_file)
    try:
        coco = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DatasetError(f"{path}: not valid JSON ({error}); convert the set again") from error
    if not _is_converted(coco):
        raise DatasetError(
            f"{path}: plain COCO, without what the converters add (labels_known, patients); "
            "convert the set (pe-unified convert)"
        )
    offset = coco.get("info", {}).get("hu_offset", HU_OFFSET)
    if offset != HU_OFFSET:
        raise DatasetError(f"{path}: hu_offset is {offset}, this version reads {HU_OFFSET}")
    return path, coco


def parse_slice(image: Mapping[str, Any], annotations: Sequence[dict], root: Path) -> dict:
    """The record of a slice, from its entry in the JSON and its annotations."""
    known = set(image["labels_known"])
    boxes = np.array([a["bbox"] for a in annotations], dtype=np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return dict(
        img_id=image["id"],
        img_path=str(root / image["file_name"]),
        patient_id=image["patient_id"],
        group=image.get("group"),
        study_uid=image["study_uid"],
        series_uid=image["series_uid"],
        sop_uid=image["sop_uid"],
        slice_index=image["slice_index"],
        z_mm=image["z_mm"],
        spacing_mm=image["spacing_mm"],
        position_mm=image.get("position_mm"),
        orientation=image.get("orientation"),
        height=image["height"],
        width=image["width"],
        lung_box=image.get("lung_box"),
        lung_share=image.get("lung_share"),
        labels_known=sorted(known),
        label=image["pe_present"] if "slice" in known else None,
        boxes=boxes if "boxes" in known else None,
        masks=[a["segmentation"] for a in annotations] if "masks" in known else None,
    )


def _target_ratio(item: dict) -> float:
    if item["masks"] is None:
        return float("nan")
    areas = coco_mask.area(item["masks"]) if item["masks"] else [0]
    return float(np.sum(areas)) / (item["height"] * item["width"])


def _label_by_lung(slices: Sequence[dict], least: float) -> None:
    """Label slices by whether they reach ``least`` of the largest share of lung in their series.

    If shares are unknown, as in a study without detected lungs, the label is unknown.
    """
    largest: dict[tuple, float] = defaultdict(float)
    for item in slices:
        series = _series_of(item)
        largest[series] = max(largest[series], item["lung_share"] or 0.0)
    for item in slices:
        share = item["lung_share"]
        known = share is not None
        shown = int(0 < share >= least * largest[_series_of(item)]) if known else None
        labels = ["slice"] if known else []
        item.update(label=shown, labels_known=labels, boxes=None, masks=None, emboli=item["masks"])


def in_series(slices: Sequence[dict]) -> list[list[dict]]:
    """Slices by series, each from feet to head."""
    series: dict[tuple, list[dict]] = defaultdict(list)
    for item in sorted(slices, key=_reading_order):
        series[_series_of(item)].append(item)
    return list(series.values())


def seeded(dataset: BaseDataset, draw: "int | Draw") -> tuple[dict, np.random.Generator]:
    """The item of a draw and the random generator of its augmentation."""
    if isinstance(draw, tuple):
        index, seed = draw
    else:  # from a sampler of another library, without a seed
        index, seed = int(draw), 0 if dataset.test_mode else int(torch.randint(2**31, ()))
    return dataset.get_data_info(index), np.random.default_rng((seed, index))


def _is_converted(coco: Any) -> bool:
    """Whether the file has COCO's parts and its slices the field that plain COCO lacks."""
    if not isinstance(coco, dict) or not {"images", "annotations"} <= coco.keys():
        return False
    return all("labels_known" in image for image in coco["images"])


def _series_of(item: dict) -> tuple:
    """Key of a slice's series. Sets without UIDs leave them empty; then the patient is the key."""
    return item["patient_id"], item["study_uid"], item["series_uid"]


def _reading_order(image: dict) -> tuple:
    study, series = image["study_uid"] or "", image["series_uid"] or ""
    return image["patient_id"], study, series, image["slice_index"]
