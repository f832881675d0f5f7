"""What `oscar-flow deploy` serves, `prefect.yaml` describes, and work pools are made of."""

import fcntl
import inspect
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import prefect.server.api
import pytest
import yaml
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.flows import load_flow_from_entrypoint
from prefect.logging import disable_run_logger
from prefect.server.schemas.actions import WorkPoolCreate as ServersWorkPoolCreate

from flows.commands import served
from flows.errors import ConfigError
from flows.orchestration.deployments import Served, deployments_of, local_timezone
from flows.orchestration.retraining import UPDATED, run_resource
from flows.retrain import is_busy
from flows.run_folder import RunFolder, locked
from tests.builders_flows import PYTHON, ROOT, until
from tests.command_line import oscar_child
from tests.prefect_server import ask, plain_environment

POOLS = ROOT / "docker" / "work-pools"
KINDS = ("process", "docker", "kubernetes")
NEWER = {"container_create_kwargs"}
"""Of prefect-docker 0.6 and later, not yet among what Prefect ships."""
CONFIG = """
data: {root: ROOT, images: [{path: photos}]}
train_detector: {preset: demo}
"""


def make_served(out: Path, **times: Any) -> Served:
    return Served(config="demo.yaml", out=out, settings=("seed=3",), **times)


def deployments(what: Served) -> list[Any]:
    return deployments_of(what, check=served.check, retrain=served.retrain, run=served.run)


def test_a_run_has_three_deployments_and_one_flow_run_at_a_time(tmp_path: Path) -> None:
    found = deployments(make_served(tmp_path / "scenes", every=60))
    names = [f"{each.flow_name}/{each.name}" for each in found]
    assert names == ["oscar-check/scenes", "oscar-retrain/scenes", "oscar-run/scenes"]
    for each in found:
        assert each.concurrency_limit == 1
        assert each.concurrency_options.collision_strategy == "CANCEL_NEW"
        assert each.parameters["settings"] == ["seed=3"]
        flow = load_flow_from_entrypoint(each.entrypoint)
        assert set(each.parameters) <= set(inspect.signature(flow.fn).parameters)
    assert [bool(each.schedules) for each in found] == [True, False, False]


def test_only_news_of_its_own_data_start_a_retraining(tmp_path: Path) -> None:
    _, retrain, _ = deployments(make_served(tmp_path / "scenes"))
    (trigger,) = retrain.triggers
    assert trigger.expect == {UPDATED}
    assert trigger.match.root == {"prefect.resource.id": run_resource(tmp_path / "scenes")}
    assert run_resource(tmp_path / "other" / "scenes") != run_resource(tmp_path / "scenes")


def test_times_are_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Shanghai")
    check, _, _ = deployments(make_served(tmp_path, cron="0 3 * * *"))
    assert check.schedules[0].schedule.timezone == "Asia/Shanghai"
    monkeypatch.delenv("TZ")
    assert local_timezone()


