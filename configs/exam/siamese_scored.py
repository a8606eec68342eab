"""The siamese network of siamese.py on the 20 slices that a classifier finds most like lung.

pe-unified train exam/siamese_scored --data-root data/pe --cfg-options lung_scores=FOLDER

FOLDER is what pe-unified extract exam/lung_scores made. A study that is no exam of a set has no
such scores: its slices are chosen by its Hounsfield units, as siamese.py chooses, and the report
says so.

Time: not measured.
Result: not known.
"""

_base_ = "siamese.py"

lung_scores = None
