"""All three tasks at 512 x 512, fine-tuned from weights of the comparison; for speed tests.

pe-unified train benchmarks/study_r50 --data-root data/results/pe --cfg-options \
  load_from=work_dirs/results_r50/seed0/s9_unified/iter_150.pth

It provides a model of the real size for pe-unified benchmark study (docs/performance.md).

Time: about 9 minutes on 2 idle CPU cores.
Result: slice AUC 0.86 on 14 synthetic validation patients, from weights of an earlier comparison
with 300 iterations at 256 x 256; not a model for patients.
"""

_base_ = "../pe_unified_r50.py"

pretrained = None
windows = ["embolus", "pe", "lung"]
batch_size = 8
num_workers = 0
max_iters = 100
warmup_iters = 10
lr = 5e-4
model = dict(task_weights=dict(det=3.0))
default_hooks = dict(checkpoint=dict(interval=25, max_keep=1))
