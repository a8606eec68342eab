"""Programs that follow runs, as the README names them, on a training of two iterations."""

import sqlite3
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_run import small_config

from pe_unified.engine import PERunner
from pe_unified.engine.logs import with_stores


@pytest.fixture
def run(repository, tiny_dataset, tmp_path):
    """Train with a backend, given as on the command line; the work dir."""

    def train(kind: str) -> Path:
        cfg = small_config(repository, tiny_dataset, tmp_path / "run", task="cls", max_iters=2)
        cfg.default_hooks.logger.interval = 1
        cfg.vis_backends = cfg.visualizer.vis_backends = [
            dict(type="LocalVisBackend"),
            dict(type=kind),
        ]
        PERunner.from_cfg(cfg).train()
        return tmp_path / "run"

    return train


@pytest.mark.slow
def test_tensorboard(run):
    (events,) = run("TensorboardVisBackend").rglob("events.out.*")
    read = EventAccumulator(str(events)).Reload()
    assert len(read.Scalars("loss")) == 2 and len(read.Scalars("cls/auc")) == 1


@pytest.mark.slow
def test_mlflow(run, monkeypatch):
    pytest.importorskip("mlflow", reason="the extra 'tracking' is not installed")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    work_dir = run("MLflowVisBackend")
    with sqlite3.connect(work_dir / "mlflow.db") as store:
        steps = store.execute("SELECT step FROM metrics WHERE key = 'loss'").fetchall()
        (places,) = store.execute("SELECT artifact_uri FROM runs").fetchall()
        params = dict(store.execute("SELECT key, value FROM params").fetchall())
    assert len(steps) == 2 and params["max_iters"] == "2"
    assert places[0].startswith((work_dir / "mlflow").as_uri())
    assert list((work_dir / "mlflow").rglob("*.log")), "the log is kept with the run"


@pytest.mark.slow
def test_weights_and_biases_offline(run, monkeypatch):
    pytest.importorskip("wandb", reason="the extra 'tracking' is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    (kept,) = run("WandbVisBackend").rglob("run-*.wandb")
    assert kept.stat().st_size > 1000 and kept.parent.name.startswith("offline-run-")


@pytest.mark.parametrize("elsewhere", [None, "http://server:5000"])
def test_the_store_of_mlflow(tmp_path, monkeypatch, elsewhere):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    if elsewhere:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", elsewhere)
    given = {"vis_backends": [{"type": "LocalVisBackend"}, {"type": "MLflowVisBackend"}]}
    local, mlflow = with_stores(given, tmp_path)["vis_backends"]
    assert mlflow["tracking_uri"] == (elsewhere or f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert ("artifact_location" in mlflow) is (elsewhere is None)
    assert local == {"type": "LocalVisBackend"} and given["vis_backends"][1].keys() == {"type"}
    own = {"type": "MLflowVisBackend", "tracking_uri": "sqlite:///own.db"}
    assert with_stores({"vis_backends": [own]}, tmp_path)["vis_backends"] == [own]
    assert with_stores({"type": "Visualizer", "vis_backends": None}, tmp_path) == {
        "type": "Visualizer",
        "vis_backends": None,
    }
