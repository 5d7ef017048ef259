import json

import pytest

from models import plugins
from tasks.order import ORDER
from tasks.versions import load_versions
from tests.architecture import closures


def test_every_stage_and_plugin_has_a_version():
    versions = load_versions(closures.ROOT / "versions.yaml")
    expected = set(ORDER) | {f"{family}.{name}" for family in plugins.FAMILIES for name in plugins.known(family)}
    assert set(versions) == expected


@pytest.mark.parametrize("entry", sorted(load_versions(closures.ROOT / "versions.yaml")))
def test_code_changes_only_with_a_raised_version_or_a_recorded_same_output(entry):
    recorded, now = json.loads(closures.RECORDED.read_text()).get(entry), closures.current()[entry]
    advice = (
        f"code behind {entry} changed: raise its number in versions.yaml if results change, then run "
        f"`python -m tests.architecture.closures record {entry}`"
    )
    assert recorded == now, advice


def test_a_docstring_does_not_change_a_digest_and_a_number_does(tmp_path, monkeypatch):
    def digest(text: str) -> str:
        folder = tmp_path / str(len(list(tmp_path.iterdir()))) / "models"
        folder.mkdir(parents=True)
        (folder / "thing.py").write_text(text)
        monkeypatch.setattr(closures, "ROOT", folder.parent)
        monkeypatch.setattr(closures, "entry_module", lambda _: "models.thing")
        monkeypatch.setattr(closures, "submodules", lambda _: [])
        closures.tree.cache_clear()
        closures.imports.cache_clear()
        return closures.digest("thing")

    try:
        plain = digest("def f():\n    return 1\n")
        assert digest('"""Words."""\ndef f():\n    "More."\n\n    return 1\n') == plain
        assert digest("def f():\n    return 2\n") != plain
    finally:
        closures.tree.cache_clear()
        closures.imports.cache_clear()