@pytest.mark.parametrize(
    ("times", "said"),
    [
        ({"cron": "0 3 * * *", "every": 60.0}, "--cron and --every: give one of them"),
        ({"cron": "at three"}, "no such time"),
    ],
)
def test_times_that_are_none_are_one_line(tmp_path: Path, times: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as error:
        deployments(make_served(tmp_path, **times))
    assert "\n" not in str(error.value)


def test_mistakes_are_told_at_the_start(tmp_path: Path) -> None:
    wrong = oscar_child(["deploy", "demo.yaml", "--set", "sed=3", "--out", str(tmp_path / "a")])
    assert (wrong.status, wrong.err.count("\n")) == (2, 1)
    assert "did you mean 'seed'?" in wrong.err
    nobody = oscar_child(["deploy", "demo.yaml", "--every", "60", "--out", str(tmp_path / "a")])
    assert nobody.status == 2
    assert nobody.err.startswith("error: no Prefect server: start one with oscar-flow server")


def test_a_run_folder_is_busy_while_somebody_writes_it(tmp_path: Path) -> None:
    assert not is_busy(tmp_path)
    with locked(RunFolder(tmp_path)):
        assert is_busy(tmp_path)
    assert not is_busy(tmp_path)
    (tmp_path / ".lock").write_text("process 1 (killed)")
    assert not is_busy(tmp_path)


def test_who_asks_whether_a_run_folder_is_busy_is_in_nobodys_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def taken(*_: object) -> None:
        raise AssertionError("a start at this moment would be refused")

    with locked(RunFolder(tmp_path)):
        written = (tmp_path / ".lock").read_text()
        monkeypatch.setattr(fcntl, "flock", taken)
        assert is_busy(tmp_path)
    (tmp_path / ".lock").write_text(written.replace(f"process {os.getpid()}", f"process {2**22}"))
    assert not is_busy(tmp_path)


def test_what_the_disk_refuses_is_one_line_in_the_page(tmp_path: Path) -> None:
    config = tmp_path / "scenes.yaml"
    config.write_text(CONFIG.replace("ROOT", str(tmp_path)))
    (tmp_path / "photos").mkdir()
    (tmp_path / "file").write_text("where a folder should be")
    for body in (served.check, served.retrain, served.run):
        with disable_run_logger():
            ended = body.fn(str(config), str(tmp_path / "file" / "run"), [])
        assert ended.name == "Failed"
        assert ended.message is not None
        assert ended.message.startswith(f"{tmp_path}/file")
        assert "Not a directory" in ended.message


@pytest.mark.parametrize("kind", KINDS)
def test_a_work_pool_can_be_made_of_each_template(kind: str) -> None:
    template = json.loads((POOLS / f"{kind}.json").read_text())
    ServersWorkPoolCreate(name=kind, type=kind, base_job_template=template)
    broken = json.loads(json.dumps(template))
    broken["job_configuration"]["labels"] = "{{ no_such_variable }}"
    with pytest.raises(ValueError, match="no_such_variable"):
        ServersWorkPoolCreate(name=kind, type=kind, base_job_template=broken)
    assert WorkPoolCreate(name=kind, type=kind, base_job_template=template)


@pytest.mark.parametrize("kind", KINDS)
def test_templates_have_only_what_such_a_worker_knows(kind: str) -> None:
    template = json.loads((POOLS / f"{kind}.json").read_text())
    known = _shipped(kind)
    assert set(template["job_configuration"]) <= set(known["job_configuration"]) | NEWER


def test_containers_run_the_flow_and_not_the_images_own_command() -> None:
    docker = json.loads((POOLS / "docker.json").read_text())["variables"]["properties"]
    assert docker["container_create_kwargs"]["default"]["entrypoint"] == ["/usr/bin/env"]
    manifest = json.loads((POOLS / "kubernetes.json").read_text())["job_configuration"]
    pod = manifest["job_manifest"]["spec"]["template"]["spec"]
    assert pod["containers"][0]["command"] == ["/usr/bin/env"]
    assert pod["securityContext"]["runAsNonRoot"] is True


def test_what_prefect_yaml_names_is_there() -> None:
    content = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    found = content["deployments"]
    assert len(found) == 3
    for each in found:
        flow = load_flow_from_entrypoint(each["entrypoint"])
        assert set(each["parameters"]) <= set(inspect.signature(flow.fn).parameters)
        assert each["concurrency_limit"] == {"limit": 1, "collision_strategy": "CANCEL_NEW"}
    (schedule,) = found[0]["schedules"]
    looks, _, _ = deployments(make_served(Path("/runs/demo"), cron=schedule["cron"]))
    assert found[0]["parameters"]["late_after"] == looks.parameters["late_after"]
    (trigger,) = found[1]["triggers"]
    assert trigger["expect"] == [UPDATED]
    assert trigger["match"] == {"prefect.resource.name": Path(found[0]["parameters"]["out"]).name}


@pytest.mark.prefect
def test_deploy_looks_at_once_and_ends_when_told(server: str, tmp_path: Path) -> None:
    """The photos are not there: the look fails in one line, and the next would look again."""
    config = tmp_path / "scenes.yaml"
    config.write_text(CONFIG.replace("ROOT", str(tmp_path)))
    name = f"scenes-{os.getpid()}"
    with _deploying(server, config, tmp_path / name) as process:
        until(lambda: bool(_looks(server, name)), seconds=150)
        (looked,) = _looks(server, name)[:1]
        process.send_signal(signal.SIGTERM)
        told, _ = process.communicate(timeout=40)
    assert looked["state_name"] == "Failed"
    assert looked["state"]["message"] == (
        f"{tmp_path}/photos: no such file or folder (data.images.0.path); "
        "set data.root to where the data lies"
    )
    assert process.returncode == 0, told
    assert told.endswith("stopped serving; what is finished stays\n")
    again = tmp_path / "elsewhere" / name
    with _deploying(server, config, again) as process:
        told, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert f"is served from {tmp_path / name} already; choose another name" in told


def _looks(server: str, name: str) -> list[dict[str, Any]]:
    found = ask(
        server,
        "flow_runs",
        {"deployments": {"name": {"any_": [name]}}, "flows": {"name": {"any_": ["oscar-check"]}}},
    )
    return [each for each in found if each["state_type"] in ("COMPLETED", "FAILED", "CRASHED")]


@contextmanager
def _deploying(server: str, config: Path, out: Path) -> Iterator["subprocess.Popen[str]"]:
    command = [PYTHON, "-W", "ignore", "-m", "flows", "deploy", str(config), "--every", "3600"]
    process = subprocess.Popen(
        [*command, "--out", str(out)],
        env=plain_environment(PREFECT_API_URL=server, PREFECT_HOME=str(out.parent / ".prefect")),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def _shipped(kind: str) -> dict[str, Any]:
    """The template that Prefect ships for a kind of worker."""
    place = Path(prefect.server.api.__file__).parent / "collections_data" / "views"
    packages = json.loads((place / "aggregate-worker-metadata.json").read_text())
    for workers in packages.values():
        if kind in workers:
            template: dict[str, Any] = workers[kind]["default_base_job_configuration"]
            return template
    raise AssertionError(f"Prefect ships no template for {kind}")
