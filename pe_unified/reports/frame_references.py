"""Turns references to single slices into references to frames of a multi-frame instance.

highdicom only takes slices. A frame is given to it as a slice with a temporary UID, which is
replaced in the result.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import highdicom as hd
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage

from pe_unified.ct.study import CTStudy


@dataclass(frozen=True)
class FrameOf:
    """A frame as others refer to it: class and UID of its instance, and its number, from 1."""

    sop_class: str
    sop_uid: str
    number: int


def stand_in(study: CTStudy, sources: Mapping[int, Dataset]) -> dict[str, FrameOf]:
    """Make each source that is a frame look like a slice; returns the frames by temporary UID."""
    frames = {}
    for index, source in sources.items():
        number = study.frames[index]
        if number is not None:
            frame = FrameOf(str(source.SOPClassUID), str(source.SOPInstanceUID), number)
            source.SOPClassUID, source.SOPInstanceUID = CTImageStorage, hd.UID()
            frames[str(source.SOPInstanceUID)] = frame
    return frames


def refer_to_frames(dataset: Dataset, frames: Mapping[str, FrameOf], listed: bool = False) -> None:
    """Replace references to temporary UIDs by the instance and the frame's number.

    Args:
        dataset: changed in place, with all sequences in it.
        frames: the frame of each temporary UID.
        listed: inside a list of instances, which names each instance once, without frames.
    """
    if not frames:
        return
    for element in dataset:
        if element.VR != "SQ":
            continue
        seen = set()
        for item in list(element.value):
            frame = frames.get(str(item.get("ReferencedSOPInstanceUID", "")))
            if frame is not None:
                item.ReferencedSOPClassUID = frame.sop_class
                item.ReferencedSOPInstanceUID = frame.sop_uid
                if not listed:
                    item.ReferencedFrameNumber = frame.number
                elif frame.sop_uid in seen:
                    element.value.remove(item)
                seen.add(frame.sop_uid)
            inside = listed or element.keyword == "ReferencedSeriesSequence"
            refer_to_frames(item, frames, inside)
