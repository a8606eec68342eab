"""Sends results to another application entity (C-STORE), and checks whether it answers."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydicom import dcmread
from pydicom.uid import (
    Comprehensive3DSRStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)
from pynetdicom import AE
from pynetdicom.association import Association

from pe_unified.archive.errors import TryLater
from pe_unified.archive.receiver import VERIFICATION
from pe_unified.archive.settings import DicomNode
from pe_unified.archive.web import DUPLICATE

#: The SOP class of each kind of result.
CLASSES = {
    "seg": SegmentationStorage,
    "sr": Comprehensive3DSRStorage,
    "key_images": SecondaryCaptureImageStorage,
}
#: Answers that mean an object is stored: success, with warnings, or already there.
_KEPT = (0x0000, 0xB000, 0xB006, 0xB007, DUPLICATE)
#: Default AE title of this side.
TITLE = "PE_UNIFIED"


@contextmanager
def associated(
    node: DicomNode, classes: Sequence[str], title: str = TITLE
) -> Iterator[Association]:
    """An association that is released when the context ends.

    Raises:
        TryLater: the node does not answer or refuses.
    """
    entity = AE(ae_title=title)
    for each in classes:
        entity.add_requested_context(each, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    entity.connection_timeout = entity.acse_timeout = node.timeout_s
    entity.dimse_timeout = entity.network_timeout = node.timeout_s
    found = entity.associate(node.host, node.port, ae_title=node.ae_title)
    where = f"{node.ae_title} at {node.host}:{node.port}"
    if not found.is_established:
        if found.is_rejected:
            cure = f"let it know {title}, and check its AE title {node.ae_title}"
            raise TryLater(f"{where} rejects the association; {cure}")
        raise TryLater(f"{where} cannot be reached; check host, port and firewall")
    try:
        yield found
    finally:
        if found.is_established:
            found.release()


def echo(node: DicomNode, kinds: Sequence[str], title: str = TITLE) -> list[str]:
    """Kinds of results that a node, which answers C-ECHO, does not accept.

    Raises:
        TryLater: it does not answer.
    """
    classes = [CLASSES[kind] for kind in kinds]
    with associated(node, [VERIFICATION, *classes], title) as association:
        accepted = {each.abstract_syntax for each in association.accepted_contexts}
        if VERIFICATION in accepted:
            answer = association.send_c_echo()
            if "Status" not in answer:
                raise TryLater(f"{node.ae_title} does not answer C-ECHO")
    return [kind for kind in kinds if CLASSES[kind] not in accepted]


def send_results(node: DicomNode, paths: Sequence[Path], title: str = TITLE) -> dict[str, str]:
    """Send results by C-STORE; returns the reasons for those not accepted, by UID.

    Raises:
        TryLater: the node does not answer.
    """
    objects = [dcmread(path) for path in paths]
    failed: dict[str, str] = {}
    with associated(node, sorted({each.SOPClassUID for each in objects}), title) as association:
        accepted = {each.abstract_syntax for each in association.accepted_contexts}
        for each in objects:
            uid = str(each.SOPInstanceUID)
            if each.SOPClassUID not in accepted:
                failed[uid] = f"{node.ae_title} does not take {each.SOPClassUID.name}"
                continue
            if not association.is_established:
                failed[uid] = f"{node.ae_title} ended the association"
                continue
            status = association.send_c_store(each).get("Status")
            if status is None:
                failed[uid] = f"{node.ae_title} does not answer"
            elif status not in _KEPT:
                failed[uid] = f"{node.ae_title} answers with status {status:#06x}"
    return failed
