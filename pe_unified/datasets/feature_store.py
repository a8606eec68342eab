"""Features of a whole set on disk: one array per exam, read when its exam is.

A folder holds ``store.json``, which says what the features are, ``encoder.pth``, the network that
made them, and ``<study>.npy`` per exam, float16 (steps, width). Its name ends in a key made of the
network's weights and of what its input goes through, so that features of other weights, or of
another input, lie in another folder.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pe_unified.errors import UserError
from pe_unified.files import appearing, write_text

_KEY_LENGTH = 16


class FeatureError(UserError, ValueError):
    """A folder of features that cannot be used; the message says what to do."""


@dataclass(frozen=True)
class FeatureSource:
    """What the features of a store are.

    Attributes:
        encoder: config of the network that made them.
        weights: digest of its weights.
        pipeline: what a slice goes through before it.
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
        """Changes with anything that changes a feature."""
        text = json.dumps(asdict(self), sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:_KEY_LENGTH]


def digest_of_tensors(tensors: Mapping[str, torch.Tensor]) -> str:
    """Of tensors by their names, as a module's ``state_dict`` gives them."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().float().numpy().tobytes())
    return digest.hexdigest()


class FeatureStore:
    """Features of one network for the exams of a set.

    Args:
        folder: that :meth:`create` made.

    Raises:
        FeatureError: the folder is not there, or not a store.
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
        """The store of this source below a folder: a new one, or the one that is there."""
        folder = parent / f"features-{source.key}"
        write_text(folder / "store.json", json.dumps(asdict(source), indent=2) + "\n")
        return cls(folder)

    @property
    def key(self) -> str:
        return self.source.key

    @property
    def encoder(self) -> Path:
        """The checkpoint of the network that made the features."""
        return self.folder / "encoder.pth"

    def __contains__(self, study_uid: str) -> bool:
        return self._path(study_uid).is_file()

    def write(self, study_uid: str, features: np.ndarray) -> None:
        """Store the features of an exam, (steps, width), as float16; whole or not at all."""
        with appearing(self._path(study_uid)) as partial, partial.open("wb") as file:
            np.save(file, np.ascontiguousarray(features, dtype=np.float16), allow_pickle=False)

    def read(self, study_uid: str, steps: int) -> np.ndarray:
        """Features of an exam, float16 (steps, width).

        Raises:
            FeatureError: there are none, the file is damaged, or the exam has other steps now.
        """
        path = self._path(study_uid)
        cure = "run the extraction again; it makes what is missing"
        try:
            # Read at once: of a mapped file the system fetches page after page.
            features = np.load(path, allow_pickle=False)
        except FileNotFoundError as error:
            raise FeatureError(f"{path}: no features of study {study_uid}; {cure}") from error
        except (ValueError, OSError, EOFError) as error:
            raise FeatureError(
                f"{path}: the features of study {study_uid} are damaged ({error}); remove the file "
                f"and {cure}"
            ) from error
        if len(features) != steps:
            raise FeatureError(
                f"{path}: features of {len(features)} steps, but study {study_uid} has {steps} "
                f"now, as the data set was converted anew; remove {self.folder} and {cure}"
            )
        return features

    def missing(self, study_uids: list[str]) -> list[str]:
        """Of these studies, those without features."""
        stored = {entry.name for entry in os.scandir(self.folder)}
        return [study for study in study_uids if self._path(study).name not in stored]

    def _path(self, study_uid: str) -> Path:
        return self.folder / f"{study_uid or '_'}.npy"
