"""The data set of volumes, on an isotropic grid over the lungs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dataset import BaseDataset

from pe_unified.datasets.artery_masks import structures_folder
from pe_unified.datasets.slice_dataset import (
    DatasetError,
    Draw,
    read_annotations,
    seeded,
)
from pe_unified.datasets.sources import sources_of
from pe_unified.datasets.volume_records import VolumeRecord, records_of
from pe_unified.datasets.volume_store import VolumeStore
from pe_unified.registry import DATASETS, TRANSFORMS

#: Requirements of a volume, and the reason reported for a volume without it.
NEEDS = {"masks": "its emboli are unknown", "arteries": "there is no mask of its arteries"}


@DATASETS.register_module()
class PEVolumeDataset(BaseDataset):
    """Studies of one converted data set, read from its COCO JSON.

    Studies are left out, with the reason in ``flow``, if they have only one slice, unknown spacing,
    missing slices, several slices at one height, no lungs, or not what ``needs`` requires.

    Args:
        ann_file: the split's JSON, relative to ``data_root``.
        data_root: the folder that a converter wrote.
        pipeline: transforms, from loading to packing.
        step_mm: spacing of the grid.
        structures: folder with artery masks as TotalSegmentator writes them (names
            ``lung_arteries``, ``pulmonary_artery``): one folder or label map per patient or study,
            with its name. For studies without one, arteries are unknown.
        store: folder where resampled volumes are kept, relative to ``data_root``.
        needs: labels that must be known for a study: ``"masks"``, ``"arteries"``.
        every: keep every n-th study, for quick tests.

    An item is the pipeline's output. A transform gets a dict with ``record``, ``store``,
    ``patient_id``, ``group``, ``study_uid``, ``img_path`` and ``rng``.

    Attributes:
        flow: as in :class:`~pe_unified.datasets.PEExamDataset`.

    Raises:
        FileNotFoundError: no annotation file; names the converter command.
        DatasetError: no study is left, or the file breaks the contract.
        DataError: ``structures`` is not a folder.
    """

    METAINFO = dict(classes=("embolus",))

    def __init__(
        self,
        ann_file: str,
        data_root: str,
        pipeline: Sequence[dict] = (),
        step_mm: float = 1.0,
        structures: str | None = None,
        store: str = "volumes",
        needs: Sequence[str] = ("masks",),
        every: int = 1,
        **kwargs: Any,
    ) -> None:
        if set(needs) - set(NEEDS):
            raise ValueError(f"needs={tuple(needs)}: a volume can need {' or '.join(NEEDS)}")
        if step_mm <= 0 or every < 1:
            raise ValueError(f"step_mm > 0 and every >= 1, got {step_mm} and {every}")
        root = Path(data_root)
        if "arteries" in needs and structures is None:
            raise DatasetError("arteries are needed, but no masks are given; set structures=FOLDER")
        self.needs, self.every = tuple(needs), every
        self.volumes = VolumeStore(root / store, step_mm, structures_folder(structures))
        transforms = [TRANSFORMS.build(t) if isinstance(t, dict) else t for t in pipeline]
        super().__init__(ann_file=ann_file, data_root=data_root, pipeline=transforms, **kwargs)

    def load_data_list(self) -> list[dict]:
        path, coco = read_annotations(self.ann_file)
        records, left_out = records_of(coco, Path(self.data_root))
        exams = len(records) + len(left_out)
        notes, kept = [], []
        for record in records:
            known = {
                "masks": record.masks_known,
                "arteries": self.volumes.arteries_of(record) is not None,
            }
            missing = [NEEDS[need] for need in self.needs if not known[need]]
            told = {"study_uid": record.study_uid, "patient_id": record.patient_id}
            if missing:
                left_out.append({**told, "reason": missing[0]})
                continue
            if self.volumes.structures is not None and not known["arteries"]:
                notes.append({**told, "reason": NEEDS["arteries"]})
            kept.append(record)
        for number, record in enumerate(kept):
            if number % self.every:
                told = {"study_uid": record.study_uid, "patient_id": record.patient_id}
                left_out.append({**told, "reason": f"skipped by every={self.every}"})
        kept = kept[:: self.every]
        if not kept:
            reasons = "; ".join(sorted({each["reason"] for each in left_out}))
            raise DatasetError(
                f"{path}: none of its {exams} studies can be used as a volume ({reasons or 'none'})"
            )
        shown = [_shows_embolus(record) for record in kept]
        self.flow = {
            "file": str(path),
            "exams": exams,
            "left_out": left_out,
            "notes": notes,
            "kept": len(kept),
            "positive": shown.count(True),
            "negative": shown.count(False),
            "undecided": shown.count(None),
        }
        used = {each["img_id"] for record in kept for each in record.slices}
        self.sources = sources_of(coco, [each for each in coco["images"] if each["id"] in used])
        return [_item(record) for record in kept]

    def labels(self) -> np.ndarray:
        """float (n,): 1 if a study shows embolism, else 0, NaN where unknown."""
        infos = (self.get_data_info(index) for index in range(len(self)))
        shown = (_shows_embolus(info["record"]) for info in infos)
        return np.array([np.nan if each is None else float(each) for each in shown])

    def patients(self) -> list[str]:
        """The patient of every item, in order."""
        return [self.get_data_info(index)["patient_id"] for index in range(len(self))]

    def knows_arteries(self) -> bool:
        """Whether any study has an artery mask."""
        infos = (self.get_data_info(index) for index in range(len(self)))
        return any(self.volumes.arteries_of(info["record"]) for info in infos)

    def __getitem__(self, draw: "int | Draw") -> dict:
        item, rng = seeded(self, draw)
        return self.pipeline({**item, "rng": rng, "store": self.volumes})


def _shows_embolus(record: VolumeRecord) -> bool | None:
    """Whether any slice of the study shows embolism; None if unknown."""
    if any(each["masks"] for each in record.slices):
        return True
    return False if record.masks_known else None


def _item(record: VolumeRecord) -> dict[str, Any]:
    return {
        "record": record,
        "patient_id": record.patient_id,
        "group": record.slices[0]["group"],
        "study_uid": record.study_uid,
        "img_path": str(record.folder),
    }
