"""Print what is installed, which mmcv operators are in use, whether a GPU is usable, what is
wrong and how to fix it. The exit status is 1 if something is wrong."""

import argparse
import importlib
import platform
import re
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, requires, version

from pe_unified.errors import pip_install

#: What the processes that load data may have under way at a time.
LEAST_SHARED_GB = 1.0
INSTALL = pip_install()

try:
    from packaging.requirements import Requirement
    from rich.console import Console
    from rich.table import Table

    import pe_unified
    from pe_unified.command import exit_on_user_error
    from pe_unified.progress import track
except ImportError as missing:
    sys.exit(f"{missing.name} is missing in {sys.executable}: {INSTALL}")


def requirements() -> list[Requirement]:
    """What the package requires, without its extras."""
    found = [Requirement(line) for line in requires("pe_unified") or ()]
    return [each for each in found if each.marker is None or each.marker.evaluate({"extra": ""})]


def packages() -> Iterator[tuple[str, str, str]]:
    """Name, installed version, and what is wrong (empty if nothing is)."""
    for requirement in requirements():
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            yield requirement.name, "missing", INSTALL
            continue
        fits = requirement.specifier.contains(found, prereleases=True)
        yield requirement.name, found, "" if fits else f"needs {requirement.specifier}: {INSTALL}"


def check_python() -> tuple[str, str]:
    fits = (3, 11) <= sys.version_info[:2] <= (3, 12)
    return platform.python_version(), "" if fits else "needs Python 3.11 or 3.12"


def check_opencv() -> tuple[str, str]:
    """Two wheels write into one folder; the one that came last wins, and one needs libGL."""
    cure = "pip install --force-reinstall --no-deps opencv-python-headless"
    try:
        import cv2
    except ImportError as error:
        return str(error).splitlines()[0], cure
    try:
        both = version("opencv-python")
    except PackageNotFoundError:
        return cv2.__version__, ""
    if re.search(r"GUI: +NONE", cv2.getBuildInformation()):
        return cv2.__version__, ""
    return f"{cv2.__version__}, of opencv-python {both}, which replaces the headless one", cure


def check_torch() -> tuple[str, str]:
    import torch
    import torchvision

    try:
        torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    except Exception as error:
        return (
            f"{torch.__version__} beside torchvision {torchvision.__version__}: {error}",
            "install torch and torchvision as one matching pair",
        )
    return f"{torch.__version__}, torchvision {torchvision.__version__}", ""


def check_mmcv_operators() -> tuple[str, str]:
    extension = importlib.import_module("mmcv._ext")
    if getattr(extension, "PE_UNIFIED_FALLBACK", False):
        return "torchvision's, by pe_unified.ops (enough for Faster R-CNN)", ""
    return f"compiled ({extension.__file__})", ""


def check_stack() -> tuple[str, str]:
    stack = ("mmengine", "mmdet.models", "mmseg.models", "mmpretrain.models")
    for name in (*stack, "pe_unified.recipes", "pe_unified.reports"):
        try:
            importlib.import_module(name)
        except Exception as error:
            return f"{name}: {type(error).__name__}: {error}", INSTALL
    return "mmengine, mmdet, mmseg, mmpretrain and pe_unified import", ""


def check_device() -> tuple[str, str]:
    import torch

    if torch.cuda.is_available():
        name = torch.cuda.get_device_name()
        try:
            torch.ones(2, device="cuda").sum().item()
        except RuntimeError as error:
            return (
                f"{name}: {str(error).splitlines()[0]}",
                "this torch does not fit the GPU or its driver",
            )
        return f"GPU: {name}", ""
    if shutil.which("nvidia-smi"):
        built = torch.version.cuda
        cure = "update the driver" if built else "install a torch built for CUDA"
        return "CPU (there is an NVIDIA driver, but torch does not see the GPU)", cure
    return "CPU (no GPU; everything runs, training takes longer)", ""


def check_bfloat16() -> tuple[str, str]:
    import torch

    from pe_unified.precision import fastest_precision

    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    fast = [name for name in devices if fastest_precision(torch.device(name)) == "bf16"]
    told = (
        f"{name}: {'in hardware' if name in fast else 'emulated, precision=auto is float32'}"
        for name in devices
    )
    return "; ".join(told), ""


def check_shared_memory() -> tuple[str, str]:
    """Too little is no fault of the installation: training in one process does without."""
    from pe_unified.engine.loaders import SHARED_MEMORY, shared_memory

    room = shared_memory()
    if room is None:
        return f"there is no {SHARED_MEMORY}", ""
    advice = (
        "; processes that load data need more: docker run --shm-size 8g, or num_workers=0"
        if room[0] < LEAST_SHARED_GB
        else ""
    )
    return f"{room[0]:.2f} of {room[1]:.2f} GB free{advice}", ""


CHECKS: dict[str, Callable[[], tuple[str, str]]] = {
    "Python": check_python,
    "OpenCV": check_opencv,
    "torch": check_torch,
    "mmcv operators": check_mmcv_operators,
    "OpenMMLab": check_stack,
    "device": check_device,
    "bfloat16": check_bfloat16,
    "shared memory": check_shared_memory,
}


def run_check(check: Callable[[], tuple[str, str]]) -> tuple[str, str]:
    try:
        return check()
    except Exception as error:
        return f"{type(error).__name__}: {error}", INSTALL


def make_parser() -> argparse.ArgumentParser:
    return argparse.ArgumentParser(description=__doc__)


@exit_on_user_error()
def main() -> int:
    make_parser().parse_args()
    warnings.simplefilter("ignore")
    console = Console()
    faults: list[str] = []
    table = Table(title=f"pe_unified {pe_unified.__version__}", show_header=False)
    for name, found, cure in packages():
        if cure:
            faults.append(f"{name} ({found}): {cure}")
        table.add_row(name, f"[red]{found}[/red]" if cure else found)
    for name, check in track(CHECKS.items(), "checking the installation", len(CHECKS)):
        found, cure = run_check(check)
        if cure:
            faults.append(f"{name} ({found}): {cure}")
        table.add_row(name, f"[red]{found}[/red]" if cure else found)
    console.print(table)
    for fault in faults:
        console.print(f"[red]wrong[/red] {fault}", highlight=False)
    if not faults:
        console.print("nothing is wrong")
    return 1 if faults else 0
