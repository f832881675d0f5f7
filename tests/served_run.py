"""A run over a folder of photos that `oscar-flow deploy` serves, and what Prefect says of it."""

import json
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any
from urllib.request import Request, urlopen

import yaml

from flows.demo.write import write_demo
from tests.builders_flows import PYTHON, until
from tests.prefect_server import ask, plain_environment

VQA = (
    "annotations/v2_OpenEnded_scenes_{0}_questions.json",
    "annotations/v2_scenes_{0}_annotations.json",
)
GENOME = "annotations/visual_genome/train"
CONFIG = """
seed: 1
data:
  images:
  - {path: images/train, namespace: scenes}
  - {path: images/test, namespace: scenes}
train_detector:
  preset: demo
  training:
    num_steps: 4
    images_per_step: 2
    optimiser: adamw
    learning_rate: 3.0e-3
    checkpoint_every: 2
    frozen_stages: 0
    crop_warmup: {num_steps: 2}
detect: {rows_per_shard: 4, batch_size: 4}
translate_tags: {domain: rendered_scenes}
encoder:
  hidden_size: 32
  num_layers: 1
  num_heads: 2
  intermediate_size: 64
  max_positions: 64
tasks:
  vqa:
    controls: [shuffled]
    settings:
      view: {max_regions: 8, min_confidence: 0.2}
      max_text: 40
      loss: cross_entropy
    training:
      steps: 20
      batch_size: 8
      learning_rate: 0.002
      standardise_regions: true
      checkpoint_every: 10
"""


