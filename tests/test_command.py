"""The edge of every command: errors in one line, Ctrl-C that leaves no process behind."""

import errno
import os
import signal
import subprocess
import sys

import pytest
import torch
from processes import session, started, wait_for_the_end_of_all, wait_until
from tiny_run import small_settings

from pe_unified.command import exit_on_user_error
from pe_unified.errors import DataError, UserError
from pe_unified.workers import WorkerDied, open_executor

#: What stands in no line for a user.
_NOISE = ("Traceback", "leaked", "KeyboardInterrupt")
#: How torch passes on an error of a data loader's process.
IN_LOADER = "Caught FileNotFoundError in DataLoader worker process 0.\nOriginal Traceback (most"
GOES_ON = "stopped; run the same command again to continue"


def end_of(error, **options):
    with pytest.raises(SystemExit) as end, exit_on_user_error(**options):
        raise error
    return end.value.code


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserError("no such head; did you mean seg_head?"), "no such head; did you mean seg_head?"),
        (OSError(errno.ENOSPC, "No space left on device", "/data/x"), "/data/x: No space left on"),
        (RuntimeError("received 0 items of ancdata"), "too many open files, the limit is"),
        (
            torch.OutOfMemoryError("CUDA out of memory."),
            "the GPU's memory is full; use less: --cfg",
        ),
        (OSError(errno.EMFILE, "Too many open files"), "raise it (ulimit -n 4096)"),
        (FileNotFoundError(f"{IN_LOADER}\nFileNotFoundError: no slice at /x"), "no slice at /x"),
    ],
)
def test_what_a_user_can_mend_is_one_line(error, line):
    told = end_of(error)
    assert told.startswith("error: ") and line in told and "\n" not in told


