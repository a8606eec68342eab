"""An archive in the test's own process, and settings of a service beside it."""

import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from json import dumps
from pathlib import Path

import yaml
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, StoragePresentationContexts, evt

from pe_unified.archive.job import Answer
from pe_unified.archive.settings import load_settings
from pe_unified.archive.work import results_in


class DicomArchive:
    """A storage SCP that keeps what it gets by UID, and counts how often each came.

    ``answers``: status of the next objects, then success; ``title``: its AE title.
    """

    def __init__(self, title="ARCHIVE"):
        self.objects, self.times, self.answers = {}, {}, []
        entity = AE(ae_title=title)
        entity.supported_contexts = StoragePresentationContexts
        entity.add_supported_context("1.2.840.10008.1.1")
        handlers = [(evt.EVT_C_STORE, self._store)]
        self.server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        self.port = self.server.server_address[1]
        self.node = {"host": "127.0.0.1", "port": self.port, "ae_title": title}

    def _store(self, event):
        found = event.dataset
        found.file_meta = event.file_meta
        self.times[found.SOPInstanceUID] = self.times.get(found.SOPInstanceUID, 0) + 1
        answer = self.answers.pop(0) if self.answers else 0x0000
        if answer == 0x0000:
            self.objects[found.SOPInstanceUID] = found
        return answer


class WebArchive:
    """A DICOMweb service of some files; keeps what is stored in ``stored``, by UID.

    ``failing``: so many answers from now on have status 503; ``duplicates``: answer STOW as an
    archive that refuses what it has, with status 409.
    """

    def __init__(self, paths=()):
        self.files = [dcmread(path) for path in paths]
        self.stored, self.failing, self.duplicates, self.asked = {}, 0, False, []
        archive = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                archive._get(self)

            def do_POST(self):
                archive._post(self)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/dicom-web"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def _chosen(self, study=None, series=None, image=None):
        return [
            each
            for each in self.files
            if study in (None, each.StudyInstanceUID)
            and series in (None, each.SeriesInstanceUID)
            and image in (None, each.SOPInstanceUID)
        ]

    def _get(self, request):
        path = request.path.partition("?")[0].removeprefix("/dicom-web/")
        self.asked.append(path)
        if self.failing:
            self.failing -= 1
            return self._answer(request, 503, "text/plain", b"")
        words = path.split("/")
        uids, asked = words[1::2], words[-1]
        found = self._chosen(*uids)
        if asked == "metadata" or asked == "instances":
            items = [self._header(each) for each in found]
        elif asked in ("studies", "series"):
            keyword = "StudyInstanceUID" if asked == "studies" else "SeriesInstanceUID"
            items = []
            for uid in dict.fromkeys(each[keyword].value for each in found):
                own = [each for each in found if each[keyword].value == uid]
                item = Dataset()
                setattr(item, keyword, uid)
                item.Modality = own[0].Modality
                item.NumberOfStudyRelatedInstances = len(own)
                items.append(item)
        else:
            parts = [self._encoded(each) for each in found]
            body = b"".join(
                b"--xx\r\nContent-Type: application/dicom\r\n\r\n" + part + b"\r\n"
                for part in parts
            )
            kind = 'multipart/related; type="application/dicom"; boundary=xx'
            return self._answer(request, 200, kind, body + b"--xx--\r\n")
        body = dumps([each.to_json_dict() for each in items]).encode()
        return self._answer(request, 200, "application/dicom+json", body)

    @staticmethod
    def _header(each):
        header = Dataset()
        header.update({item.tag: item for item in each if item.keyword != "PixelData"})
        return header

    @staticmethod
    def _encoded(each):
        buffer = BytesIO()
        dcmwrite(buffer, each)
        return buffer.getvalue()

    def _post(self, request):
        body = request.rfile.read(int(request.headers["Content-Length"]))
        boundary = request.headers["Content-Type"].rpartition("boundary=")[2].strip('"')
        answer = Dataset()
        answer.FailedSOPSequence = []
        for part in body.split(b"--" + boundary.encode())[1:-1]:
            found = dcmread(BytesIO(part.partition(b"\r\n\r\n")[2]))
            if self.duplicates and found.SOPInstanceUID in self.stored:
                item = Dataset()
                item.ReferencedSOPInstanceUID = found.SOPInstanceUID
                item.FailureReason = 0x0111
                answer.FailedSOPSequence.append(item)
                continue
            self.stored.setdefault(found.SOPInstanceUID, []).append(found)
        status = 503 if self.failing else 409 if answer.FailedSOPSequence else 200
        self.failing = max(0, self.failing - 1)
        self._answer(
            request, status, "application/dicom+json", dumps(answer.to_json_dict()).encode()
        )

    @staticmethod
    def _answer(request, status, kind, body):
        request.send_response(status)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)


def settings_of(folder, checkpoint, send, **changes):
    """Settings with short times, as a file that is read."""
    found = {
        "folder": str(folder / "pacs"),
        "model": {"checkpoint": str(checkpoint), "device": "cpu", "precision": "fp32"},
        "receive": {"port": 0, "host": "127.0.0.1"},
        "complete_after_s": 0.1,
        "rules": [{"name": "any CT", "where": {"modality": "^CT$"}, "do": "analyse"}],
        "send": send,
        "retry": {"first_s": 0.05, "most_s": 0.1},
        "status": {"port": 0},
        "keep": {"least_free_gb": 0},
        **changes,
    }
    path = folder / "pacs.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in found.items() if v is not None}))
    return load_settings(path)


def send(paths, port, title="PE_UNIFIED", calling="SCANNER"):
    """C-STORE of files or data sets; their statuses, None where the association is rejected."""
    entity = AE(ae_title=calling)
    objects = [dcmread(each) if isinstance(each, Path) else each for each in paths]
    for each in {found.SOPClassUID for found in objects}:
        entity.add_requested_context(each)
    # Threads of pynetdicom may lose an answer that comes at once: sent again, as senders do.
    entity.dimse_timeout = 3
    statuses = []
    while len(statuses) < len(objects):
        association = entity.associate(
            "127.0.0.1", port, ae_title=title, evt_handlers=[(evt.EVT_CONN_OPEN, _at_once)]
        )
        if association.is_rejected:
            return None
        assert association.is_established
        for each in objects[len(statuses) :]:
            status = association.send_c_store(each).get("Status")
            if status is None:
                break
            statuses.append(status)
        association.release()
    return statuses


def _at_once(event):
    """Small messages wait for each other otherwise, 50 ms an image."""
    event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def as_study(folder, study, **changes):
    """The slices of a folder as those of another study."""
    found = []
    series = generate_uid(entropy_srcs=[study])
    for path in sorted(folder.iterdir()):
        each = dcmread(path)
        each.StudyInstanceUID, each.SeriesInstanceUID = study, series
        each.SOPInstanceUID = generate_uid(entropy_srcs=[study, path.name])
        each.file_meta.MediaStorageSOPInstanceUID = each.SOPInstanceUID
        for keyword, value in changes.items():
            setattr(each, keyword, value)
        found.append(each)
    return found


def copied(report):
    """An analysis that copies a finished report, with UIDs of its own; the list fills with what it
    was asked."""
    asked = []

    def run(request):
        asked.append(request)
        request.out.mkdir(parents=True, exist_ok=True)
        for name in ("mask.seg.dcm", "findings.sr.dcm"):
            found = dcmread(report / name)
            found.SOPInstanceUID = found.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            found.StudyInstanceUID = request.study
            found.save_as(request.out / name)
        return Answer(results_in(request.out), verdict="positive", seconds=1.0)

    return run, asked
