"""The dataset folder during a conversion.

A patient appears in one step: the slices are written into a temporary folder, the folder is
renamed, then the record of the patient is written. Only the record proves that a patient is
finished, so a killed run resumes with the patients without one.
"""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pe_unified.errors import DataError
from pe_unified.files import write_text

STATE = ".conversion"


class Store:
    """One dataset folder. Only one run may hold it at a time.

    Args:
        root: the dataset folder; created if missing.
        converter: name of the converter; a folder made by another one is refused.
        options: those that change the output; records made with others are not reused.

    Raises:
        DataError: the folder holds something else, or another run is using it.
    """

    def __init__(self, root: Path, converter: str, options: Mapping[str, Any]):
        self.root = root
        self.images = root / "images"
        self.state = root / STATE
        self.records = self.state / "patients"
        self.converter = converter
        self._key = json.dumps([converter, options], sort_keys=True)
        self._check_owner()

    def _check_owner(self) -> None:
        owner = self.state / "converter"
        if owner.is_file():
            made_by = owner.read_text(encoding="utf-8").strip()
            if made_by != self.converter:
                reason = f"holds a data set made by {made_by}"
                raise DataError(self.root, reason, "choose another folder")
        elif self.root.is_dir() and any(self.root.iterdir()):
            # A run killed before the owner was written leaves only the empty state folder.
            leftovers = {item.name for item in self.root.iterdir()} - {STATE}
            if leftovers:
                reason = f"is not empty and was not made by {self.converter}"
                raise DataError(self.root, reason, "choose an empty folder")

    @contextmanager
    def open(self) -> Iterator["Store"]:
        """Lock the folder, and remove what a killed run left unfinished."""
        self.state.mkdir(parents=True, exist_ok=True)
        try:
            held = FileLock(self.state / "lock").acquire(blocking=False)
        except Timeout:
            reason = "another conversion is running in this folder"
            raise DataError(self.root, reason, "wait until it ends, or stop it") from None
        with held:
            # Written first: a folder with any other content must name its owner.
            write_text(self.state / "converter", self.converter + "\n")
            self.records.mkdir(exist_ok=True)
            self.images.mkdir(exist_ok=True)
            self.sweep()
            yield self

    def sweep(self) -> None:
        """Remove temporary files; finished ones are kept."""
        shutil.rmtree(self.state / "unfinished", ignore_errors=True)
        for folder in (self.state, self.records, self.root, self.root / "annotations"):
            for left in folder.glob(".*.part"):
                left.unlink()

    def fingerprint(self, signature: str) -> str:
        return hashlib.sha256(f"{self._key}:{signature}".encode()).hexdigest()[:20]

    def is_finished(self, folder: str, signature: str) -> bool:
        """Whether the patient was converted from the same files with the same options.

        A patient with problems is tried again, since its files may have been fixed.
        """
        record = self.read_record(folder)
        if record is None or record["fingerprint"] != self.fingerprint(signature):
            return False
        if record["patient"]["problems"]:
            return False
        names = {image["file_name"].rsplit("/", 1)[1] for image in record["images"]}
        try:
            return names == set(os.listdir(self.images / folder))
        except OSError:
            return False

    def read_record(self, folder: str) -> dict[str, Any] | None:
        try:
            with open(self.records / f"{folder}.json", encoding="utf-8") as file:
                return json.load(file)
        except (FileNotFoundError, json.JSONDecodeError):
            return None

    def begin(self, folder: str) -> tuple[Path, Path]:
        """New folders for a patient: one for its slices, one for unpacked volumes."""
        # A new name each time: a worker left over from a killed run then writes nowhere else.
        base = self.state / "unfinished" / f"{folder}.{uuid.uuid4().hex[:8]}"
        slices, scratch = base / "slices", base / "scratch"
        slices.mkdir(parents=True)
        scratch.mkdir()
        return slices, scratch

    def commit(self, folder: str, slices: Path, signature: str, record: dict[str, Any]) -> None:
        """Move a converted patient into its place."""
        self.remove(folder)
        keep = {image["file_name"].rsplit("/", 1)[1] for image in record["images"]}
        for name in set(os.listdir(slices)) - keep:
            (slices / name).unlink()
        os.rename(slices, self.images / folder)
        shutil.rmtree(slices.parent, ignore_errors=True)
        whole = {"fingerprint": self.fingerprint(signature), **record}
        write_text(self.records / f"{folder}.json", json.dumps(whole))

    def abandon(self, folder: str, slices: Path | None) -> None:
        """Remove a patient that could not be converted, including earlier conversions."""
        if slices is not None:
            shutil.rmtree(slices.parent, ignore_errors=True)
        self.remove(folder)

    def remove(self, folder: str) -> None:
        """Removes the record first: slices without a record are unfinished, never the reverse."""
        (self.records / f"{folder}.json").unlink(missing_ok=True)
        shutil.rmtree(self.images / folder, ignore_errors=True)

    def keep_only(self, folders: Iterable[str]) -> None:
        """Remove patients that the raw set, or the subset, no longer has."""
        wanted = set(folders)
        for record in list(self.records.glob("*.json")):
            if record.stem not in wanted:
                self.remove(record.stem)
        for path in list(self.images.iterdir()):
            if path.name not in wanted:
                shutil.rmtree(path, ignore_errors=True)
