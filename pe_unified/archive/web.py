"""DICOMweb: finds studies (QIDO), fetches them (WADO), stores results (STOW)."""

import datetime
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import requests
from dicomweb_client import DICOMwebClient
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage

from pe_unified.archive.database import Row
from pe_unified.archive.errors import NotThere, TryLater, in_words
from pe_unified.archive.receiver import IMAGES, take_image
from pe_unified.archive.rules import facts_of
from pe_unified.archive.settings import Poll, WebService
from pe_unified.archive.spool import Spool
from pe_unified.archive.store import Store

#: Failure reason that means the instance is already stored (PS3.7, Annex C).
DUPLICATE = 0x0111
#: Number of studies requested at once.
_PAGE = 200

_log = logging.getLogger(__name__)


def client_of(web: WebService) -> DICOMwebClient:
    """A client without retries: the queue does the waiting."""
    session = requests.Session()
    if web.user is not None and web.password_env is not None:
        session.auth = (web.user, os.environ[web.password_env])
    if web.token_env is not None:
        session.headers["Authorization"] = f"Bearer {os.environ[web.token_env]}"
    if web.ca_file is not None:
        session.verify = web.ca_file
    client = DICOMwebClient(web.url, session, timeout=web.timeout_s, permissive_uid=True)
    client.set_http_retry_params(retry=False)
    return client


@contextmanager
def reaching(web: WebService) -> Iterator[None]:
    """Turn errors of requests into :class:`TryLater`, which quotes no UID."""
    try:
        yield
    except requests.HTTPError as error:
        status = "?" if error.response is None else error.response.status_code
        cure = "check user and password" if status in (401, 403) else "see its log"
        fault = NotThere if status == 404 else TryLater
        raise fault(f"{web.url} answers with status {status}; {cure}") from error
    except requests.Timeout as error:
        raise TryLater(f"{web.url} does not answer in {web.timeout_s:g} s") from error
    except requests.RequestException as error:
        kind = type(error).__name__
        raise TryLater(f"{web.url} cannot be reached ({kind}); check url and network") from error


class Poller:
    """Looks for new studies in one archive and stores their UIDs; pixels are fetched later.

    Args:
        poll: the archive, and how far back to look.
        spool: gives the pseudonyms.
        store: the queue.
    """

    def __init__(self, poll: Poll, spool: Spool, store: Store) -> None:
        self.poll, self.spool, self.store = poll, spool, store
        #: Number of instances of each study at the last poll.
        self._seen: dict[str, str] = {}

    def look(self) -> int:
        """Poll once; returns how many studies have new images.

        Raises:
            TryLater: the archive does not answer.
        """
        client, new = client_of(self.poll.web), 0
        with reaching(self.poll.web):
            for study in self._studies(client):
                uid = study.get("StudyInstanceUID")
                count = str(study.get("NumberOfStudyRelatedInstances") or "")
                # Some archives give no counts; then the study is examined each time.
                if not uid or (count and self._seen.get(uid) == count):
                    continue
                try:
                    new += self._note(client, str(uid))
                except (requests.HTTPError, AttributeError, KeyError, ValueError) as error:
                    # Deleted in the meantime, or invalid: it must not hide the others.
                    extra = {"study": self.spool.key(uid), "reason": in_words(error)}
                    _log.warning("study cannot be examined", extra=extra)
                    continue
                self._seen[uid] = count
        return new

    def _studies(self, client: DICOMwebClient) -> Iterator[Dataset]:
        today = datetime.date.today()
        first = today - datetime.timedelta(days=self.poll.days)
        # A clock ahead of ours may give tomorrow as study date.
        last = today + datetime.timedelta(days=1)
        filters = {"StudyDate": f"{first:%Y%m%d}-{last:%Y%m%d}", "ModalitiesInStudy": "CT"}
        seen: set[str | None] = set()
        while True:
            found = client.search_for_studies(
                search_filters=filters,
                fields=["NumberOfStudyRelatedInstances"],
                limit=_PAGE,
                offset=len(seen),
            )
            # Archives may return fewer than requested, or ignore the offset.
            studies = {each.get("StudyInstanceUID"): each for each in map(Dataset.from_json, found)}
            new = {uid: study for uid, study in studies.items() if uid not in seen}
            if not new:
                return
            seen |= new.keys()
            yield from new.values()

    def _note(self, client: DICOMwebClient, study: str) -> bool:
        """Add the images of a study to the queue; returns whether any are new."""
        new, key = False, self.spool.key(study)
        known = {series.uid: series.facts for series in self.store.series_of(study)}
        for found in client.search_for_series(study, search_filters={"Modality": "CT"}):
            series = str(Dataset.from_json(found).SeriesInstanceUID)
            listed = map(Dataset.from_json, client.search_for_instances(study, series))
            images = [
                str(each.SOPInstanceUID)
                for each in listed
                if each.get("SOPClassUID", CTImageStorage) in IMAGES
            ]
            if not images:
                continue
            facts = known.get(series)
            if facts is None:  # the header of an image has the fields that rules use
                header = client.retrieve_instance_metadata(study, series, images[0])
                facts = facts_of(Dataset.from_json(header))
            new |= self.store.add_images(study, key, series, images, facts, self.poll.name)
        return new


def fetch(polls: Sequence[Poll], spool: Spool, store: Store, study: Row) -> int:
    """Fetch missing images that are to be analysed; returns how many are still missing.

    Args:
        polls: the archives to ask, in turn.
        spool, store: where images go.
        study: a row of the queue.

    Raises:
        TryLater: an archive does not answer, or one does not have the images and the others do
            not have them all.
    """
    absent: NotThere | None = None
    for poll in polls:
        missing = _missing(spool, store, study)
        client = client_of(poll.web)
        try:
            with reaching(poll.web):
                for series in sorted({series for series, _ in missing}):
                    for image in client.iter_series(
                        study["uid"], series, media_types=(("application/dicom", "*"),)
                    ):
                        buffer = BytesIO()
                        dcmwrite(buffer, image)
                        take_image(spool, store, image, buffer.getvalue(), poll.name)
        except NotThere as error:  # another archive may have it
            absent = error
    left = len(_missing(spool, store, study))
    if left and absent is not None:
        raise absent
    return left


def _missing(spool: Spool, store: Store, study: Row) -> list[tuple[str, str]]:
    """Series and UID of the wanted images that are not stored here."""
    return [
        (series, image)
        for series, image in store.wanted_images(study["uid"])
        if not spool.image(study["key"], series, image).exists()
    ]


def store_results(web: WebService, paths: Sequence[Path]) -> dict[str, str]:
    """Send results by STOW; returns the reasons for those not stored, by UID.

    Raises:
        TryLater: the archive does not answer, or gives no reason why it stored none.
    """
    results = [dcmread(path) for path in paths]
    with reaching(web):
        try:
            answer = client_of(web).store_instances(results)
        except requests.HTTPError as error:
            # None was stored, perhaps because the archive already has them all.
            if error.response is None or error.response.status_code != requests.codes.conflict:
                raise
            try:
                answer = Dataset.from_json(error.response.json())
            except (ValueError, KeyError):
                raise error from None
    failed: dict[str, str] = {}
    for item in answer.get("FailedSOPSequence") or ():
        reason: Any = item.get("FailureReason", 0)
        if reason != DUPLICATE:
            failed[str(item.ReferencedSOPInstanceUID)] = f"not stored, reason {reason:#06x}"
    return failed
