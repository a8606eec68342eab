"""The HTTP application of the reader's screen: requests of the pages, and the answers."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from pe_unified.ct.windows import WINDOWS
from pe_unified.disclaimer import RESEARCH_LINE
from pe_unified.errors import DataError, UserError, shown
from pe_unified.reports.file_names import MASK
from pe_unified.reports.mask_file import read_mask
from pe_unified.reports.report import verdict_in_words
from pe_unified.review.decisions import LESION_LABELS, STUDY_LABELS, in_force
from pe_unified.review.sources import Studies
from pe_unified.review.store import ConflictError, Decision, ReviewStore
from pe_unified.serve.guard import guards
from pe_unified.serve.images import ClosedError, ImageCache, StudyImages
from pe_unified.serve.mask_runs import mask_of, runs_of
from pe_unified.serve.worklist import Entry, Worklist, patient_of

STATIC = Path(__file__).parent / "static"
#: Maximum number of slices in one request.
_MOST_SLICES = 32
_LONGEST_NAME, _LONGEST_TEXT = 60, 4000
#: Fields of a report, of its input and of a slice that are sent to pages; no UIDs.
_TOLD = ("created", "thresholds", "quality", "exam", "lesions")
_OF_INPUT = ("slices", "rows", "cols", "spacing_mm")
_OF_SLICE = ("index", "z_mm", "probability", "called", "boxes")
#: UIDs in notes, with the number of an acquisition.
_UID = re.compile(r"\b\d+(\.\d+){3,}(#\d+)?")


@dataclass(frozen=True)
class ServeOptions:
    """How reports are served.

    Attributes:
        reports: folder of reports.
        studies: folders of the studies that they were made from.
        hosts: names of the server.
        token: that pages must send; None for no token.
        remote: other machines connect, too: answers are compressed, and requests are rate-limited.
        show_names: show the names of patients and folders.
        blind: readers do not see the decisions of others.
        cache: folder for unpacked slices.
        key: the secret with which reports were pseudonymised.
    """

    reports: Path
    studies: tuple[Path, ...] = ()
    hosts: tuple[str, ...] = ("localhost", "127.0.0.1")
    token: str | None = None
    remote: bool = False
    show_names: bool = False
    blind: bool = False
    cache: Path | None = None
    key: str | None = None


class _Refused(Exception):
    """An error answer: its status, and a message for the reader."""

    def __init__(self, status: int, words: str) -> None:
        self.status, self.words = status, words
        super().__init__(words)


def make_app(options: ServeOptions, images: ImageCache) -> Starlette:
    """The application.

    Raises:
        DataError: the reports, or the decisions on them, cannot be read.
    """
    desk = Desk(options, images)
    routes = [
        Route("/", partial(_page, name="worklist.html")),
        Route("/read/{key}", partial(_page, name="reader.html")),
        Route("/api/worklist", desk.worklist),
        Route("/api/studies/{key}", desk.study),
        Route("/api/studies/{key}/images", desk.geometry),
        Route("/api/studies/{key}/slices/{first:int}/{count:int}", desk.slices),
        Route("/api/studies/{key}/mask", desk.mask),
        Route("/api/studies/{key}/masks/{number:int}", desk.redrawn),
        Route("/api/studies/{key}/decisions", desk.decide, methods=["POST"]),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    app = Starlette(
        routes=routes,
        middleware=guards(options.hosts, options.token, options.remote),
        exception_handlers={_Refused: _refused, UserError: desk.told},
    )
    if options.remote:
        app.add_middleware(GZipMiddleware, minimum_size=2000, compresslevel=1)
    return app


async def _page(_: Request, name: str) -> Response:
    return FileResponse(STATIC / name, headers={"Cache-Control": "no-cache"})


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, _Refused)
    return JSONResponse({"error": error.words}, error.status)


class Desk:
    """Serves reports, decisions and images to the pages."""

    def __init__(self, options: ServeOptions, images: ImageCache) -> None:
        self.options, self.images = options, images
        self.list = Worklist(options.reports)
        self.list.entries()
        self.store = ReviewStore(self.list.root)

    def worklist(self, request: Request) -> Response:
        """All rows; an empty answer if the page has them already."""
        reader = request.query_params.get("reader") if self.options.blind else None
        states = self.store.states(reader)
        rows = [
            {
                **entry.row,
                "key": entry.key,
                "label": self._label(entry),
                "state": states.get(entry.found.study, "unread"),
                **({"patient": patient_of(entry)} if self.options.show_names else {}),
            }
            for entry in self.list.entries().values()
        ]
        failures = self.list.failures()
        if not self.options.show_names:
            failures = [{"name": "", "reason": ""} for _ in failures]
        told = {"studies": rows, "failures": failures, "notice": RESEARCH_LINE}
        content = json.dumps(told, separators=(",", ":")).encode()
        tag = f'"{hashlib.blake2b(content, digest_size=8).hexdigest()}"'
        headers = {"ETag": tag, "Cache-Control": "no-cache"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type="application/json", headers=headers)

    def study(self, request: Request) -> Response:
        """A report, and the decisions on it."""
        entry = self._entry(request)
        report = entry.found.read()
        reader = request.query_params.get("reader", "")
        windows = {name: [each.level, each.width] for name, each in WINDOWS.items()}
        notes = report["input"]["notes"]
        if not self.options.show_names:
            notes = [_UID.sub("(UID)", note) for note in notes]
        return JSONResponse(
            {
                **{part: report[part] for part in _TOLD},
                "input": {**{part: report["input"][part] for part in _OF_INPUT}, "notes": notes},
                "slices": [{part: each[part] for part in _OF_SLICE} for each in report["slices"]],
                "key": entry.key,
                "label": self._label(entry),
                "patient": patient_of(entry) if self.options.show_names else {},
                "verdict": verdict_in_words(report),
                "model": {part: report["model"][part] for part in ("checkpoint", "sha256")},
                "notice": report["model"]["training_notice"],
                "has_mask": (entry.found.folder / MASK).is_file(),
                "windows": windows,
                "labels": {"lesion": LESION_LABELS, "study": STUDY_LABELS},
                "blind": self.options.blind,
                **self._decided(entry, reader),
            }
        )

    def geometry(self, request: Request) -> Response:
        """The geometry of the images."""
        study = self._images(self._entry(request)).study
        return JSONResponse(
            {
                "shape": study.shape,
                "spacing_mm": study.known_spacing(),
                # Sides of the patient towards which columns, rows and slices increase.
                "towards": [_letter(study.direction[:, axis]) for axis in range(3)],
                "placed": study.placed,
            }
        )

    def slices(self, request: Request) -> Response:
        """Some slices, int16."""
        images = self._images(self._entry(request))
        first, count = request.path_params["first"], request.path_params["count"]
        if not (first + count <= len(images.study) and 0 < count <= _MOST_SLICES):
            raise _Refused(404, "no such slices")
        try:
            content = images.slices(first, first + count)
        except ClosedError:
            content = self._images(self._entry(request)).slices(first, first + count)
        return Response(content, media_type="application/octet-stream")

    def mask(self, request: Request) -> Response:
        """The mask of a report as runs of lesion numbers."""
        entry = self._entry(request)
        path = entry.found.folder / MASK
        if not path.is_file() or not path.resolve().is_relative_to(self.list.root):
            return JSONResponse({})
        return JSONResponse(runs_of(read_mask(path, entry.found.read())))

    def redrawn(self, request: Request) -> Response:
        """The mask of a decision as runs."""
        study, number = self._entry(request).found.study, request.path_params["number"]
        for decision in self.store.history(study):
            if decision.number == number and "mask" in decision.value:
                return JSONResponse(runs_of(self.store.load_mask(study, decision.value["mask"])))
        raise _Refused(404, "no such mask")

    async def decide(self, request: Request) -> Response:
        """Store a decision."""
        try:
            asked = json.loads(await request.body())
            assert isinstance(asked, dict)
        except (ValueError, AssertionError):
            raise _Refused(400, "no decision") from None
        return await anyio.to_thread.run_sync(self._keep, request, asked)

    def _keep(self, request: Request, asked: Mapping[str, Any]) -> Response:
        entry = self._entry(request)
        study, reader = entry.found.study, _text(asked.get("reader"), _LONGEST_NAME).strip()
        value, seen = asked.get("value", {}), asked.get("seen")
        fine = isinstance(value, dict) and isinstance(asked.get("lesion"), int | None)
        if not fine or not isinstance(seen, int):
            raise _Refused(400, "no decision")
        if "text" in value:
            _text(value["text"], _LONGEST_TEXT)
        if "runs" in asked:
            try:
                mask = mask_of(asked["runs"], entry.found.shape)
            except (ValueError, TypeError, AttributeError, OverflowError):
                raise _Refused(400, "no mask of this study") from None
            uids = {int(index): entry.found.sop_uids[int(index)] for index in asked["runs"]}
            value = {"mask": self.store.save_mask(study, reader, mask, uids)}
        decision = Decision(
            study=study,
            reader=reader,
            kind=str(asked.get("kind")),
            lesion=asked.get("lesion"),
            value=value,
            model=str(asked.get("model")),
        )
        kept = self.store.add(decision, None if self.options.blind else seen)
        return JSONResponse({"number": kept.number, **self._decided(entry, reader)})

    def _decided(self, entry: Entry, reader: str) -> dict[str, Any]:
        """This reader's decisions and, unless readers are blinded, those of the others.

        ``newest``: number of the newest decision that the page now knows.
        """
        study = entry.found.study
        history = self.store.history(study)
        others = [] if self.options.blind else self.store.readers(study)
        return {
            "newest": history[-1].number if history else 0,
            "decisions": [_plain(each) for each in self.store.current(study, reader)],
            "undoable": [each.number for each in in_force(self.store.of_now(study, reader))][-50:],
            "others": {
                name: [_plain(each) for each in self.store.current(study, name)]
                for name in others
                if name != reader
            },
        }

    async def told(self, request: Request, error: Exception) -> Response:
        """Answers errors of files and decisions without file names, which may be a patient's."""
        words = error.without_names() if isinstance(error, DataError) else shown(str(error))
        entry = getattr(request.state, "entry", None)
        if entry is not None:
            words = words.replace(f"study {entry.found.study}", "this study")
        status = 409 if isinstance(error, ConflictError) else 422
        return JSONResponse({"error": words}, status)

    def _entry(self, request: Request) -> Entry:
        entry = self.list.entry(request.path_params["key"])
        if entry is None:
            raise _Refused(404, "no such study")
        request.state.entry = entry
        return entry

    def _images(self, entry: Entry) -> StudyImages:
        known = self.images.known(entry.key, entry.stamp)
        if known is not None:
            return known
        # Listed again each time, because new studies may arrive.
        studies = Studies(self.options.studies, self.options.key)
        return self.images.get(entry.key, entry.stamp, studies.opened(entry.found))

    def _label(self, entry: Entry) -> str:
        return shown(entry.name) if self.options.show_names else f"Study {entry.key[:6]}"


def _plain(decision: Decision) -> dict[str, Any]:
    told = asdict(decision)
    return {part: told[part] for part in ("number", "kind", "lesion", "value", "made")}


def _text(given: Any, longest: int) -> str:
    if not isinstance(given, str) or len(given) > longest:
        raise _Refused(400, f"text of at most {longest} characters, please")
    return given


def _letter(direction: Any) -> str:
    """The side of the patient to which a unit vector (LPS) points."""
    axis = int(abs(direction).argmax())
    return ("LR", "PA", "HF")[axis][int(direction[axis] < 0)]
