"""Features of a whole set on disk: one array per exam, read when the exam is loaded.

A folder contains ``store.json``, which describes the features, ``encoder.pth``, the network that
computed them, and one file per exam, float16 (steps, width). Its name ends in a key from the
network's weights and the processing of its input, so features from other weights or another input
are stored in another folder. The name of an exam's file depends on its slices, so the features of a
study that was converted again with other pixels are not used.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pe_unified.errors import UserError
from pe_unified.files import appearing
from pe_unified.json_files import write_json

_KEY_LENGTH, _NAME_LENGTH = 16, 8


class FeatureError(UserError, ValueError):
    """A folder of features is unusable; the message says what to do."""


@dataclass(frozen=True)
class FeatureSource:
    """Description of the features of a store.

    Attributes:
        encoder: config of the network that computed them.
        weights: digest of its weights.
        pipeline: transforms of a slice before the network.
        steps: config of the steps of an exam.
        normalisation: config of the data preprocessor.
    """

    encoder: Mapping[str, Any]
    weights: str
    pipeline: list[Mapping[str, Any]]
    steps: Mapping[str, Any]
    normalisation: Mapping[str, Any]

    @property
    def key(self) -> str:
        """A key that changes with anything that affects the features."""
        text = json.dumps(asdict(self), sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:_KEY_LENGTH]


def digest_of_tensors(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 digest of named tensors, such as a module's ``state_dict``."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().float().numpy().tobytes())
    return digest.hexdigest()


def stored_name(study_uid: str, slices: Sequence[Mapping[str, Any]]) -> str:
    """The name of an exam in a store: its study, and a digest of its slices.

    Slices with other pixels have other shares of lung, which are measured from these.

    Args:
        study_uid: its StudyInstanceUID.
        slices: as a set lists them, with ``img_path``, ``z_mm``, ``lung_share``, ``lung_box``.
    """
    told = [
        (Path(each["img_path"]).name, each["z_mm"], each["lung_share"], each["lung_box"])
        for each in slices
    ]
    digest = hashlib.sha256(repr(told).encode()).hexdigest()[:_NAME_LENGTH]
    return f"{study_uid or '_'}-{digest}"


class FeatureStore:
    """Features of one network for the exams of a set.

    Args:
        folder: a folder made by :meth:`create`.

    Raises:
        FeatureError: the folder does not exist or is not a store.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        path = self.folder / "store.json"
        if not path.is_file():
            raise FeatureError(
                f"no features at {self.folder} (no store.json); run the step that extracts them, "
                "or pe-unified extract, and name the folder that it prints"
            )
        try:
            self.source = FeatureSource(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise FeatureError(f"{path}: not a feature store ({error}); extract again") from error

    @classmethod
    def create(cls, parent: Path, source: FeatureSource) -> "FeatureStore":
        """The store of this source in a folder: a new one, or the existing one."""
        folder = parent / f"features-{source.key}"
        write_json(folder / "store.json", asdict(source))
        return cls(folder)

    @property
    def key(self) -> str:
        return self.source.key

    @property
    def encoder(self) -> Path:
        """The checkpoint of the network that computed the features."""
        return self.folder / "encoder.pth"

    def write(self, name: str, features: np.ndarray) -> None:
        """Store the features of an exam, (steps, width), as float16, in an atomic write."""
        with appearing(self._path(name)) as partial, partial.open("wb") as file:
            np.save(file, np.ascontiguousarray(features, dtype=np.float16), allow_pickle=False)

    def read(self, name: str) -> np.ndarray:
        """Features of an exam, float16 (steps, width).

        Args:
            name: from :func:`stored_name`.

        Raises:
            FeatureError: there are none, or the file is damaged.
        """
        path, study_uid = self._path(name), name.rpartition("-")[0] or name
        cure = "run the extraction again; it makes what is missing"
        try:
            # Read at once: a memory-mapped file would be fetched page by page.
            return np.load(path, allow_pickle=False)
        except FileNotFoundError as error:
            raise FeatureError(
                f"{path}: no features of study {study_uid} as it is now; {cure}"
            ) from error
        except (ValueError, OSError, EOFError) as error:
            raise FeatureError(
                f"{path}: the features of study {study_uid} are damaged ({error}); remove the file "
                f"and {cure}"
            ) from error

    def missing(self, names: list[str]) -> list[str]:
        """Those of the given exams that have no features."""
        stored = {entry.name for entry in os.scandir(self.folder)}
        return [name for name in names if self._path(name).name not in stored]

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.npy"
