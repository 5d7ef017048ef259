from pathlib import Path
from typing import Any

import pytest

from models.errors import BadInput
from models.geometry import Mesh
from tasks.collections.files import file_sha256
from tasks.stages.sources import Found
from tasks.stages.sources.generated import Params, find, load


def found(tmp_path: Path, **params: Any) -> list[Found]:
    return list(find(Params(**params), tmp_path / "inbox", file_sha256))


def test_items_are_numbered_and_a_larger_count_keeps_the_others(tmp_path: Path) -> None:
    few, many = found(tmp_path, count=2), found(tmp_path, count=5)
    assert [item.label for item in few] == ["shoe-0000", "shoe-0001"]
    assert [item.id for item in many[:2]] == [item.id for item in few]
    assert len({item.id for item in many}) == 5


def test_another_seed_gives_other_objects(tmp_path: Path) -> None:
    assert not {item.id for item in found(tmp_path, seed=1)} & {item.id for item in found(tmp_path, seed=2)}


def test_mixed_takes_turns(tmp_path: Path) -> None:
    assert [item.class_name for item in found(tmp_path, shape="mixed", count=3)] == ["shoe", "eyeglasses", "shoe"]


def test_loading_makes_the_mesh_and_its_labels(tmp_path: Path) -> None:
    item = found(tmp_path, shape="eyeglasses", count=1)[0]
    loaded = load(item.payload, 10**7)
    assert loaded.mesh is not None
    assert len(Mesh.from_glb(loaded.mesh.data).faces_F3) > 1000
    assert {"style", "material", "colour", "size"} <= set(loaded.labels)
    assert load(item.payload, 10**7) == loaded
    with pytest.raises(BadInput, match=r"ingest\.max_file_mb"):
        load(item.payload, 1000)
