"""Where the slices of a data set come from: sets, licences, patients and studies."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from typing import Any


def sources_of(coco: dict, images: Sequence[dict]) -> list[dict[str, Any]]:
    """The sets that the slices come from; a merged set names the set of each slice."""
    info = coco.get("info") or {}
    members = info.get("sets") or {}
    found: dict[tuple, list[dict]] = defaultdict(list)
    for image in images:
        own = members.get(image.get("set"), info)
        # In a set that was itself merged, only the slice has this information.
        synthetic = True if image.get("synthetic") else own.get("synthetic")
        name = image.get("set") or own.get("converter")
        known = False if synthetic == "in part" else synthetic
        found[name, own.get("source"), known].append(image)
    return [
        {
            "set": name,
            "source": source,
            "licence": members.get(name, info).get("licence"),
            "patients": len({image["patient_id"] for image in own}),
            "slices": len(own),
            "synthetic": synthetic,
            "studies": sorted({study_digest(image["study_uid"] or "") for image in own}),
        }
        for (name, source, synthetic), own in found.items()
    ]


def study_digest(uid: str) -> str:
    """Digest of a study UID for checkpoints: identifies equal studies without revealing them."""
    return hashlib.blake2b(uid.encode(), digest_size=8).hexdigest()


def training_sources(dataset: Any) -> list[dict[str, Any]]:
    """``sources`` of a data set, including the parts of a concatenated or wrapped one."""
    if hasattr(dataset, "datasets"):
        return [each for part in dataset.datasets for each in training_sources(part)]
    if not hasattr(dataset, "sources") and hasattr(dataset, "dataset"):
        return training_sources(dataset.dataset)
    return list(getattr(dataset, "sources", ()))
