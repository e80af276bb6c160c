"""The files in deploy/ are well-formed, and start workers with options that the command has."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

yaml = pytest.importorskip("yaml")

DEPLOY = Path(__file__).parents[2] / "deploy"


def known_options() -> set[str]:
    text = subprocess.run([sys.executable, "-m", "vexact", "worker", "--help"], capture_output=True, text=True).stdout
    return {word for word in shlex.split(text.replace("'", "").replace('"', ""), comments=False) if word.startswith("--")}


def check(command: list[str]) -> None:
    assert command[0] == "worker"
    options = [word for word in command if word.startswith("--")]
    assert set(options) <= known_options() and "--token-file" in options


def test_the_compose_file_starts_workers() -> None:
    compose: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    worker = compose["services"]["worker"]
    check(worker["command"])
    assert worker["deploy"]["replicas"] > 1
    assert set(worker["secrets"]) <= set(compose["secrets"])
    assert (DEPLOY / worker["build"]["context"] / worker["build"]["dockerfile"]).exists()


def test_the_manifest_has_a_headless_service_in_front_of_its_workers() -> None:
    service, deployment = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())
    assert (service["kind"], service["spec"]["clusterIP"], deployment["kind"]) == ("Service", "None", "Deployment")
    template = deployment["spec"]["template"]
    assert template["metadata"]["labels"] == service["spec"]["selector"] == deployment["spec"]["selector"]["matchLabels"]
    container = template["spec"]["containers"][0]
    check(container["args"])
    assert container["ports"][0]["containerPort"] == service["spec"]["ports"][0]["port"] == 8815
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in template["spec"]["volumes"]}


def test_the_image_has_the_instructions_that_it_needs() -> None:
    lines = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    instructions = [line.split()[0] for line in lines if line and not line.startswith("#")]
    known = {"FROM", "RUN", "WORKDIR", "COPY", "USER", "EXPOSE", "ENTRYPOINT", "CMD"}
    assert set(instructions) <= known and instructions[0] == "FROM" and instructions.count("FROM") == 2
    command = next(line for line in lines if line.startswith("CMD "))
    check(yaml.safe_load(command.removeprefix("CMD ")))
