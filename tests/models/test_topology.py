"""Pieces, closedness and volume of meshes that are known."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from models.geometry import Mesh
from models.topology import components, is_watertight, volume


def boxes(*centres: float, side: float = 0.2) -> Mesh:
    parts = [trimesh.creation.box((side, side, side)).apply_translation((x, 0, 0)) for x in centres]
    joined = trimesh.util.concatenate(parts)
    return Mesh(np.asarray(joined.vertices, np.float32), np.asarray(joined.faces, np.int32))


def test_a_box_is_closed_and_encloses_its_volume():
    assert is_watertight(boxes(0.1))
    assert volume(boxes(0.1)) == pytest.approx(0.008, rel=1e-5)


def test_an_inside_out_box_has_negative_volume():
    box = boxes(0)
    assert volume(Mesh(box.vertices_N3, box.faces_F3[:, ::-1])) == pytest.approx(-0.008, rel=1e-5)


def test_pieces_are_counted_by_their_links():
    piece = components(boxes(-0.3, 0.3))
    assert piece.max() == 1
    assert len(set(piece[:8])) == len(set(piece[8:])) == 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda faces: faces[1:],
        lambda faces: np.concatenate([faces[:1, ::-1], faces[1:]]),
        lambda faces: np.concatenate([faces, faces[:1]]),
        lambda faces: faces[:0],
    ],
)
def test_a_missing_flipped_or_doubled_face_is_not_watertight(damage):
    box = boxes(0)
    assert not is_watertight(Mesh(box.vertices_N3, damage(box.faces_F3)))
