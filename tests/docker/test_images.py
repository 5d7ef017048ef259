"""docker/ without Docker: what it copies exists, what it starts is ours, nothing is exposed or secret."""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import subprocess
import tomllib
from typing import Any

import pytest
import yaml

from tests.support import ROOT

DOCKER = ROOT / "docker"
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions with continuation lines joined."""
    text = (DOCKER / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]


def copied_from_the_checkout() -> list[str]:
    copies = [rest.split() for word, rest in instructions() if word == "COPY" and "--from=" not in rest]
    return [source for words in copies for source in words[:-1]]


def test_the_image_is_built_in_two_stages_and_runs_as_nobody_in_particular() -> None:
    words = [word for word, _ in instructions()]
    assert words.count("FROM") == 2
    last = instructions()[len(words) - words[::-1].index("FROM") - 1 :]
    assert [rest for word, rest in last if word == "USER"] == ["lostwax"]
    assert [rest for word, rest in last if word == "ENTRYPOINT"] == ['["lostwax"]']
    assert not any(tool in rest for _, rest in last for tool in ("gcc", "build-essential", "uv ", "pip "))


def test_everything_the_image_copies_exists_and_is_sent_to_the_builder() -> None:
    kept = [line[1:] for line in (DOCKER / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")]
    for source in copied_from_the_checkout():
        assert (ROOT / source).exists(), source
        assert source in kept


def test_the_image_has_what_the_build_of_the_wheel_needs() -> None:
    copied = copied_from_the_checkout()
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    for path in [*wheel["only-include"], *wheel["force-include"]]:
        assert any(fnmatch.fnmatch(path, source) or path.startswith(f"{source}/") for source in copied), path


def test_the_image_installs_the_gl_packages_and_the_uv_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text()
    packages = re.search(r"^GL_PACKAGES := (.*)$", makefile, re.MULTILINE)
    uv = re.search(r"^UV_VERSION := (.*)$", makefile, re.MULTILINE)
    assert packages
    assert uv
    dockerfile = (DOCKER / "Dockerfile").read_text()
    assert packages[1] in dockerfile
    assert f"uv=={uv[1]}" in dockerfile


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_an_image_known_dependencies_and_ports_on_loopback_only(name: str) -> None:
    service = SERVICES[name]
    assert "image" in service or "build" in service
    for dependency, condition in service.get("depends_on", {}).items():
        assert dependency in SERVICES
        assert condition["condition"] in ("service_healthy", "service_completed_successfully")
        if condition["condition"] == "service_healthy":
            assert "healthcheck" in SERVICES[dependency]
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:")
    for volume in service.get("volumes", []):
        assert volume.partition(":")[0] in COMPOSE["volumes"]
    for context in [service["build"]] if "build" in service else []:
        assert (DOCKER / context["context"] / context["dockerfile"]).is_file()


def test_what_a_service_runs_is_a_command_that_exists() -> None:
    from typer.main import get_command

    from flows.cli import app

    known = get_command(app).commands  # type: ignore[attr-defined]
    assert SERVICES["worker"]["command"][0] in known
    for line in SERVICES["deploy"]["command"][0].split("&&"):
        program, command, *_ = line.split()
        assert program == "lostwax"
        assert command in known


def test_passwords_come_from_the_environment_and_must_be_given() -> None:
    text = (DOCKER / "compose.yaml").read_text()
    mentions = re.findall(r"\$\{POSTGRES_PASSWORD[^}]*\}", text)
    assert len(mentions) == 2
    assert all(mention.startswith("${POSTGRES_PASSWORD:?") for mention in mentions)
    assert not re.search(r"(?i)password\s*[:=]\s*[\"']?\w", text)


@pytest.mark.skipif(
    shutil.which("docker") is None
    or subprocess.run(["docker", "compose", "version"], capture_output=True).returncode != 0,
    reason="docker's compose plug-in is not installed",
)
def test_docker_accepts_the_compose_file() -> None:
    command = ["docker", "compose", "--file", str(DOCKER / "compose.yaml"), "config", "--quiet"]
    environment = {name: value for name, value in os.environ.items() if name != "POSTGRES_PASSWORD"}
    given = subprocess.run(command, env=environment | {"POSTGRES_PASSWORD": "x"}, capture_output=True, text=True)
    assert given.returncode == 0, given.stderr
    assert subprocess.run(command, env=environment, capture_output=True).returncode != 0
