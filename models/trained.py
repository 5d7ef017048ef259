"""A trained student as files: weights and what it takes to make it again. Reading one imports no training loop.

student.safetensors   averaged weights, best by validation
student.json          plug-in, its params, the forms of its inputs, how images were made ready; where it was exported
                      (`lostwax students export`), the licences of what it learned from
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from models import plugins
from models.students import Ask, Spec

if TYPE_CHECKING:
    import torch

    from models.casts import Cast
    from models.needs import Given, Needs
    from models.params import Block
    from models.student import Student

WEIGHTS, DESCRIPTION = "student.safetensors", "student.json"
Json = Any


def describe(name: str, params: Block, spec: Spec, preparation: Mapping[str, Json]) -> dict[str, Json]:
    """student.json of a plug-in's student. preparation: how images are made ready for it, as blocks of params.yaml."""
    own = params.model_dump(mode="json")
    return {"student": name, "params": own, "forms": dict(spec.forms), "preparation": dict(preparation)}


def to_files(state: Mapping[str, torch.Tensor], description: Mapping[str, Json]) -> dict[str, bytes]:
    from safetensors.torch import save

    return {
        WEIGHTS: save({name: tensor.contiguous() for name, tensor in sorted(state.items())}),
        DESCRIPTION: description_bytes(description),
    }


def description_bytes(description: Mapping[str, Json]) -> bytes:
    """Equal descriptions are equal bytes."""
    return (json.dumps(description, indent=1) + "\n").encode()


def load_student(files: Mapping[str, bytes], options: Mapping[str, Json] | None = None) -> Student:
    """The trained student of these files, on CPU. options: params that only prediction reads, set anew.

    Raises ValueError and its kind for files of another version.
    """
    from safetensors.torch import load

    from models.training.weights import load_trained

    description = json.loads(files[DESCRIPTION])
    plugin = plugins.load("students", description["student"])
    params = plugin.Params(**description["params"] | dict(options or {}))
    student: Student = plugin.create(params, Spec(description["forms"]), seed=0)
    load_trained(student, load(files[WEIGHTS]))
    return student


def needs_of(files: Mapping[str, bytes]) -> Needs:
    """What the trained student was declared to need."""
    description = json.loads(files[DESCRIPTION])
    plugin = plugins.load("students", description["student"])
    needs: Needs = plugin.needs(plugin.Params(**description["params"]))
    return needs


def cast(student: Student, item: Given, seed: int) -> Cast:
    """What it predicts of an item, whatever kind that is. Raises BadInput, EmptyOutput."""
    return student.predict(item, Ask(seed))


def name_of(files: Mapping[str, bytes]) -> str:
    """The student's plug-in."""
    return str(json.loads(files[DESCRIPTION])["student"])


def forms_of(files: Mapping[str, bytes]) -> Mapping[str, Json]:
    """What it was made for; see `models.students.Spec`."""
    forms: Mapping[str, Json] = json.loads(files[DESCRIPTION])["forms"]
    return forms


def with_licences(files: Mapping[str, bytes], licences: Sequence[str]) -> dict[str, bytes]:
    """The two files, student.json with the licences of what it learned from."""
    description = {**json.loads(files[DESCRIPTION]), "licences": list(licences)}
    return {WEIGHTS: files[WEIGHTS], DESCRIPTION: description_bytes(description)}


def licences_of(files: Mapping[str, bytes]) -> list[str]:
    """Of what it learned from; none where they were not kept."""
    return list(json.loads(files[DESCRIPTION]).get("licences", ()))


def preparation_of(files: Mapping[str, bytes]) -> Mapping[str, Json]:
    """How the images that it learned from were made ready; see `tasks.stages.prepare`."""
    kept: Mapping[str, Json] = json.loads(files[DESCRIPTION])["preparation"]
    return kept
