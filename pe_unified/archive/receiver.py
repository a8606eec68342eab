"""Receives images by C-STORE."""

import logging
from collections.abc import Callable
from io import BytesIO
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSTransferSyntaxes,
    LegacyConvertedEnhancedCTImageStorage,
    RLELossless,
)
from pynetdicom import AE, AllStoragePresentationContexts, evt

from pe_unified.archive.errors import port_not_available
from pe_unified.archive.rules import FIELDS, facts_of
from pe_unified.archive.settings import Receive
from pe_unified.archive.spool import Spool
from pe_unified.archive.store import Store
from pe_unified.ct.frames import FRAME_TAGS

#: The classes analysed; others are accepted and dropped, since senders send whole studies.
IMAGES = (CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)
#: Transfer syntaxes that the package reads; a sender chooses one, or converts.
SYNTAXES = [
    *(ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian),
    *(ExplicitVRBigEndian, JPEGLosslessSV1, JPEGLossless, *JPEGLSTransferSyntaxes),
    *(*JPEG2000TransferSyntaxes, RLELossless),
]
#: The SOP class of C-ECHO.
VERIFICATION = "1.2.840.10008.1.1"
#: Answers of C-STORE (PS3.4, Annex B.2.3).
_SUCCESS, _NO_ROOM, _NO_SUCH_CLASS, _CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xA900, 0xC000
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
_READ = [
    *map(Tag, (*_UIDS, "SpecificCharacterSet", "NumberOfFrames", *FIELDS.values())),
    *FRAME_TAGS,
]

_log = logging.getLogger(__name__)


class Receiver:
    """A storage SCP that reports success once an image is on the disk and in the queue.

    Args:
        settings: address, and allowed senders.
        spool, store: where images go.
        least_free_gb: with less free space, images are refused; senders try again later.
        count: called with the outcome of each image: ``kept``, ``dropped`` or ``refused``.

    Raises:
        ArchiveError: the port is not available.
    """

    def __init__(
        self,
        settings: Receive,
        spool: Spool,
        store: Store,
        least_free_gb: float = 0.0,
        count: Callable[[str], Any] = lambda what: None,
    ) -> None:
        self.spool, self.store = spool, store
        self.least_free_gb, self.count = least_free_gb, count
        entity = AE(ae_title=settings.ae_title)
        entity.require_called_aet = True
        entity.require_calling_aet = list(settings.allow)
        for context in AllStoragePresentationContexts:
            entity.add_supported_context(str(context.abstract_syntax), SYNTAXES)
        entity.add_supported_context(VERIFICATION)
        entity.maximum_associations = 32
        place = (settings.host, settings.port)
        handlers: Any = [(evt.EVT_C_STORE, self._take)]
        try:
            self.server: Any = entity.start_server(place, block=False, evt_handlers=handlers)
        except OSError as error:
            where = f"port {settings.port} on {settings.host}"
            raise port_not_available(where, error, "receive") from error

    @property
    def port(self) -> int:
        return self.server.server_address[1]

    def close(self) -> None:
        """Accept no more associations and end the open ones."""
        self.server.shutdown()

    def _take(self, event: Any) -> int:
        """Process one image; returns the status for the sender."""
        try:
            if event.request.AffectedSOPClassUID not in IMAGES:
                self.count("dropped")
                return _SUCCESS
            status = self._keep(event)
        except Exception as error:  # anything a sender may send
            _log.error("image refused", extra={"reason": type(error).__name__})
            status = _CANNOT_UNDERSTAND
        self.count("kept" if status == _SUCCESS else "refused")
        return status

    def _keep(self, event: Any) -> int:
        content = event.encoded_dataset()
        header = dcmread(BytesIO(content), stop_before_pixels=True, specific_tags=_READ)
        study, series, image = (str(header.get(name) or "") for name in _UIDS)
        if not (study and series and image):
            return _NO_SUCH_CLASS
        if self.spool.free_gb() < self.least_free_gb:
            _log.error("no room on the disk")
            return _NO_ROOM
        source = str(event.assoc.requestor.ae_title)
        take_image(self.spool, self.store, header, content, source)
        return _SUCCESS


def take_image(spool: Spool, store: Store, header: Dataset, content: bytes, source: str) -> None:
    """Put an image on the disk and into the queue.

    An image that is already here is kept, unless its study is arriving or failed: a failed study
    may be sent again because it was damaged.
    """
    study, series, image = (str(header.get(name)) for name in _UIDS)
    key = spool.key(study)
    path = spool.image(key, series, image)
    if not path.exists() or store.state_of(study) in ("arriving", "failed"):
        spool.keep(path, content)
    store.add_images(study, key, series, [image], facts_of(header), source, again=True)
