"""Each item goes to the method that its views allow, with that method's own params."""

from __future__ import annotations

import numpy as np
import pytest

from models.teachers import Site, inflation, visual_hull
from models.teachers.classical import Params, create
from models.views import Views
from tests.models.teachers.test_visual_hull import duck, photos_of, sphere_views

PARAMS = Params(
    visual_hull=visual_hull.Params(resolution=32, num_gaussians=10),
    inflation=inflation.Params(resolution=32, num_gaussians=10),
)


def views_without_cameras(*names: str) -> Views:
    return photos_of(duck(), 0.0, names)


@pytest.mark.parametrize(
    ("views", "method"),
    [
        (sphere_views(), "visual_hull"),
        (views_without_cameras("front", "left"), "visual_hull"),
        (views_without_cameras("left"), "inflation"),
        (views_without_cameras("front", "back"), "inflation"),
    ],
    ids=["known cameras", "two sides", "one photo", "front and back"],
)
def test_the_method_is_the_one_that_the_views_allow(views, method):
    made = create(PARAMS, Site()).generate(views, seed=3)
    module = {"visual_hull": visual_hull, "inflation": inflation}[method]
    alone = module.create(getattr(PARAMS, method), Site()).generate(views, seed=3)
    assert made.quality == {"method": method, **alone.quality}
    np.testing.assert_array_equal(made.mesh.vertices_N3, alone.mesh.vertices_N3)
    assert made.gaussians.to_ply() == alone.gaussians.to_ply()


def test_its_params_are_those_of_both_methods():
    assert Params().visual_hull == visual_hull.Params()
    assert Params().inflation == inflation.Params()
    with pytest.raises(ValueError, match="depht"):
        Params(inflation={"depht": 1})
