"""What exams of a set say about a model's lesions."""

import numpy as np

from pe_unified.inference.exam_readings import ExamReading, lesion_table


def reading(patient, group):
    return ExamReading(
        positive=True,
        patient=patient,
        group=group,
        step_mm=1.0,
        probability=[0.9],
        score=np.array([0.8]),
        possible=np.array([True]),
        answers=np.zeros((1, 5)),
        hits=np.ones((1, 1), dtype=bool),
    )


def test_intervals_of_lesions_are_over_groups_of_patients():
    table = lesion_table([reading("p1", "g"), reading("p2", "h"), reading("p3", "g")])
    assert table.patients == ("p1", "p2", "p3") and table.groups == ("g", "h", "g")
    assert table.units.tolist() == [0, 1, 0]
