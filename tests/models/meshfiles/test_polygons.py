import numpy as np
import numpy.typing as npt
import pytest

from models.errors import BadInput
from models.meshfiles import polygons
from models.meshfiles.polygons import cut

L_SHAPE = [(0, 0), (3, 0), (3, 1), (1, 1), (1, 3), (0, 3)]
ARROW = [(0, 0), (2, -1), (0.5, 0), (2, 1)]
SPIRAL = [(0, 0), (5, 0), (5, 5), (1, 5), (1, 2), (3, 2), (3, 3), (2, 3), (2, 4), (4, 4), (4, 1), (0, 1)]
IN_PLACE = np.eye(3)
TURNS = np.arange(10) * np.pi / 5
STAR = list(zip(np.cos(TURNS) * np.tile([3, 1], 5), np.sin(TURNS) * np.tile([3, 1], 5), strict=True))
COMB = [point for x in range(40) for point in ((x, 0), (x + 0.1, 5), (x + 0.5, 0.2))] + [(39.5, -1), (0, -1)]


def triangles(corners: list[tuple[float, float]], matrix: npt.ArrayLike = IN_PLACE) -> npt.NDArray[np.float64]:
    """Triangles (F, 3, 3) of one polygon in the plane z = 7, turned by a matrix."""
    positions = np.array([(x, y, 7.0) for x, y in corners]) @ np.asarray(matrix).T
    faces, rows = cut(np.array([len(corners)]), np.arange(len(corners)), positions)
    assert len(faces) == len(corners) - 2
    assert not rows.any()
    found: npt.NDArray[np.float64] = positions[faces]
    return found


def signed_areas(triangles_F33: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Seen from +Z."""
    sides = triangles_F33[:, 1:] - triangles_F33[:, :1]
    areas: npt.NDArray[np.float64] = np.cross(sides[:, 0], sides[:, 1])[:, 2] / 2
    return areas


def shoelace(corners: list[tuple[float, float]]) -> float:
    x, y = np.array(corners).T
    return float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2)


@pytest.mark.parametrize("corners", [L_SHAPE, ARROW, SPIRAL, STAR, COMB, L_SHAPE[::-1], SPIRAL[::-1]])
@pytest.mark.parametrize("start", [0, 1, 2, 3])
def test_hollow_polygons_are_covered_once_and_keep_their_turn(corners: list[tuple[float, float]], start: int) -> None:
    """Areas add up to the polygon's and none is turned back, so no two triangles overlap and none lies outside."""
    areas = signed_areas(triangles(corners[start:] + corners[:start]))
    expected = shoelace(corners)
    assert areas.sum() == pytest.approx(expected)
    assert (areas * np.sign(expected) > -1e-9).all()


def test_it_does_not_matter_how_a_polygon_lies_in_space() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        sides = triangles(SPIRAL, turn)
        area = np.linalg.norm(np.cross(sides[:, 1] - sides[:, 0], sides[:, 2] - sides[:, 0]), axis=1).sum() / 2
        assert area == pytest.approx(abs(shoelace(SPIRAL)))


def test_convex_polygons_are_fans_and_polygons_of_all_sizes_stay_in_order() -> None:
    ring = np.array([(np.cos(turn), np.sin(turn), 0) for turn in np.arange(7) * 2 * np.pi / 7])
    lengths = np.array([3, 5, 2, 4, 0, 3])
    vertices = np.array([0, 1, 2, 0, 1, 2, 3, 4, 5, 6, 0, 2, 4, 6, 4, 5, 6])
    faces, rows = cut(lengths, vertices, ring)
    assert rows.tolist() == [0, 1, 1, 1, 3, 3, 5]
    assert vertices[faces].tolist() == [[0, 1, 2], [0, 1, 2], [0, 2, 3], [0, 3, 4], [0, 2, 4], [0, 4, 6], [4, 5, 6]]


def test_a_hollow_polygon_that_would_take_for_ever_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polygons, "MOST_CORNERS", 5)
    with pytest.raises(BadInput, match="a face has 6 corners and is not convex: cut it into triangles"):
        triangles(L_SHAPE)
    assert len(triangles([(np.cos(turn), np.sin(turn)) for turn in range(6)])) == 4


def test_polygons_without_area_or_that_cross_themselves_end() -> None:
    for corners in ([(0, 0)] * 6, [(0, 0), (1, 0), (2, 0), (3, 0), (1.5, 0)], [(0, 0), (2, 2), (2, 0), (0, 2), (1, 3)]):
        assert triangles(corners).shape == (len(corners) - 2, 3, 3)
