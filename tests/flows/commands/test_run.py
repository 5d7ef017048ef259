import json
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from flows.cli import app
from tests.support import make_workspace


def test_json_says_how_the_run_ended_and_where_its_stages_stand(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = make_workspace(tmp_path / "w")
    asked: dict[str, Any] = {}
    monkeypatch.setattr("flows.local.run_here", lambda _, **options: asked.update(options) or 3)
    words = ["run", "--json", "--until", "views", "--limit", "5", "-w", str(workspace.root)]
    ended = CliRunner().invoke(app, words)
    assert ended.exit_code == 3
    found = json.loads(ended.stdout)
    assert found["exit_code"] == 3
    assert [stage["stage"] for stage in found["stages"]] == ["ingest", "views"]
    assert (asked["until"], asked["overrides"]) == ("views", ["ingest.limit=5"])


def test_every_command_has_an_example_and_an_explanation_of_every_option() -> None:
    commands = dict(get_command(app).commands)  # type: ignore[attr-defined]
    teacher = commands.pop("teacher")
    for name, command in (commands | teacher.commands).items():
        assert "Example" in command.help, name
        assert [parameter.name for parameter in command.params if not parameter.help] == [], name


@pytest.mark.parametrize("name", ["run", "plan", "status", "explain", "gc", "doctor", "params"])
def test_commands_that_print_a_table_print_json_too(name: str) -> None:
    command = get_command(app).commands[name]  # type: ignore[attr-defined]
    assert "--json" in [option for parameter in command.params for option in parameter.opts]
