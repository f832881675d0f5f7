"""Images and compose file: linted, pinned, closed to the outside, naming what exists."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer.main

from flows.cli import app
from tests.builders_flows import ROOT
from tests.docker.files import (
    COMPOSE,
    DOCKER,
    DOCKERFILES,
    EXAMPLE,
    compose,
    filled,
    of,
    of_ours,
    run_words,
    services,
    stages,
    variables,
)

PROGRAMS = Path(sys.executable).parent
SECRET = re.compile(r"PASSWORD|SECRET|ACCESS_KEY|AUTH|CONNECTION_URL")
each_dockerfile = pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)


def lint(path: Path) -> "subprocess.CompletedProcess[str]":
    command = [str(PROGRAMS / "hadolint"), "--failure-threshold", "info", str(path)]
    return subprocess.run(command, capture_output=True, text=True)


def check_schema(path: Path) -> "subprocess.CompletedProcess[str]":
    command = [str(PROGRAMS / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec"]
    return subprocess.run([*command, str(path)], capture_output=True, text=True)


def test_there_is_an_image_for_cpu_and_one_for_gpu() -> None:
    assert [path.name for path in DOCKERFILES] == ["cpu.Dockerfile", "gpu.Dockerfile"]


@each_dockerfile
def test_hadolint_has_nothing_to_say(path: Path) -> None:
    said = lint(path)
    assert (said.returncode, said.stdout) == (0, "")


def test_hadolint_would_say_it(tmp_path: Path) -> None:
    bad = tmp_path / "Dockerfile"
    bad.write_text("FROM debian:latest\nRUN cd /tmp\n")
    assert lint(bad).returncode != 0


def test_the_compose_file_follows_its_schema() -> None:
    said = check_schema(COMPOSE)
    assert said.returncode == 0, said.stdout


def test_the_schema_would_refuse_an_unknown_key(tmp_path: Path) -> None:
    bad = tmp_path / "compose.yaml"
    bad.write_text(COMPOSE.read_text().replace("healthcheck:", "healthchecks:"))
    assert check_schema(bad).returncode != 0


@each_dockerfile
def test_bases_are_pinned_by_digest(path: Path) -> None:
    for base in of(path, "FROM"):
        image = base.split()[0]
        assert image in stages(path) or re.search(r":[\w.-]+@sha256:[0-9a-f]{64}$", image)


@each_dockerfile
def test_the_base_has_a_python_the_project_takes(path: Path) -> None:
    release = re.search(r"python:(\d+)\.(\d+)", path.read_text())
    assert release is not None
    assert (3, 11) <= (int(release[1]), int(release[2])) < (3, 13)


@each_dockerfile
def test_an_image_runs_as_a_user_without_rights(path: Path) -> None:
    assert of(path, "USER") == ["10001:10001"]
    last = [line.split()[0] for line in path.read_text().splitlines() if line[:1].isupper()]
    assert last.index("USER") > max(n for n, name in enumerate(last) if name == "RUN")


@each_dockerfile
def test_what_is_run_while_building_exists(path: Path) -> None:
    named = [
        word for words in run_words(path) for word in words if word.startswith((".ci/", "docker/"))
    ]
    assert named
    for word in named:
        assert (ROOT / word).is_file()
        assert word.endswith(".txt") or os.access(ROOT / word, os.X_OK)


@each_dockerfile
def test_the_extras_installed_exist(path: Path) -> None:
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    [words] = [words for words in run_words(path) if words[0] == ".ci/install"]
    assert set(words[1].strip("[]").split(",")) <= set(known)


@each_dockerfile
def test_what_is_taken_from_another_stage_has_one(path: Path) -> None:
    taken = re.findall(r"--mount=from=(\w+)|COPY --from=(\w+)", path.read_text())
    assert {name for pair in taken for name in pair if name} <= stages(path)


def test_what_is_installed_for_detectron2_is_pinned() -> None:
    commit = re.search(r"^commit=(\w+)$", (DOCKER / "build_detectron2").read_text(), re.MULTILINE)
    assert commit is not None
    assert len(commit[1]) == 40
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    assert extras["detectron2"] == [
        f"detectron2 @ git+https://github.com/facebookresearch/detectron2@{commit[1]}"
    ]
    for name in ("cuda_compiler.txt", "detectron2.txt"):
        for line in (DOCKER / name).read_text().splitlines():
            assert line.startswith("#") or re.fullmatch(r"[\w-]+==[\w.]+", line)


def test_the_compiler_is_of_the_cuda_release_of_torch() -> None:
    pins = dict(line.split("==") for line in constraint_lines(ROOT / "constraints.txt"))
    compiler = dict(line.split("==") for line in constraint_lines(DOCKER / "cuda_compiler.txt"))
    release = pins["nvidia-cuda-runtime"].split(".")[:2]
    assert compiler["nvidia-cuda-nvcc"].split(".")[:2] == release


def constraint_lines(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if "==" in line and line[0] != "#"]


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
@pytest.mark.parametrize(
    "name", ["docker/build_detectron2", ".ci/install", ".ci/run", ".ci/python"]
)
def test_shellcheck_has_nothing_to_say(name: str) -> None:
    said = subprocess.run(["shellcheck", ROOT / name], capture_output=True, text=True)
    assert (said.returncode, said.stdout) == (0, "")


def test_nothing_is_published_beyond_loopback() -> None:
    published = [port for service in services().values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_what_publishes_nothing_has_no_way_in_or_out() -> None:
    assert compose()["networks"]["inside"] == {"internal": True}
    for service in services().values():
        assert "network_mode" not in service
        assert service["networks"] == (["inside", "outside"] if "ports" in service else ["inside"])


def test_images_of_others_are_pinned_by_digest() -> None:
    others = {name: each for name, each in services().items() if name not in of_ours()}
    assert set(others) == {"postgres", "store"}
    for service in others.values():
        assert re.fullmatch(r"[\w./-]+:[\w.-]+@sha256:[0-9a-f]{64}", service["image"])


def test_images_of_ours_are_built_here() -> None:
    built = {
        service["image"]: service["build"] for service in of_ours().values() if "build" in service
    }
    assert set(built) == {service["image"] for service in of_ours().values()}
    for build in built.values():
        context = (DOCKER / build["context"]).resolve()
        assert context == ROOT
        assert (context / build["dockerfile"]).is_file()


@pytest.mark.parametrize("name", of_ours())
def test_our_containers_may_do_no_more_than_they_must(name: str) -> None:
    service = of_ours()[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service


def test_secrets_come_from_the_environment_and_nothing_starts_without_them() -> None:
    for service in services().values():
        for name, value in service.get("environment", {}).items():
            if SECRET.search(name):
                assert re.search(r"\$\{\w+:\?[^}]+\}", value), name
    assert not [name for name, kind in variables().items() if SECRET.search(name) and kind != "?"]


def test_the_example_names_every_variable_and_keeps_no_secret() -> None:
    lines = EXAMPLE.read_text().splitlines()
    named = dict(re.findall(r"^#?([A-Z_]+)=(.*)$", "\n".join(lines), flags=re.MULTILINE))
    assert set(named) == set(variables())
    for name, kind in variables().items():
        assert (named[name] == "") is (kind == "?")
        assert (f"{name}=" in lines) is (kind == "?")


def test_the_filled_in_copy_reaches_neither_git_nor_an_image() -> None:
    assert "docker/.env" in (ROOT / ".gitignore").read_text().splitlines()
    assert "**/.env" in (ROOT / ".dockerignore").read_text().splitlines()


def test_volumes_used_are_named_and_those_named_are_used() -> None:
    mounted = [mount.split(":")[0] for each in services().values() for mount in each["volumes"]]
    named = {name for name in mounted if not name.startswith(("$", ".", "/"))}
    assert named == set(compose()["volumes"])


@pytest.mark.parametrize("name", services())
def test_every_service_is_looked_after(name: str) -> None:
    check = services()[name]["healthcheck"]
    assert check["test"][0] == "CMD"
    assert {"interval", "timeout", "retries"} <= set(check)
    assert services()[name]["restart"] == "unless-stopped"


def test_who_needs_another_waits_for_its_health() -> None:
    for service in services().values():
        for needed, how in service.get("depends_on", {}).items():
            assert how == {"condition": "service_healthy"}
            assert "profiles" not in services()[needed]


@pytest.mark.parametrize("name", of_ours())
def test_the_command_line_takes_the_commands(name: str) -> None:
    words = [filled(str(word), {}) for word in of_ours()[name]["command"]]
    commands: Any = typer.main.get_command(app)
    context = commands.commands[words[0]].make_context(words[0], words[1:])
    assert context.params


def test_the_worker_with_a_gpu_differs_in_nothing_else() -> None:
    cpu, gpu = services()["worker"], dict(services()["worker-gpu"])
    [device] = gpu.pop("deploy")["resources"]["reservations"]["devices"]
    assert device["driver"] == "nvidia"
    assert device["capabilities"] == ["gpu"]
    own = ("profiles", "image", "build")
    assert {key: cpu[key] for key in cpu if key not in own} == {
        key: gpu[key] for key in gpu if key not in own
    }


@each_dockerfile
def test_volumes_are_mounted_where_the_image_has_a_folder_of_its_user(path: Path) -> None:
    """Docker gives a new volume the owner of the folder below it; without one it is root's."""
    [made] = [words for words in run_words(path) if words[:2] == ["install", "-d"]]
    mounts = [mount.split(":") for service in of_ours().values() for mount in service["volumes"]]
    assert made[2:6] == ["-o", "oscar", "-g", "oscar"]
    assert {parts[1] for parts in mounts if not parts[0].startswith("$")} <= set(made[6:])
