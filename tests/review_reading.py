"""A reader at the report of one painted study."""

import shutil
from pathlib import Path

import numpy as np
from review_reports import decision as short_decision

from pe_unified.review.export import export_review
from pe_unified.review.store import ReviewStore

READER = "Zoë Ärztin"


class Reading:
    """A copy of the report of one painted study, and a reader at it."""

    def __init__(self, root: Path, source: Path, folder: Path):
        self.root, self.folder = root, folder
        shutil.copytree(source, root / "reports" / folder.name)
        self.store = ReviewStore(root / "reports")
        ((self.study, self.report),) = ReviewStore(root / "reports").reports().items()
        self.lesions = self.report.read()["lesions"]
        self.called = [each["number"] for each in self.lesions if each["called"]]

    def say(self, kind, lesion=None, value=(), reader=READER):
        own = {"study": self.study, "model": self.report.model, "reader": reader}
        return self.store.add(short_decision(kind, lesion, value, **own))

    def draw(self, *boxes) -> dict:
        """A mask of boxes: slice, first and last row and column."""
        mask = np.zeros(self.report.shape, np.uint8)
        for index, top, bottom, left, right in boxes:
            mask[index, top:bottom, left:right] = 1
        return {"mask": self.store.save_mask(self.study, READER, mask, {})}

    def export(self, name="out", **options):
        where = [self.folder.parent]
        return export_review(self.root / "reports", self.root / name, where, **options)
