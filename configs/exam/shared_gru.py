"""Exam labels from features of the shared 2D backbone: GRU, attention per label.

pe-unified train exam/shared_gru --data-root data/pe --cfg-options features=FOLDER

FOLDER is the output of pe-unified extract exam/shared_features; shared.py does all steps.

Time: not measured.
Result: unknown.
"""

_base_ = "two_phase_gru.py"

# Features are four times as wide as those of chunks, so batches are smaller; as many exams in all.
batch_size = 8
accumulate = 8
max_iters = 48000
warmup_iters = 4000
train_cfg = dict(val_interval=16000)

model = dict(in_channels=2048)
