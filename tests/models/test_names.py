import pytest

from models.names import nearest, there_are

STAGES = ("ingest", "views", "visual_hull")


@pytest.mark.parametrize(
    ("name", "meant"), [("veiws", "views"), ("VISUAL_HULL", "visual_hull"), ("visual-hull", "visual_hull"), ("x", None)]
)
def test_the_nearest_name_is_found_whatever_its_case(name, meant):
    assert nearest(name, STAGES) == meant


def test_all_names_are_told_and_the_likely_one_only_where_there_is_one():
    assert there_are(STAGES, "veiws") == "there are: ingest, views, visual_hull; did you mean views?"
    assert there_are(STAGES, "x") == "there are: ingest, views, visual_hull"
    assert there_are((), "x") == "there are: none"
