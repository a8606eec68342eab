"""Exam labels in winner style: features with their differences, GRU of 512, attention.

pe-unified train exam/winner_gru --data-root data/pe --cfg-options features=FOLDER

FOLDER is written by pe-unified extract exam/winner_features.

Time: not measured.
Result: unknown.
"""

_base_ = "shared_gru.py"

train_dataloader = dict(dataset=dict(max_steps=192))
val_dataloader = dict(dataset=dict(max_steps=192))
test_dataloader = dict(dataset=dict(max_steps=192))
model = dict(aggregator=dict(width=512))
