"""pe-unified: commands by their names, configs by theirs, from a clone or a wheel."""

import os
import shutil
import subprocess
import sys
import sysconfig
from functools import partial
from pathlib import Path

import pytest
from tiny_dataset import write_tiny_dataset

from pe_unified.cli import COMMANDS, main
from pe_unified.config_files import NoConfig, config_names, find_config
from pe_unified.engine import load_config


@pytest.fixture
def call(called):
    """pe-unified, in this process."""
    return partial(called, main, "pe-unified")


def process(*words, **options):
    """As a process of its own."""
    command = [sys.executable, "-m", "pe_unified", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, **options)


def test_every_command_is_listed_and_loads_nothing():
    code = "import sys; from pe_unified.cli import main; sys.argv[1:] = ['--help']\n"
    code += "try: main()\nexcept SystemExit: print([m for m in ('torch', 'numpy', 'rich') "
    code += "if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert all(f"  {name} " in done.stdout for name in COMMANDS)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("words", [("trian",), ("trian", "pe_cls_swin")])
def test_an_unknown_command_is_told_with_the_nearest(call, words):
    done = call(*words)
    assert done.returncode == 2
    assert done.stderr.startswith("pe-unified: there is no command 'trian'; did you mean train?")


def test_a_mistyped_set_is_no_success(call):
    done = call("convert", "fumpee", "RAW", "OUT")
    assert done.returncode == 2 and "did you mean convert fumpe?" in done.stderr
    assert call("convert", "--help").returncode == call("convert").returncode == 0


def test_a_recipe_takes_no_overrides_where_they_would_have_no_effect(call):
    done = call("config", "steps/r50", "--cfg-options", "max_iters=5")
    assert done.returncode == 1 and "pe-unified steps" in done.stderr


def test_a_command_has_its_own_name_in_its_help(call):
    done = call("convert", "fumpe", "--help")
    assert done.returncode == 0 and done.stdout.startswith("usage: pe-unified convert fumpe ")


def test_output_may_be_read_in_part():
    """As by ``| head``, which closes the pipe."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "pe_unified", "config"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_configs_are_found_by_name_and_by_path(repository, tmp_path):
    assert "pe_cls_swin" in config_names() and "steps/r50" in config_names()
    own = repository / "configs/pe_cls_swin.py"
    for name in ("pe_cls_swin", "configs/pe_cls_swin.py", "pe_unified::pe_cls_swin.py", own):
        assert find_config(name).resolve() == own
    with pytest.raises(NoConfig, match="did you mean pe_cls_swin"):
        find_config("pe_cls_swim")


def test_a_config_of_ones_own_starts_from_one_of_the_package(call, tmp_path):
    (tmp_path / "mine.py").write_text('_base_ = "pe_unified::pe_cls_swin.py"\ninput_size = 96\n')
    cfg = load_config(tmp_path / "mine.py")
    assert cfg.model.backbone.type == "PESwin"
    assert cfg.train_dataloader.dataset.pipeline[4]["size"] == 96
    done = call("config", tmp_path / "mine.py", "--cfg-options", "batch_size=3")
    assert done.returncode == 0 and "batch_size = 3" in done.stdout


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("pe-unified tr", "train"),
        ("pe-unified convert fu", "fumpe"),
        ("pe-unified steps --data", "--data-root"),
        ("pe-unified convert rsna --pos", "--positives"),
    ],
)
def test_a_shell_completes_commands_and_options(tmp_path, line, found):
    answer = tmp_path / "answer"
    asked = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line))}
    asked |= {"_ARGCOMPLETE_STDOUT_FILENAME": str(answer), "_ARGCOMPLETE_IFS": "\n"}
    process(env={**os.environ, **asked})
    assert found in answer.read_text().split()


@pytest.mark.slow
def test_a_wheel_works_away_from_the_repository(repository, tmp_path):
    source = tmp_path / "source"  # building leaves files
    for folder in ("pe_unified", "configs"):
        shutil.copytree(repository / folder, source / folder, symlinks=True)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copyfile(repository / name, source / name)
    build = [sys.executable, "-m", "pip", "wheel", source, "--no-deps", "-q"]
    subprocess.run([*build, "--no-build-isolation", "-w", tmp_path], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    site = next((tmp_path / "venv/lib").glob("python*")) / "site-packages"
    # What the package requires, without the package itself, which may be there as a clone.
    (site / "requirements.pth").write_text(sysconfig.get_path("purelib") + "\n")
    python = tmp_path / "venv/bin/python"
    subprocess.run([python, "-m", "pip", "install", "--no-deps", "-q", wheel], check=True)
    data = write_tiny_dataset(tmp_path / "data")
    place = tmp_path / "elsewhere"
    place.mkdir()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONPATH", None)

    def run(*words):
        command = [tmp_path / "venv/bin/pe-unified", *words]
        done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    where = "import pe_unified; print(pe_unified.__file__)"
    told = subprocess.check_output([python, "-c", where], cwd=place, env=environment, text=True)
    assert Path(told.strip()).is_relative_to(site)
    assert "pe_unified_r50" in run("config")
    small = ["pretrained=None", "input_size=64", "batch_size=4", "num_workers=0", "max_iters=2"]
    small += ["precision=fp32", "model.backbone.depth=18"]
    options = ["--data-root", data, "--cfg-options", *small]
    run("train", "pe_unified_r50", *options)
    weights = "work_dirs/pe_unified_r50/iter_2.pth"
    run("publish", "work_dirs/pe_unified_r50/pe_unified_r50.py", weights, "model.pth", *options)
    run("phantom", "raw", "--layout", "fumpe", "--studies", "1", "--size", "64", "--slices", "40")
    (study,) = (place / "raw/CT_scans").iterdir()
    run("infer", study, "--checkpoint", "model.pth", "--out", "report")
    assert (place / "report/report.html").is_file()
