"""The siamese network of siamese.py on the 20 slices that a classifier rates most like lung.

pe-unified train exam/siamese_scored --data-root data/pe --cfg-options lung_scores=FOLDER

FOLDER is the output of pe-unified extract exam/lung_scores. A study that is not part of a set has
no such scores: its slices are selected by its Hounsfield units, as in siamese.py, and the report
says so.

Time: not measured.
Result: unknown.
"""

_base_ = "siamese.py"

lung_scores = ""  # without a folder there is an error, not another selection
