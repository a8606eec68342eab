"""Fixtures that every test may use."""

import gc
import importlib.util
import multiprocessing
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing import forkserver
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import settings

_REPOSITORY = Path(__file__).resolve().parents[1]
_SHARED = _REPOSITORY.parent / "shared" / "data"
_TESTS = Path(__file__).parent
# Under load a single example may take long.
settings.register_profile("no_deadline", deadline=None)
settings.load_profile("no_deadline")

sys.path.insert(0, str(_TESTS))

from dask_cluster import cluster  # noqa: E402, F401
from filelock import FileLock  # noqa: E402


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--pictures", type=Path, help="keep the documentation's pictures here")


def pytest_collection_finish() -> None:
    """What every test of a long run would pay for anew."""
    from mmengine.dataset import base_dataset

    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    # Every data set collects garbage: up to half a second with all that tests have loaded.
    base_dataset.gc = SimpleNamespace(collect=lambda: 0)
    if "PYTEST_XDIST_WORKER" in os.environ:  # workers that have loaded what they need start at once
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["pe_unified.reports.batch", "pe_unified.recipes"])
        forkserver.ensure_running()


@pytest.fixture(autouse=True)
def own_globals() -> Iterator[None]:
    """mmengine's scope and current logger are global; no test leaves its own to the next one."""
    from mmengine.logging import MMLogger
    from mmengine.registry import DefaultScope

    for each in (DefaultScope, MMLogger):
        each._instance_dict.clear()
    yield
    for each in (DefaultScope, MMLogger):
        each._instance_dict.clear()


@pytest.fixture
def keep_picture(request: pytest.FixtureRequest) -> Callable[[Path, str], None]:
    """Copies a picture that a test took into the folder of ``--pictures``, by a name."""
    folder = request.config.getoption("--pictures")

    def keep(path: Path, name: str) -> None:
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, folder / name)

    return keep


@pytest.fixture(scope="module")
def unrendered() -> Iterator[Callable[..., None]]:
    """Figures are composed, not rendered: tests/evaluation/figures render each kind.

    Gives the method that renders.
    """
    from matplotlib.figure import Figure

    def save(figure: Figure, path: Path, **_: Any) -> None:
        Path(path).write_bytes(b"a figure")

    renders = Figure.savefig
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", save)
        yield renders


@pytest.fixture(scope="session")
def dicom_writer() -> Callable[..., list[str]]:
    """The function that writes SEG and SR of reports."""
    from pe_unified.reports import files

    return files.write_dicom_where_possible


@pytest.fixture(scope="module")
def without_dicom(dicom_writer: Callable[..., list[str]]) -> Iterator[None]:
    """Reports without SEG and SR: tests/reports/test_dicom_objects.py writes and reads them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pe_unified.reports.files.write_dicom_where_possible", lambda *_: [])
        yield


@pytest.fixture
def with_dicom(dicom_writer: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """SEG and SR all the same, for one test of a module without."""
    monkeypatch.setattr("pe_unified.reports.files.write_dicom_where_possible", dicom_writer)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The repository's root."""
    return _REPOSITORY


@pytest.fixture(scope="session")
def load_tool(repository: Path) -> Callable[[str], ModuleType]:
    """Import a command by its name, anew."""

    def load(name: str) -> ModuleType:
        path = repository / "pe_unified/cli" / f"{name}.py"
        path = path if path.exists() else repository / "tools" / f"{name}.py"
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def command(
    repository: Path, called: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., subprocess.CompletedProcess]:
    """Call a command of ``tools/`` in this process, which has the libraries loaded already."""

    def call(tool: str, *words: object) -> subprocess.CompletedProcess:
        path = repository / "tools" / f"{tool}.py"
        monkeypatch.chdir(repository)
        monkeypatch.syspath_prepend(str(path.parent))
        return called(lambda: runpy.run_path(str(path), run_name="__main__"), path, *words)

    return call


@pytest.fixture
def called(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> Callable[..., subprocess.CompletedProcess]:
    """Call a program's main function with words of a command line; what its process would give."""

    def call(main: Callable[[], Any], *words: object) -> subprocess.CompletedProcess:
        argv = [str(word) for word in words]
        monkeypatch.setattr(sys, "argv", argv)
        status: object = 0
        try:
            main()
        except SystemExit as end:
            status = end.code or 0
        out, err = capsys.readouterr()
        if isinstance(status, str):  # as Python does at the end of a process
            status, err = 1, f"{err}{status}\n"
        return subprocess.CompletedProcess(argv, status, out, err)

    return call


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real masks beside the repository; skips where it is absent."""
    if not _SHARED.is_dir():
        pytest.skip("no ../shared/data: the tests on real masks are skipped")
    return _SHARED


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A converted data set of 9 patients with 6 slices of 64 x 64 each; do not write into it."""
    from tiny_dataset import write_tiny_dataset

    return write_tiny_dataset(tmp_path_factory.mktemp("tiny") / "data")


@pytest.fixture(scope="session")
def painted_set(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A converted set of 4 painted patients, half of them for the test, and the folder of truth.

    Workers share it; do not write into it.
    """
    from pe_unified.converters.pipeline.run import RunOptions, convert
    from pe_unified.converters.raw.fumpe import Fumpe
    from pe_unified.phantom.command import write_layout

    above = tmp_path_factory.getbasetemp()
    root = (above.parent if "PYTEST_XDIST_WORKER" in os.environ else above) / "painted_set"
    with FileLock(f"{root}.lock"):
        if not (root / "done").exists():
            write_layout(root / "raw", "fumpe", 4, seed=5, size=64, slices=16, truth=True)
            options = RunOptions(quiet=True, split=(0.5, 0.0, 0.5))
            convert(Fumpe(root / "raw"), root / "set", options)
            (root / "done").touch()
    return root / "set", root / "raw" / "truth"


# One small untrained model, one painted study and its report. Most tests need no network, and what
# hands out the tests runs none, so what loads torch is imported by the fixtures.


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    from studies import write_checkpoint

    return write_checkpoint(tmp_path_factory.mktemp("model") / "m.pth")


@pytest.fixture(scope="session")
def predictor(checkpoint) -> Any:
    from pe_unified.inference.model import load_model
    from pe_unified.inference.predictor import StudyPredictor

    return StudyPredictor(load_model(checkpoint, device="cpu", precision="fp32"))


@pytest.fixture(scope="session")
def finds_nothing(predictor) -> Any:
    """The same without lesions, which are what takes longest to describe."""
    from pe_unified.inference.predictor import StudyPredictor
    from pe_unified.inference.thresholds import Thresholds

    nothing = Thresholds(pixel=0.99, box=1.0, gate=1.0)
    return StudyPredictor(replace(predictor.model, thresholds=nothing))


@pytest.fixture(scope="session")
def folder(painted_set) -> Path:
    """DICOM slices of one patient."""
    return min((painted_set[1].parent / "CT_scans").iterdir())


@pytest.fixture(scope="session")
def report(predictor, folder, tmp_path_factory, dicom_writer) -> tuple[Path, dict[str, Any]]:
    """The folder that was written, and the report."""
    from pe_unified.reports.analysis import analyse_study

    out = tmp_path_factory.mktemp("out") / "new" / "report"
    with pytest.MonkeyPatch.context() as patch:  # also where a module does without
        patch.setattr("pe_unified.reports.files.write_dicom_where_possible", dicom_writer)
        return out, analyse_study(folder, out, predictor)
