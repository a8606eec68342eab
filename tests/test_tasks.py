from pe_unified.tasks import SLICE_TASKS, TASKS


def test_figures_by_step_have_names_of_their_own():
    names = [task.figure_name for task in TASKS.values()]
    of_volumes = ["lesion_sensitivity", "artery_dice"]
    assert names == ["auc", "iou", "map", "exam_auc", *of_volumes]


def test_tables_and_figures_show_what_is_measured():
    for task in TASKS.values():
        assert {*task.columns, *task.figure, task.main} <= set(task.metrics)
        assert not [name for name in task.metrics if "loss" in name]  # mmengine would sum them


def test_a_model_of_slices_answers_neither_exams_nor_volumes():
    assert SLICE_TASKS == ("cls", "seg", "det")
