import numpy as np
import trimesh

from models.fields import Field
from models.geometry import Mesh
from tasks.engine.stage import Item
from tasks.params import Params
from tasks.stages.fields import FIELD, Fields
from tests.support import make_item, start

SMALL = {"fields": {"resolution": 16, "truncation_cells": 3}}


def ball(radius: float) -> bytes:
    mesh = trimesh.creation.icosphere(3, radius)
    white_N4 = np.full((len(mesh.vertices), 4), 255, np.uint8)
    return Mesh(mesh.vertices.astype(np.float32), mesh.faces.astype(np.int32), white_N4).to_glb()


def item(*, truth: bool, teacher: bool) -> Item:
    ingest = {"mesh.glb": ball(0.5)} if truth else {"photo.front.png": b""}
    upstreams = {"ingest": ingest} | ({"teach": {"mesh.glb": ball(0.3)}} if teacher else {})
    return make_item(upstreams, facts={"ingest": {"has_truth": truth}})


def test_the_truth_is_measured_where_there_is_one(tmp_path):
    output = start(Fields(), tmp_path, SMALL)(item(truth=True, teacher=True))
    field = Field.from_bytes(output.files[FIELD])
    assert output.facts == {"shape": "truth", "coloured": True}
    assert field.resolution == 16
    assert abs(field.distance_RRR[1, 8, 8]) < field.cell and field.distance_RRR[8, 8, 8] == np.float16(
        -field.truncation
    )
    assert output.quality["doubtful_share"] == 0
    assert abs(output.quality["inside_share"] - 4 / 3 * np.pi * 0.5**3 / 1.1**3) < 0.02


def test_the_teachers_shape_is_measured_where_there_is_no_truth(tmp_path):
    output = start(Fields(), tmp_path, SMALL)(item(truth=False, teacher=True))
    assert output.facts["shape"] == "teacher"
    assert abs(output.quality["inside_share"] - 4 / 3 * np.pi * 0.3**3 / 1.1**3) < 0.02


def test_only_the_mesh_that_is_measured_enters_the_key():
    params = Params(SMALL)
    assert Fields().reads(item(truth=True, teacher=True).records, params) == [("ingest", "mesh.glb")]
    assert Fields().reads(item(truth=False, teacher=True).records, params) == [("teach", "mesh.glb")]


def test_an_item_without_any_mesh_is_skipped_with_the_reason():
    records = item(truth=False, teacher=False).records
    assert Fields().skip(records, Params(SMALL)) == "it has no true mesh, and the teacher made none of it"
    assert Fields().skip(item(truth=True, teacher=False).records, Params(SMALL)) is None


def test_the_metrics_tell_whose_shapes_they_are(tmp_path):
    run = start(Fields(), tmp_path, SMALL)
    outputs = [run(item(truth=truth, teacher=True)) for truth in (True, True, False)]
    assert Fields().metrics(outputs, None) == {"shapes": {"teacher": 1, "truth": 2}}