class ServedRun:
    """Data, configuration, folder of the run, and its deployments on a server.

    Args:
        folder: a new one for all of it.
        api: address of the server's API.
        every: seconds between looks for new data.
    """

    def __init__(self, folder: Path, api: str, *, every: float) -> None:
        self.folder = folder
        self.api = api
        self.every = every
        self.data = folder / "data"
        self.config = folder / "scenes.yaml"
        self.out = folder / "scenes"
        self.log = folder / "deploy.txt"

    def prepare(self, *, num_train: int, num_reserve: int, num_test: int) -> None:
        """Draw the photos; some are kept back, to arrive later. Their annotations are there."""
        total = num_train + num_reserve
        write_demo(self.data, seed=3, num_train=total, num_val=1, num_test=num_test, workers=1)
        self._reserve.mkdir()
        for photo in sorted(self._photos.iterdir())[num_train:]:
            photo.rename(self._reserve / photo.name)
        self.configure({})

    def configure(self, changes: Mapping[str, Any]) -> None:
        """Write the configuration anew, with top level sections laid over it."""
        content = yaml.safe_load(CONFIG)
        content["data"] |= {"root": str(self.data), "sources": list(_sources())}
        self.config.write_text(yaml.safe_dump({**content, **changes}, sort_keys=False))

    def photos_arrive(self, number: int) -> None:
        """Move photos from the reserve to where the run finds them."""
        for photo in sorted(self._reserve.iterdir())[:number]:
            photo.rename(self._photos / photo.name)

    def photo_leaves(self) -> None:
        """Delete the first photo."""
        min(self._photos.iterdir()).unlink()

    @contextmanager
    def deployed(self) -> Iterator[None]:
        """`oscar-flow deploy`, until the end of the block."""
        with open(self.log, "a") as log:
            process = self._start(log)
            try:
                yield
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(timeout=60)

    def say(self, *arguments: str) -> str:
        """What a command of `oscar-flow` prints."""
        command = [PYTHON, "-W", "ignore", "-m", "flows", *arguments]
        told = subprocess.run(
            command, env=self._environment(), cwd=self.folder, capture_output=True, text=True
        )
        return (told.stdout + told.stderr).rstrip()

    def flow_runs(self, *kinds: str, after: datetime | None = None) -> list[dict[str, Any]]:
        """Flow runs of the kinds `check`, `retrain`, `run` that began after a moment, by time."""
        names = [f"oscar-{kind}" for kind in kinds]
        found = ask(
            self.api, "flow_runs", {"flows": {"name": {"any_": names}}, "sort": "START_TIME_ASC"}
        )
        begun = [each for each in found if each["start_time"]]
        return [each for each in begun if after is None or _moment(each["start_time"]) > after]

    def ended(
        self, kind: str, number: int, *, after: datetime, seconds: float = 400
    ) -> list[dict[str, Any]]:
        """Wait until so many flow runs that began after a moment are over."""

        def over() -> list[dict[str, Any]]:
            runs = self.flow_runs(kind, after=after)
            return [each for each in runs if each["state_type"] not in ("PENDING", "RUNNING")]

        until(lambda: len(over()) >= number, seconds=seconds)
        return over()

    def quiet_looks(self, number: int) -> list[str]:
        """Wait for so many looks from now on that did look; what each said."""
        now, said = datetime.now(UTC), list[str]()

        def enough() -> bool:
            runs = self.flow_runs("check", after=now)
            over = [each for each in runs if each["state_type"] == "COMPLETED"]
            messages = [str(each["state"]["message"]) for each in over]
            said[:] = [each for each in messages if not each.startswith("skipped")]
            return len(said) >= number

        until(enough, seconds=120 + 6 * number * self.every)
        return said[:number]

    def decided(self, version: str, seconds: float = 500) -> str:
        """Wait until a retraining decided about a version; what it said."""
        said = list[str]()

        def is_decided() -> bool:
            messages = [str(each["state"]["message"]) for each in self.flow_runs("retrain")]
            said[:] = [each for each in messages if each.startswith(f"version {version} ")]
            return bool(said)

        until(is_decided, seconds=seconds)
        return said[-1]

    def start_by_hand(self, kind: str) -> str:
        """The button `Run` of a deployment's page; id of the flow run."""
        name = f"oscar-{kind}/{self.out.name}"
        found = _get(f"{self.api}/deployments/name/{name}")
        made = _post(f"{self.api}/deployments/{found['id']}/create_flow_run", {})
        return str(made["id"])

    def pause(self, *, is_paused: bool) -> None:
        """The switch of the schedule on a deployment's page."""
        found = _get(f"{self.api}/deployments/name/oscar-check/{self.out.name}")
        word = "pause_deployment" if is_paused else "resume_deployment"
        _post(f"{self.api}/deployments/{found['id']}/{word}", None)

    def retry(self, flow_run: str) -> None:
        """The button `Retry` of a flow run's page, by the request that it sends."""
        state = {
            "type": "SCHEDULED",
            "name": "AwaitingRetry",
            "message": "Retry from the UI",
            "state_details": {"scheduled_time": datetime.now(UTC).isoformat()},
        }
        _post(f"{self.api}/flow_runs/{flow_run}/set_state", {"state": state, "force": True})

    def over(self, flow_run: str, seconds: float = 400) -> dict[str, Any]:
        """Wait for the end of a flow run; what became of it."""
        until(lambda: _is_over(_get(f"{self.api}/flow_runs/{flow_run}")), seconds=seconds)
        return _get(f"{self.api}/flow_runs/{flow_run}")

    def steps_of(self, flow_run: str) -> list[dict[str, str]]:
        """Of each run of the plan inside a flow run: step -> state, oldest first."""
        inner = ask(
            self.api,
            "flow_runs",
            {
                "flow_runs": {"parent_flow_run_id": {"any_": [flow_run]}},
                "sort": "START_TIME_ASC",
            },
        )
        return [
            {
                str(each["name"]): str(each["state_name"])
                for each in ask(
                    self.api, "task_runs", {"flow_runs": {"id": {"any_": [str(run["id"])]}}}
                )
            }
            for run in inner
        ]

    def summary(self, step: str) -> dict[str, Any]:
        """What the latest folder of a step says of its work."""
        folder = json.loads((self.out / "steps.json").read_text())[step]
        mark = json.loads((self.out / folder / "DONE.json").read_text())
        summary: dict[str, Any] = mark["summary"]
        return summary

    @property
    def _photos(self) -> Path:
        return self.data / "images" / "train"

    @property
    def _reserve(self) -> Path:
        return self.data / "reserve"

    def _start(self, log: IO[str]) -> "subprocess.Popen[str]":
        command = [PYTHON, "-W", "ignore", "-m", "flows", "deploy", str(self.config)]
        return subprocess.Popen(
            [*command, "--every", f"{self.every:g}", "--out", str(self.out)],
            env=self._environment(),
            cwd=self.folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def _environment(self) -> dict[str, str]:
        return plain_environment(
            PREFECT_API_URL=self.api, OMP_NUM_THREADS="1", NO_COLOR="1", COLUMNS="120"
        ) | {"PREFECT_HOME": str(self.folder / ".prefect")}


def _sources() -> Iterator[dict[str, str]]:
    for split in ("train", "test"):
        questions, annotations = (name.format(split) for name in VQA)
        yield {
            "reader": "vqa_v2",
            "questions": questions,
            "annotations": annotations,
            "namespace": "scenes",
            "split": split,
            "language": "zh",
        }
    files = {name: f"{GENOME}/{name}.json" for name in ("objects", "attributes", "image_data")}
    yield {"reader": "visual_genome", **files, "namespace": "scenes", "split": "train"}


def _is_over(flow_run: Mapping[str, Any]) -> bool:
    return flow_run["state_type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _get(address: str) -> dict[str, Any]:
    with urlopen(address, timeout=20) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def _post(address: str, content: object) -> dict[str, Any]:
    request = Request(
        address,
        data=b"" if content is None else json.dumps(content).encode(),
        headers={"Content-Type": "application/json"},
        method="POST",
    )
    with urlopen(request, timeout=20) as answer:
        text = answer.read()
    made: dict[str, Any] = json.loads(text) if text else {}
    return made
