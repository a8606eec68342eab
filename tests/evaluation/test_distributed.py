"""Two processes see what one sees: nothing lost, nothing counted twice."""

import json
import os
import sys
from contextlib import ExitStack

import pytest
from processes import started

WORKER = """
import json, sys
import torch.distributed as dist
from mmengine.dataset import DefaultSampler
from mmengine.evaluator import Evaluator
import pe_unified
from pe_unified.testing import tiny_batch
from mmengine.structures import InstanceData, PixelData
import torch

out = sys.argv[1]
if len(sys.argv) > 2:
    dist.init_process_group("gloo", init_method=f"file://{sys.argv[2]}",
                            rank=int(sys.argv[3]), world_size=2)
samples = tiny_batch((24, 24), 9, labels=[("cls", "seg", "det"), ("cls",), ("seg", "det")] * 3,
                     seed=1)["data_samples"]
generator = torch.Generator().manual_seed(0)
for sample in samples:
    score = torch.rand(1, generator=generator)
    sample.pred_score = torch.cat([1 - score, score])
    sample.seg_prob = PixelData(data=torch.rand(1, 24, 24, generator=generator))
    boxes = torch.rand(3, 4, generator=generator) * 12
    boxes[:, 2:] += boxes[:, :2]
    if "gt_instances" in sample and len(sample.gt_instances.bboxes):
        boxes[0] = sample.gt_instances.bboxes[0]
    sample.pred_instances = InstanceData(bboxes=boxes,
                                         scores=torch.rand(3, generator=generator))
evaluator = Evaluator([dict(type=f"pe_unified.{kind}Metric", resamples=100)
                       for kind in ("Slice", "Seg", "Det")])
for index in DefaultSampler(samples, shuffle=False):
    evaluator.process([samples[index]])
metrics = evaluator.evaluate(len(samples))
json.dump(metrics, open(out, "w"))
if dist.is_initialized():
    dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_measure_what_one_measures(tmp_path):
    alone = tmp_path / "alone.json"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def start(*arguments):
        return started([sys.executable, "-c", WORKER, *arguments], env=environment, cwd=tmp_path)

    with ExitStack() as stack:
        processes = [stack.enter_context(start(alone))]
        for rank in range(2):
            words = (tmp_path / f"rank{rank}.json", tmp_path / "meeting", rank)
            processes.append(stack.enter_context(start(*words)))
        assert [process.wait() for process in processes] == [0, 0, 0]
    expected = json.loads(alone.read_text())
    for rank in range(2):
        found = json.loads((tmp_path / f"rank{rank}.json").read_text())
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert found[key] == pytest.approx(value, nan_ok=True), key
    assert 0 < expected["det/mAP_50"] < 1 and 0 < expected["seg/dice"] < 1
