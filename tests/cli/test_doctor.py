"""What the doctor says of an environment that is not sound."""

import sys
from importlib.metadata import PackageNotFoundError, version

import cv2
import pytest
import torch
import torchvision

INSTALL = "pip install -e ."


@pytest.fixture
def examine(load_tool, monkeypatch, capsys):
    """The doctor's exit status, and its lines on what is wrong."""
    doctor = load_tool("doctor")
    monkeypatch.setenv("COLUMNS", "1000")
    monkeypatch.setattr(sys, "argv", ["doctor.py"])

    def run():
        status = doctor.main()
        lines = capsys.readouterr().out.splitlines()
        return status, [line for line in lines if line.startswith("wrong ")]

    run.doctor = doctor
    return run


def test_a_package_that_is_missing_and_one_of_another_version(examine, monkeypatch):
    def installed(name):
        if name == "pynrrd":
            raise PackageNotFoundError(name)
        return "1.7.0" if name == "onedl-mmcv" else version(name)

    monkeypatch.setattr(examine.doctor, "version", installed)
    status, wrong = examine()
    assert status == 1
    assert wrong == [
        f"wrong onedl-mmcv (1.7.0): needs ==2.3.6: {INSTALL}",
        f"wrong pynrrd (missing): {INSTALL}",
    ]


@pytest.mark.parametrize(
    "module, fault, cure",
    [
        ("cv2", "OpenCV (", "pip install --force-reinstall --no-deps opencv-python-headless"),
        ("mmdet.models", "OpenMMLab (mmdet.models: ", INSTALL),
        ("mmcv._ext", "mmcv operators (", INSTALL),
        ("torchvision", "torch (", INSTALL),
    ],
)
def test_what_cannot_be_imported(examine, monkeypatch, module, fault, cure):
    monkeypatch.setitem(sys.modules, module, None)
    status, wrong = examine()
    assert status == 1
    (line,) = wrong
    assert line.startswith(f"wrong {fault}") and module in line and line.endswith(cure)


@pytest.mark.parametrize(("gui", "right"), [("QT5", False), ("NONE", True)])
def test_two_wheels_of_opencv_in_one_folder(examine, monkeypatch, gui, right):
    """Plain pip installs both; the headless one put over the other cures it."""
    monkeypatch.setattr(
        examine.doctor,
        "version",
        lambda name: "4.11.0" if name == "opencv-python" else version(name),
    )
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: f"  GUI:      {gui}\n")
    status, wrong = examine()
    assert status == (0 if right else 1)
    if not right:
        (line,) = wrong
        assert "of opencv-python 4.11.0" in line
        assert line.endswith("pip install --force-reinstall --no-deps opencv-python-headless")


def test_torch_and_torchvision_that_are_no_pair(examine, monkeypatch):
    def nms(*_):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(torchvision.ops, "nms", nms)
    status, (line,) = examine()
    assert status == 1 and "torchvision::nms does not exist" in line
    assert line.endswith("install torch and torchvision as one matching pair")


def test_a_driver_whose_gpu_torch_does_not_see(examine, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(examine.doctor.shutil, "which", lambda _: "/usr/bin/nvidia-smi")
    monkeypatch.setattr(torch.version, "cuda", None)
    status, (line,) = examine()
    assert status == 1 and line.startswith("wrong device (CPU (there is an NVIDIA driver")
    assert line.endswith("install a torch built for CUDA")


def test_an_environment_without_the_parts_of_the_doctor_itself(load_tool, monkeypatch):
    monkeypatch.setitem(sys.modules, "rich.console", None)
    with pytest.raises(SystemExit) as end:
        load_tool("doctor")
    assert end.value.code == f"rich.console is missing in {sys.executable}: {INSTALL}"
