"""References to the frames of a multi-frame instance, out of references to single slices.

highdicom is given slices; a frame goes to it as a slice with a UID of its own, which is replaced
in what highdicom makes.
"""

from collections.abc import Mapping

import highdicom as hd
from pydicom.dataset import Dataset

from pe_unified.ct.study import CTStudy


def stand_in(study: CTStudy, sources: Mapping[int, Dataset]) -> dict[str, tuple[str, int]]:
    """Give every source that is a frame a UID of its own, as if it were a slice; by that UID, what
    it stands for: the instance, and the number of the frame."""
    frames = {}
    for index, source in sources.items():
        number = study.frames[index]
        if number is not None:
            real, source.SOPInstanceUID = str(source.SOPInstanceUID), hd.UID()
            frames[str(source.SOPInstanceUID)] = real, number
    return frames


def refer_to_frames(
    dataset: Dataset, frames: Mapping[str, tuple[str, int]], listed: bool = False
) -> None:
    """Put the instance and the frame's number where a stand-in is referred to.

    Args:
        dataset: changed in place, with all sequences in it.
        frames: what each stand-in stands for.
        listed: within a list of instances, which names each once and no frames.
    """
    if not frames:
        return
    for element in dataset:
        if element.VR != "SQ":
            continue
        seen = set()
        for item in list(element.value):
            uid = str(item.get("ReferencedSOPInstanceUID", ""))
            if uid in frames:
                item.ReferencedSOPInstanceUID, number = frames[uid]
                if not listed:
                    item.ReferencedFrameNumber = number
                elif item.ReferencedSOPInstanceUID in seen:
                    element.value.remove(item)
                seen.add(item.ReferencedSOPInstanceUID)
            inside = listed or element.keyword == "ReferencedSeriesSequence"
            refer_to_frames(item, frames, inside)
