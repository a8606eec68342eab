"""A real archive for tests: Orthanc with its DICOMweb plugin, where Debian's packages are there."""

import json
import shutil
import socket
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from processes import started

PROGRAM = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin")
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
#: Why there is none; empty where there is one.
ABSENT = (
    ""
    if PROGRAM and PLUGIN.exists()
    else "no Orthanc with DICOMweb: apt-get install orthanc orthanc-dicomweb"
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Orthanc:
    """A running archive, asked through its own interface."""

    def __init__(self, http: int, dicom: int) -> None:
        self.http, self.dicom = http, dicom
        self.url = f"http://127.0.0.1:{http}"
        self.web = f"{self.url}/dicom-web"
        self.node = {"host": "127.0.0.1", "port": dicom, "ae_title": "ORTHANC"}

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            return answer.read()

    def ask(self, path: str):
        return json.loads(self.get(path))

    def post(self, path: str, body: bytes):
        request = urllib.request.Request(self.url + path, body, method="POST")
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())


@contextmanager
def orthanc(folder: Path, service_port: int) -> Iterator[Orthanc]:
    """An empty archive that knows the service as ``PE_UNIFIED``, for as long as the context
    lasts."""
    made = Orthanc(free_port(), free_port())
    settings = {
        "Name": "test",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "index"),
        "Plugins": [str(PLUGIN)],
        "HttpPort": made.http,
        "DicomPort": made.dicom,
        "DicomAet": "ORTHANC",
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomModalities": {"PE_UNIFIED": ["PE_UNIFIED", "127.0.0.1", service_port]},
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        "OverwriteInstances": False,
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "orthanc.log").open("w") as log:
        words = [PROGRAM, folder / "orthanc.json"]
        with started(words, stdout=log, stderr=log) as process:
            for _ in range(200):
                assert process.poll() is None, (folder / "orthanc.log").read_text()[-2000:]
                try:
                    made.get("/system")
                    break
                except OSError:
                    time.sleep(0.1)
            yield made
