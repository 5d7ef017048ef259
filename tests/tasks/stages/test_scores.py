from tasks.stages.evaluate.summary import scores

FIGURES = {"accuracy": 0.01, "chamfer": 0.02, "fscore": 0.1, "iou": 0.8, "normal_consistency": 0.9, "num_items": 3}
PROXIES = {"proxy_chamfer_to_teacher": 0.03, "proxy_silhouette_iou": 0.9, "num_items": 2}
SHORT = {"items": 3, "chamfer": 0.02, "fscore": 0.1, "iou": 0.8, "normal_consistency": 0.9}


def test_scores_are_the_students_leading_figures_on_the_items_with_truth():
    true = {"student": FIGURES, "teacher": {"chamfer": 0.01}, "num_items": 3, "by_class": {}}
    assert scores({"test": true, "proxy": {"num_items": 1}}, "test") == SHORT


def test_without_truth_they_are_proxies_by_their_names():
    summary = {"val": {"num_items": 0, "by_class": {}}, "proxy": {"student": PROXIES, "num_items": 2}}
    assert scores(summary, "val") == {"items": 2, "proxy_chamfer_to_teacher": 0.03, "proxy_silhouette_iou": 0.9}


def test_nothing_evaluated_is_no_score():
    assert scores({"test": {"num_items": 0}}, "test") == {"items": 0}
