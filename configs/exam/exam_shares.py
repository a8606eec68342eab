"""As label_shares.py, but all slice labels of some exams are hidden.

pe-unified steps exam/exam_shares --data-root data/pe

Time: six times that of semi_weak.py.
Result: unknown.
"""

_base_ = "label_shares.py"

settings = dict(masked_label_mode="exams")