class _Unreadable(torch.utils.data.Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise DataError("masks/PAT1.nii.gz", "holds no arteries", "give masks of arteries")


def test_a_file_that_a_loaders_process_cannot_read_is_one_line():
    with pytest.raises(SystemExit) as end, exit_on_user_error():
        list(torch.utils.data.DataLoader(_Unreadable(), num_workers=1))
    assert end.value.code == ("error: masks/PAT1.nii.gz: holds no arteries; give masks of arteries")


def test_errors_whose_causes_run_in_a_circle():
    error, other = UserError("no slice"), ValueError("header")
    error.__cause__, other.__cause__ = other, error
    assert end_of(error) == "error: no slice"


def test_other_errors_are_bugs_unless_everything_is_told(capsys):
    with pytest.raises(ZeroDivisionError), exit_on_user_error():
        raise ZeroDivisionError
    assert "unexpected, ZeroDivisionError" in end_of(ZeroDivisionError("x"), everything=True)
    assert end_of(ValueError("--folds"), also=(ValueError,), status=2) == 2
    assert capsys.readouterr().err == "error: --folds\n"


def test_an_error_in_the_wake_of_ctrl_c_is_none(capsys):
    """Workers that end then may raise errors in place of KeyboardInterrupt."""
    # What runs the tests in the background may have set it to be ignored.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(SystemExit) as end, exit_on_user_error(goes_on="go on"):
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            raise RuntimeError("DataLoader worker is killed")
    signal.signal(signal.SIGINT, handler)
    assert end.value.code == 130 and capsys.readouterr().err == "stopped; go on\n"


def test_a_worker_that_is_killed_is_told():
    with pytest.raises(WorkerDied, match="memory ran out"), open_executor(2) as (executor, _):
        executor.submit(signal.raise_signal, signal.SIGKILL).result()


def strike(words, begun, whom, repository, **options):
    """Start a command, send SIGINT once it has begun, wait until nothing of it is left."""
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    with started([sys.executable, *words], cwd=repository, **pipes, **options) as process:
        wait_until(lambda: begun(process), process)
        if whom == "group":
            os.killpg(process.pid, signal.SIGINT)
        elif whom == "kill":
            process.kill()
        else:
            process.send_signal(signal.SIGINT)
        wait_for_the_end_of_all(process)
        return process.returncode, process.stderr.read()


def paints(process):
    """Worker processes beside the parent, its fork server and its tracker."""
    return len(session(process)) >= 4


@pytest.mark.parametrize("whom", ["group", pytest.param("parent", marks=pytest.mark.slow)])
def test_ctrl_c_ends_painting_and_its_workers(repository, tmp_path, whom):
    words = ["data_converters/make_phantom.py", tmp_path / "raw", "--layout", "fumpe"]
    words += ["--studies", "40", "--workers", "2"]
    status, said = strike(words, paints, whom, repository)
    assert status == 130 and said.splitlines()[-1] == GOES_ON
    assert not [noise for noise in _NOISE if noise in said]


@pytest.mark.slow
@pytest.mark.parametrize("whom", ["group", "parent", "kill"])
def test_the_demo_ends_with_all_that_it_started(repository, tmp_path, whom):
    words = ["tools/demo.py", "--data", tmp_path / "data", "--work-dir", tmp_path / "run"]
    status, said = strike(
        [*words, "--workers", "2"], lambda process: len(session(process)) >= 5, whom, repository
    )
    assert not [noise for noise in _NOISE if noise in said]
    if whom != "kill":
        assert status == 130 and said.splitlines()[-1] == GOES_ON


def test_a_demo_that_is_deaf_to_ctrl_c_ends_with_all_that_it_started(repository, tmp_path):
    """As one in the background of a script is."""
    words = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh", sys.executable, "tools/demo.py"]
    words += ["--data", tmp_path / "data", "--work-dir", tmp_path / "run", "--workers", "2"]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with started(words, cwd=repository, **pipes) as process:
        wait_until(lambda: len(session(process)) >= 5, process)
        process.kill()
        wait_for_the_end_of_all(process)
    painted = list((tmp_path / "data/raw/fumpe/CT_scans").glob("PAT*"))
    assert len(painted) < 24, "painting was not brought to its end"


@pytest.mark.slow
@pytest.mark.parametrize("whom", ["group", "parent"])
def test_ctrl_c_ends_training_and_its_loaders(repository, tiny_dataset, tmp_path, whom):
    settings = {**small_settings("cls"), "num_workers": 2}
    lines = "".join(f"{key} = {value!r}\n" for key, value in settings.items())
    (tmp_path / "small.py").write_text(f'_base_ = "pe_unified::pe_cls_r50"\n{lines}')
    words = ["tools/train.py", tmp_path / "small.py", "--data-root", tiny_dataset]
    words += ["--work-dir", tmp_path / "run"]
    status, said = strike(words, lambda process: len(session(process)) >= 3, whom, repository)
    assert status == 130
    assert said.splitlines()[-1] == "stopped; --resume continues from the newest checkpoint"
    assert not [noise for noise in _NOISE if noise in said]


@pytest.mark.slow
@pytest.mark.parametrize("whom", ["group", "parent", "kill"])
def test_ctrl_c_ends_steps_side_by_side(repository, tiny_dataset, tmp_path, whom):
    words = ["tools/train_steps.py", "configs/demo/steps.py", "--data-root", tiny_dataset]
    words += ["--work-dir", tmp_path / "run", "--jobs", "2", "--cfg-options", "num_workers=1"]

    def trains(process):
        return any((tmp_path / "run").glob("*/*/*.log"))

    status, said = strike(words, trains, whom, repository)
    assert not [noise for noise in _NOISE if noise in said] or whom == "kill"
    if whom != "kill":
        assert status == 130 and said.splitlines()[-1] == GOES_ON


def test_help_loads_no_network(repository):
    """All commands in one process, with torch and OpenMMLab out of reach."""
    commands = sorted(
        path
        for folder in ("tools", "data_converters")
        for path in (repository / folder).glob("*.py")
        if path.stem not in ("command_line", "__init__")
    )
    code = f"""
import runpy, sys
for name in ("torch", "torchvision", "mmengine", "mmcv"):
    sys.modules[name] = None
for path in {[str(path) for path in commands]!r}:
    sys.argv = [path, "--help"]
    sys.path.insert(0, path.rpartition("/")[0])
    try:
        runpy.run_path(path, run_name="__main__")
    except SystemExit as end:
        assert not end.code, path
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("usage:") == len(commands)


def test_commands_without_a_network_load_none():
    """So that a reader's screen opens in a second or two."""
    code = """
import sys
import pe_unified.archive.service, pe_unified.evaluation.masks.result_files
import pe_unified.review.export, pe_unified.review.suggest, pe_unified.serve.app
print([name for name in ("torch", "mmengine") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr[-2000:]
