from tasks.stages.evaluate.summary import scores

POOL = {
    "student": {"chamfer": 0.02, "iou": 0.8, "normal_consistency": 0.9, "fscore": 0.1, "num_items": 3},
    "teacher": {"chamfer": 0.01},
    "num_items": 3,
}
SHORT = {"chamfer": 0.02, "iou": 0.8, "normals": 0.9, "items": 3, "teacher_chamfer": 0.01}


def test_scores_are_the_students_figures_on_the_items_with_truth():
    assert scores({"test": {**POOL, "by_class": {}}, "proxy": {"num_items": 1}}, "test") == SHORT


def test_figures_without_truth_are_labelled():
    only_proxies = {"val": {"num_items": 0, "by_class": {}}, "proxy": POOL}
    assert scores(only_proxies, "val") == {f"proxy_{name}": value for name, value in SHORT.items()}


def test_what_was_not_measured_is_left_out():
    assert scores({"test": {"num_items": 0}}, "test") == {"proxy_items": 0}
    assert scores({"test": {"num_items": 1, "student": {"chamfer": 0.5}}}, "test") == {"items": 1, "chamfer": 0.5}
