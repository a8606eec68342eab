"""As label_shares.py, with all slice labels hidden of some exams.

pe-unified steps exam/exam_shares --data-root data/pe

Time: six times that of semi_weak.py.
Result: not known.
"""

_base_ = "label_shares.py"

settings = dict(masked_label_mode="exams")
