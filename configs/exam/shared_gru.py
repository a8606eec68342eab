"""Exam labels from features of the shared 2D backbone: GRU, attention per label.

pe-unified train exam/shared_gru --data-root data/pe --cfg-options features=FOLDER

FOLDER is what pe-unified extract exam/shared_features made; shared.py does all steps.

Time: not measured.
Result: not known.
"""

_base_ = "two_phase_gru.py"

model = dict(in_channels=2048)
