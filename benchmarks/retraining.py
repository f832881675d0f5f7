"""Shows scheduled retraining: PostgreSQL, server, deployment, new photos, gate, rollback, Retry.

python -m benchmarks retraining [--keep FOLDER] [--every SECONDS]
Prints a transcript; the last line counts what was seen, exit status 1 where something was not.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.postgres import postgres
from tests.prefect_server import serving
from tests.served_run import ServedRun

METRIC = "vqa.accuracy"
NUM_TRAIN, NUM_RESERVE, NUM_TEST = 20, 12, 8
FAILING_STEP = "vqa_train"


class Transcript:
    """Prints what happens, and counts what was expected and seen."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self.num_seen = 0
        self.num_expected = 0

    def part(self, title: str) -> None:
        """A heading."""
        print(f"\n== {title}", flush=True)

    def tell(self, text: str) -> None:
        """What happened, with the time since the start."""
        for line in text.splitlines():
            print(f"{time.monotonic() - self._began:6.0f} s  {line}", flush=True)

    def expect(self, text: str, is_so: bool) -> None:
        """Something that must be so."""
        self.num_expected += 1
        self.num_seen += is_so
        print(f"          {'ok    ' if is_so else 'NOT SO'}  {text}", flush=True)


def main(arguments: Sequence[str]) -> int:
    """Run all of it in a folder of its own."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks retraining")
    parser.add_argument("--keep", type=Path, help="leave everything in this new folder")
    parser.add_argument("--every", type=float, default=30.0, help="seconds between looks")
    chosen = parser.parse_args(arguments)
    transcript = Transcript()
    with tempfile.TemporaryDirectory(prefix="retraining-") as place:
        folder = chosen.keep or Path(place)
        with (
            postgres(folder / "postgres") as database,
            serving(folder / ".prefect", "--db", database.url) as api,
        ):
            transcript.tell(f"PostgreSQL on port {database.port}, oscar-flow server at {api}")
            run = ServedRun(folder, api, every=chosen.every)
            run.prepare(num_train=NUM_TRAIN, num_reserve=NUM_RESERVE, num_test=NUM_TEST)
            _shown(run, transcript)
    print(f"\nretraining: {transcript.num_expected} expected, {transcript.num_seen} seen")
    return 0 if transcript.num_seen == transcript.num_expected else 1


def _shown(run: ServedRun, transcript: Transcript) -> None:
    run.configure({"retrain": {"gate": {METRIC: {"at_least": 0.0}}}})
    transcript.tell(f"oscar-flow deploy {run.config.name} --every {run.every:g}")
    with run.deployed():
        parts: list[Callable[[ServedRun, Transcript], None]] = [
            first_version,
            nothing_new,
            new_photos,
            held_back,
            quiet_again,
            failed_and_retried,
        ]
        for part in parts:
            part(run, transcript)
    back(run, transcript)


def first_version(run: ServedRun, transcript: Transcript) -> None:
    """The first look finds no version, which counts as new data."""
    transcript.part("the first look: there is no version yet")
    transcript.tell(run.decided("0001"))
    for said in _messages(run, "check")[:1]:
        transcript.expect(f"check said: {said}", said.startswith("no version yet"))
    transcript.expect(f"{_num_photos()} photos extracted", _computed(run) == (_num_photos(), 0))
    _wait_for_rest(run)


def nothing_new(run: ServedRun, transcript: Transcript) -> None:
    """Three looks at the same data."""
    transcript.part("three looks without new data")
    before, folders = len(_trained(run)), _folders(run)
    for said in run.quiet_looks(3):
        transcript.tell(f"check: {said}")
        transcript.expect("no new data", said.startswith("no new data since version 0001"))
    transcript.expect("no retraining was started", len(_trained(run)) == before)
    transcript.expect("no step ran", _folders(run) == folders)


def new_photos(run: ServedRun, transcript: Transcript) -> None:
    """Photos arrive, the gate holds."""
    transcript.part("four photos arrive; the gate asks for nothing that is hard")
    run.photos_arrive(4)
    said = run.decided("0002")
    transcript.tell(f"retrain: {said}")
    transcript.expect("promoted", said.startswith("version 0002 promoted"))
    asked = [each for each in _messages(run, "check") if "4 photos added" in each]
    transcript.expect(f"check said: {(asked or ['nothing'])[0]}", bool(asked))
    started = _trained(run)[-1]
    by_event = str(started["parameters"]["reason"])
    transcript.expect(f"started by the event: {by_event}", "4 photos added" in by_event)
    _expect_extracted(run, transcript, computed=4, reused=_num_photos())
    transcript.expect("0002 is current", _current(run) == "0002")
    _wait_for_rest(run)


def held_back(run: ServedRun, transcript: Transcript) -> None:
    """Photos arrive and one leaves, the gate does not hold."""
    transcript.part("the gate is raised in the file; four photos arrive, one is deleted")
    run.configure({"retrain": {"gate": {METRIC: {"at_least": 0.99}}}})
    run.photos_arrive(4)
    run.photo_leaves()
    said = run.decided("0003")
    transcript.tell(f"retrain: {said}")
    transcript.expect("kept aside", said.startswith("version 0003 kept aside, version 0002 stays"))
    summary = run.summary("detect")
    transcript.expect("the deleted photo left", summary["num_in"] == _num_photos() + 7)
    transcript.expect("0002 is current still", _current(run) == "0002")
    _wait_for_rest(run)


def quiet_again(run: ServedRun, transcript: Transcript) -> None:
    """What was judged is not judged again."""
    transcript.part("a look after that")
    before = len(_trained(run))
    (said,) = run.quiet_looks(1)
    transcript.tell(f"check: {said}")
    transcript.expect("no new data", said.startswith("no new data since version 0003"))
    transcript.expect("no retraining was started", len(_trained(run)) == before)


def failed_and_retried(run: ServedRun, transcript: Transcript) -> None:
    """A stage fails over a broken file, the file is mended, Retry is pressed."""
    transcript.part("a stage fails; Retry in Prefect's page goes on from what is finished")
    run.pause(is_paused=True)
    vocabulary = run.folder / "vocab.txt"
    vocabulary.write_text("")
    gate = {METRIC: {"at_least": 0.0}}
    run.configure({"retrain": {"gate": gate}, "vocabulary": str(vocabulary)})
    run.photos_arrive(2)
    flow_run = run.start_by_hand("retrain")
    ended = run.over(flow_run)
    transcript.tell(f"retrain: {ended['state_name']}: {ended['state']['message']}")
    transcript.expect("failed in one line", ended["state_name"] == "Failed")
    steps = run.steps_of(flow_run)
    transcript.expect(f"{FAILING_STEP} failed", steps[-1].get(FAILING_STEP) == "Failed")
    done = {name for name, state in steps[-1].items() if state == "Completed"}
    vocabulary.write_text(_vocabulary(run))
    transcript.tell("the file is mended, Retry is pressed")
    run.retry(flow_run)
    ended = run.over(flow_run)
    transcript.tell(f"retrain: {ended['state_name']}: {ended['state']['message']}")
    transcript.expect("completed", ended["state_name"] == "Completed")
    again = run.steps_of(flow_run)[-1]
    skipped = {name for name, state in again.items() if state == "AlreadyDone"}
    transcript.expect(f"skipped: {', '.join(sorted(skipped))}", bool(done) and done <= skipped)
    transcript.expect("0004 is current", _current(run) == "0004")


def back(run: ServedRun, transcript: Transcript) -> None:
    """Rollback and promotion by hand; needs no server."""
    transcript.part("versions, rollback")
    run_name = run.out.name
    for command in (
        ("models", "list", run_name),
        ("models", "rollback", run_name),
        ("models", "rollback", run_name),
        ("models", "promote", run_name, "3"),
        ("models", "list", run_name),
    ):
        transcript.tell(f"$ oscar-flow {' '.join(command)}")
        transcript.tell(run.say(*command))
    transcript.expect("0003 is current", _current(run) == "0003")
    transcript.tell("$ oscar-flow models rollback scenes")
    transcript.tell(run.say("models", "rollback", run_name))
    transcript.expect("0001 is current", _current(run) == "0001")


def _expect_extracted(
    run: ServedRun, transcript: Transcript, *, computed: int, reused: int
) -> None:
    found = _computed(run)
    transcript.expect(
        f"extracted {found[0]} photos, took over {found[1]}", found == (computed, reused)
    )


def _computed(run: ServedRun) -> tuple[int, int]:
    summary = run.summary("detect")
    return int(summary["num_computed"]), int(summary["num_reused"])


def _num_photos() -> int:
    return NUM_TRAIN + NUM_TEST


def _messages(run: ServedRun, kind: str) -> list[str]:
    runs = run.flow_runs(kind)
    return [str(each["state"]["message"]) for each in runs if each["state_type"] == "COMPLETED"]


def _trained(run: ServedRun) -> list[dict[str, object]]:
    """Retrainings that found something to do."""
    runs = run.flow_runs("retrain")
    return [each for each in runs if "no new data" not in str(each["state"]["message"])]


def _folders(run: ServedRun) -> set[str]:
    return {path.parent.name for path in run.out.glob("*/DONE.json")}


def _current(run: ServedRun) -> str:
    return (run.out / "models" / "current").resolve().name


def _wait_for_rest(run: ServedRun) -> None:
    """Until no retraining is on its way that an overlapping look started."""
    run.quiet_looks(1)
    run.ended("retrain", len(run.flow_runs("retrain")), after=datetime.fromtimestamp(0, UTC))


def _vocabulary(run: ServedRun) -> str:
    """The one that the current version learned by."""
    return (run.out / "models" / "current" / FAILING_STEP / "vocab.txt").read_text()
