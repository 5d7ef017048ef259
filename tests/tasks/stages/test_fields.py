from dataclasses import replace

import numpy as np
import trimesh

from models.fields import Field
from models.geometry import Mesh
from tasks.engine.stage import Item
from tasks.params import Params
from tasks.stages.fields import FILE, Fields
from tests.support import make_item, make_record, start

SMALL = {"fields": {"resolution": 16, "truncation_cells": 3}}


def ball(radius: float) -> bytes:
    mesh = trimesh.creation.icosphere(3, radius)
    white_N4 = np.full((len(mesh.vertices), 4), 255, np.uint8)
    return Mesh(mesh.vertices.astype(np.float32), mesh.faces.astype(np.int32), white_N4).to_glb()


def item(*, truth: bool, teacher: bool, silhouette_iou: float | None = 0.9) -> Item:
    """silhouette_iou: what the gate measured of the teacher's mesh; None is nothing yet."""
    ingest = {"mesh.glb": ball(0.5)} if truth else {"photo.front.png": b""}
    upstreams = {"ingest": ingest} | ({"teach": {"mesh.glb": ball(0.3)}} if teacher else {})
    made = make_item(upstreams, facts={"ingest": {"has_truth": truth}})
    if silhouette_iou is None:
        return made
    good = {"psnr_db": 30, "brightness_ratio": 1, "area": 1, "components": 1, "watertight": True, "chamfer": None}
    gate = make_record({}, quality={**good, "silhouette_iou": silhouette_iou})
    return replace(made, records={**made.records, "gate": gate})


def test_the_truth_is_measured_where_there_is_one(tmp_path):
    output = start(Fields(), tmp_path, SMALL)(item(truth=True, teacher=True))
    field = Field.from_bytes(output.files[FILE])
    assert output.facts == {"shape": "truth", "coloured": True, "resolution": 16, "truncation": 0.20625}
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


def test_a_teachers_mesh_counts_where_the_gate_accepts_it_and_the_truth_whatever_the_gate_says():
    def reason(**made) -> str | None:
        return Fields().skip(item(teacher=True, **made).records, Params(SMALL))

    assert reason(truth=False) is None
    assert reason(truth=False, silhouette_iou=0.1) == "it has no true mesh, and the gate rejects the teacher's"
    assert reason(truth=False, silhouette_iou=None) == (
        "it has no true mesh, and the gate has not measured the teacher's"
    )
    assert reason(truth=True, silhouette_iou=0.1) is None


def test_it_runs_where_a_student_learns_from_fields():
    students = {"students": {"field": {}, "mesh_deform": {}}}
    other = {**students, "train": {"student": "mesh_deform"}}
    varied = {**students, "train": {"student": "mesh_deform", "variants": {"new": {"train.student": "field"}}}}
    assert Fields().idle(Params(other)) == "not needed by mesh_deform"
    assert Fields().idle(Params(varied)) is None
    assert Fields().idle(Params({**students, "train": {"student": "field"}})) is None
    assert Fields().idle(Params({**other, "fields": {"when": "always"}})) is None


def test_when_it_runs_does_not_change_what_it_makes():
    always = Params({"fields": {"when": "always"}})
    assert Fields().key_params(always) == Fields().key_params(Params({}))


def test_the_metrics_tell_whose_shapes_they_are(tmp_path):
    run = start(Fields(), tmp_path, SMALL)
    outputs = [run(item(truth=truth, teacher=True)) for truth in (True, True, False)]
    assert Fields().metrics(outputs, None) == {"shapes": {"teacher": 1, "truth": 2}}
